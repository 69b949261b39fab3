"""`harstream config`: the settings of `harstream run`, shown and checked without running it."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import click

from harstream import config as configs
from harstream.cli.run import Given, run, settings


@click.group()
def config() -> None:
    """Show or check the settings of `harstream run`: the same flags, variables and file."""


@config.command()
@settings
@click.pass_context
def show(ctx: click.Context, /, **_: Any) -> None:
    """Print every setting with what it does, its value, and where that came from, as a TOML file."""
    given = Given.of(ctx)
    in_file, effective = given.of_file(), given.read()
    texts = {option.name: option.help or "" for option in run.params if isinstance(option, click.Option)}
    for key in configs.KEYS:
        origin = given.origins.get(key) or (str(given.file) if key in in_file else "default")
        value = getattr(effective, key)
        for line in textwrap.wrap(texts[key], 96):
            click.echo(f"# {line}")
        if key == "broker" and value is not None:
            value = configs.without_passwords(value)
        click.echo(f"# {key} = " if value is None else f"{key} = {_toml(value)}", nl=False)
        click.echo(f"  # {origin}\n")
    if effective.password is not None:
        click.echo(f"# The password comes from {configs.PASSWORD}.")


@config.command()
@settings
@click.pass_context
def check(ctx: click.Context, /, **_: Any) -> None:
    """Whether `harstream run` would start with these settings: the model loaded and verified, files read.

    The broker is not asked. Exits with 2 or 3, as `harstream run` would.
    """
    from harstream.classifier import load_classifier
    from harstream.embedded import EmbeddedBroker

    effective = Given.of(ctx).read()
    broker = effective.broker_settings
    if broker is not None:
        broker.tls_context()
    else:
        EmbeddedBroker()  # where it is not installed, it says so
    classifier = load_classifier(effective.model, effective.backend)
    where = "the embedded broker" if broker is None else ", ".join(map(str, broker.urls))
    click.echo(f"good: model {classifier.bundle.id} ({classifier.backend}), broker {where}")


def _toml(value: object) -> str:
    """A text's JSON is its TOML too, and so is a number's."""
    return json.dumps(value if isinstance(value, int | float) else str(value), ensure_ascii=False)
