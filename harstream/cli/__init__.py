"""The command line: one module for each command, and the exit codes of errors."""

from __future__ import annotations

import errno
import signal
import sys
from typing import Any

import click

from harstream import __version__
from harstream.cli import (
    bench,
    config,
    data,
    demo,
    evaluate,
    export,
    models,
    probe,
    record,
    replay,
    run,
    simulate,
    train,
    watch,
)
from harstream.cli.options import add_variables
from harstream.errors import BrokerError, BundleError, ConfigError, DatasetError, HarstreamError

#: Exit codes besides 0 for success and 1 for a bug, which also prints a traceback.
EXIT_CODES: dict[type[HarstreamError], int] = {ConfigError: 2, DatasetError: 2, BundleError: 3, BrokerError: 4}


#: Errors of the file system that the operator can mend, and how.
_MENDS = {
    errno.ENOSPC: "make room; finished work is kept, and the same command continues it",
    errno.EDQUOT: "make room; finished work is kept, and the same command continues it",
    errno.EROFS: "choose another place",
    errno.EACCES: "choose another place, or change its permissions",
    errno.EPERM: "choose another place, or change its permissions",
}


class _Group(click.Group):
    """Command group that prints an error of harstream, and one of the file system, as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarstreamError as error:
            click.echo(f"harstream: {error}", err=True)
            sys.exit(EXIT_CODES.get(type(error), 1))
        except OSError as error:
            if error.errno not in _MENDS:
                raise
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"harstream: {where}{error.strerror}: {_MENDS[error.errno]}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:  # where a command does not end in its own way, such as while libraries are imported
            click.echo("\nharstream: interrupted", err=True)
            sys.exit(128 + signal.SIGINT)


@click.group(cls=_Group, context_settings={"auto_envvar_prefix": "HARSTREAM", "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harstream")
def main() -> None:
    """Recognise activities live from the raw IMU streams of many wearables, over MQTT.

    Every option of a COMMAND can also be set by the variable HARSTREAM_<COMMAND>_<OPTION>.
    """


for _command in (
    run.run,
    demo.demo,
    simulate.simulate,
    replay.replay,
    record.record,
    watch.watch,
    probe.probe,
    train.train,
    evaluate.evaluate,
    data.data,
    config.config,
    export.export,
    models.models,
    bench.bench,
):
    main.add_command(_command)
add_variables(main, "HARSTREAM")
