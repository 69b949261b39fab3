"""`harstream data`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from harstream.cli import options
from harstream.cli.progress import ProgressBar
from harstream.errors import ConfigError, DatasetError

_MB = 10**6


@click.group()
def data() -> None:
    """List and fetch public data sets, and look at recordings."""


@data.command("list")
def list_data_sets() -> None:
    """List the kinds of data with their content, subjects, placements, terms and source."""
    from harstream.datasets import WINDOW_KINDS, public

    for data_set in public.SETS.values():
        use = "evaluate only" if data_set.kind in WINDOW_KINDS else "train, evaluate, replay"
        size = "" if data_set.size_mb is None else f" (about {data_set.size_mb} MB)"
        click.echo(f"{data_set.kind}  {data_set.about}")
        click.echo(f"  subjects: {data_set.subjects}; worn at: {', '.join(data_set.placements)}")
        click.echo(f"  terms: {data_set.terms}\n  for: {use}")
        click.echo(f"  source: {data_set.source}\n  archive: {data_set.url}{size}")
    click.echo("csv  your own recordings, one file each in a folder: see `harstream record --help`")
    click.echo("  look at them: harstream data inspect csv:FOLDER; its --help tells which files are understood")
    click.echo("  for: train, evaluate, replay")


@data.command()
@click.argument("what", metavar="KIND:PATH")
@click.option(
    "--window",
    type=click.FloatRange(min=0, min_open=True),
    default=2.56,
    show_default=True,
    help="Seconds of the windows that the recordings are meant for: shorter segments are a doubt.",
)
@options.json_file
def inspect(what: str, window: float, json_path: Path | None) -> None:
    """Say what is understood of recordings, and what is doubtful, before anything is trained on them.

    WHAT is KIND:PATH, such as csv:recordings for a folder of your own csv files, one for each recording.

    Columns are found by name, in any order: t or timestamp; ax, ay, az or acc_x, acc_y, acc_z; gx, gy, gz or gyro_x,
    gyro_y, gyro_z if there is a gyroscope; label, activity or class; subject or user, if it is not told by file or
    folder.

    Units stand behind the name of one axis: t[ms], ax[m/s2], gx[deg/s]. Without one, t is in seconds or a date of
    ISO 8601, accelerations are in what gravity shows (g, m/s2 or mg), and the gyroscope is in rad/s.

    Subjects are what stands before the first _ of a file name, as in anna_walk.csv and anna_2.csv, or folders, if
    every file is in one. Folds are made by subject, so all recordings of one person need one name.
    """
    from harstream import datasets
    from harstream.datasets import inspection

    options.check_writable("--json", json_path)
    found = inspection.inspect(what, datasets.load(what), window)
    click.echo(found.to_text())
    if json_path is not None:
        json_path.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")


@data.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder to save the file in.",
)
@click.option("--url", show_default="the publisher's", help="Address to fetch the file from.")
@click.option("--sha256", metavar="HEX", show_default="that of the known file", help="Expected SHA-256 of the file.")
def download(name: str, out: Path, url: str | None, sha256: str | None) -> None:
    """Fetch a public data set and check that it is complete. The same command continues an interrupted download.

    NAME is a kind that `harstream data list` shows.
    """
    from harstream.datasets import public
    from harstream.datasets.download import download as fetch
    from harstream.datasets.download import sha256_of

    data_set = public.find_set(name)
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConfigError(f"--sha256: {sha256!r} is not 64 hexadecimal digits")
    target = out / data_set.file_name
    if target.exists():
        click.echo(f"{target} is already there")
    else:
        click.echo(f"{url or data_set.url}\n  terms: {data_set.terms}")
        with ProgressBar(" MB", scale=_MB) as bar:

            def show(done: int, total: int | None) -> None:
                bar.update("fetching", done, max(done, total or (data_set.size_mb or 0) * _MB))

            fetch(url or data_set.url, target, show)
    digest = sha256_of(target)
    expected = (sha256 or data_set.sha256 or digest).lower()
    if digest != expected:
        raise DatasetError(
            f"{target}: the SHA-256 is {digest}, expected {expected}; delete the file and fetch it again, "
            "or, if its publisher changed it, accept it with --sha256"
        )
    public.check_archive(data_set, target)
    click.echo(f"{target}: complete, SHA-256 {digest}")
    click.echo(f"next: harstream evaluate --data {name}:{target}")
