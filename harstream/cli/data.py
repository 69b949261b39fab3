"""`harstream data`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from harstream.errors import ConfigError, DatasetError


@click.group()
def data() -> None:
    """List and fetch the public data sets that can be trained on."""


@data.command("list")
def list_() -> None:
    """List the kinds of data, what they are, whose, and how large."""
    from harstream.datasets import WINDOW_KINDS, public

    for found in public.SETS.values():
        use = "evaluate only" if found.kind in WINDOW_KINDS else "train, evaluate, replay"
        click.echo(f"{found.kind}  {found.about}\n  licence: {found.licence}")
        click.echo(f"  for: {use}\n  from: {found.url} (about {found.size_mb} MB)")
    click.echo("csv  your own recordings, a folder with one file each: see `harstream record --help`")
    click.echo("  for: train, evaluate, replay")


@data.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder to save it in.",
)
@click.option("--url", help="Fetch it from here instead of the publisher's address.")
@click.option("--sha256", metavar="HEX", help="What the file's SHA-256 must be, instead of the known one.")
def download(name: str, out: Path, url: str | None, sha256: str | None) -> None:
    """Fetch a public data set and check that it is whole; run again, it goes on where it was interrupted.

    NAME is one of those that `harstream data list` shows.
    """
    from harstream.datasets import public
    from harstream.datasets.download import download as fetch
    from harstream.datasets.download import sha256_of

    wanted = public.find(name)
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConfigError(f"--sha256: {sha256!r} is not 64 hexadecimal digits")
    target = out / wanted.file_name
    if target.exists():
        click.echo(f"{target} is already there")
    else:
        click.echo(f"{url or wanted.url}\n  licence: {wanted.licence}")
        with _Bar(wanted.size_mb * 10**6) as bar:
            fetch(url or wanted.url, target, bar.update)
    found = sha256_of(target)
    expected = (sha256 or wanted.sha256 or found).lower()
    if found != expected:
        raise DatasetError(
            f"{target}: its SHA-256 is {found}, expected {expected}: delete it and fetch it again, "
            f"or, if its publisher changed it, take it with --sha256"
        )
    public.check(wanted, target)
    click.echo(f"{target}: whole, SHA-256 {found}")
    click.echo(f"now: harstream evaluate --data {name}:{target}")


class _Bar:
    """A progress bar in bytes; of ``expected`` ones where the server does not say how many."""

    def __init__(self, expected: int) -> None:
        self._bar = click.progressbar(length=expected, label="fetching", show_pos=True)

    def __enter__(self) -> _Bar:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.render_finish()

    def update(self, done: int, total: int | None) -> None:
        self._bar.length = max(total or self._bar.length or 0, done)
        self._bar.update(done - self._bar.pos)
