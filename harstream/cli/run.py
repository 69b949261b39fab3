"""`harstream run`."""

from __future__ import annotations

import os
from typing import Any

import click

from harstream.cli.run_options import GivenSettings, run_options


@click.command()
@run_options
@click.pass_context
def run(ctx: click.Context, /, **_: Any) -> None:
    """Turn samples on a broker into activity labels on the same broker."""
    from harstream import logs, signals
    from harstream.serve import app

    signals.on_stop(lambda _: os._exit(0))  # nothing has started yet that would need an orderly end
    signals.on_reload(lambda: None)
    given = GivenSettings.from_context(ctx)
    config = given.read()
    logs.set_up(config.log_level, config.log_format)
    app.run(config, read_config=given.read)
