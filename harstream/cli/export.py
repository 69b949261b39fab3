"""`harstream export`."""

from __future__ import annotations

import click

from harstream.cli import options


@click.command()
@click.option("--model", required=True, help="Name or folder of the bundle.", metavar="NAME|DIR")
def export(model: str) -> None:
    """Write the LiteRT files of a bundle again from its model.keras, and seal the bundle."""
    options.need_extra("train", "tensorflow")
    from harstream.train import pipeline

    bundle = pipeline.export_again(model)
    for name, reason in bundle.training["missing"].items():
        click.echo(f"no {name} was written: {reason}")
    click.echo(f"wrote {bundle.path}")
