"""The command line: one thin command per verb, errors mapped to exit codes."""

from __future__ import annotations

import sys
from typing import Any

import click

from harstream import __version__
from harstream.cli import bench, config, data, demo, evaluate, model, publish, record, run, train, watch
from harstream.errors import BrokerError, BundleError, ConfigError, DatasetError, HarstreamError

#: What `harstream` exits with, beside 0 and 1 (a bug, with its traceback).
EXIT_CODES: dict[type[HarstreamError], int] = {ConfigError: 2, DatasetError: 2, BundleError: 3, BrokerError: 4}


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarstreamError as error:
            click.echo(f"harstream: {error}", err=True)
            sys.exit(EXIT_CODES.get(type(error), 1))


@click.group(cls=_Group, context_settings={"auto_envvar_prefix": "HARSTREAM", "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harstream")
def main() -> None:
    """Live activity labels from the raw IMU streams of many wearables, over MQTT.

    Every option of a COMMAND also reads the variable HARSTREAM_<COMMAND>_<OPTION>.
    """


for _command in (
    run.run,
    demo.demo,
    publish.simulate,
    publish.replay,
    record.record,
    watch.watch,
    train.train,
    evaluate.evaluate,
    data.data,
    config.config,
    train.export,
    model.models,
    bench.bench,
):
    main.add_command(_command)
