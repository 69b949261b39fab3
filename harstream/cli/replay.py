"""`harstream replay`."""

from __future__ import annotations

from typing import Any

import click

from harstream.cli import options
from harstream.cli.publishing import publish_sources, publisher_options


@click.command()
@publisher_options
@options.data
@click.option(
    "--recordings",
    show_default="all",
    help="Names of the recordings to publish, separated by commas; a device is called like its recording.",
    metavar="NAMES",
)
def replay(data: str, recordings: str | None, **publishing: Any) -> None:
    """Publish recorded sessions as live devices, one device for each recording."""
    from harstream import datasets
    from harstream.errors import DatasetError
    from harstream.replay import RecordedSource

    by_name = {recording.name: recording for recording in datasets.load(data)}
    names = recordings.split(",") if recordings else list(by_name)
    for name in names:
        if name not in by_name:
            raise DatasetError(f"{data}: no recording is called {name!r}; the first one is {next(iter(by_name))!r}")
    publish_sources([RecordedSource(by_name[name]) for name in names], **publishing)
