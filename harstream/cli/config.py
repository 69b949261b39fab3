"""`harstream config`: show and check the settings of `harstream run` without running it."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import click

from harstream.cli.run_options import GivenSettings, run_options
from harstream.config import OPTIONS, hide_passwords
from harstream.wire.fields import Fields


@click.group()
def config() -> None:
    """Show or check the settings of `harstream run`: the same flags, variables and file."""


@config.command()
@run_options
@click.pass_context
def show(ctx: click.Context, /, **_: Any) -> None:
    """Print every setting with its meaning, its value and the origin of the value, as a TOML file."""
    given = GivenSettings.from_context(ctx)
    in_file, effective = given.read_file(), given.read()
    for option in OPTIONS.values():
        value = getattr(effective, option.name)
        origin = given.origins.get(option.name)
        if option.environment_only:
            if value is not None:
                click.echo(f"# The {option.name} comes from {origin}.\n")
            continue
        if origin is None:
            origin = str(given.file) if option.name in in_file else "default"
        if value is None and option.default_text:
            origin = f"{origin}: {option.default_text}"
        if option.secret and value is not None:
            value = hide_passwords(value)
        for line in textwrap.wrap(option.help, 96):
            click.echo(f"# {line}")
        click.echo(f"# {option.name} = " if value is None else f"{option.name} = {_toml(value)}", nl=False)
        click.echo(f"  # {origin}\n")


@config.command()
@run_options
@click.pass_context
def check(ctx: click.Context, /, **_: Any) -> None:
    """Check that `harstream run` would start with these settings: load and verify the model, read the files.

    No connection to the broker is made. The exit code is that of `harstream run`, such as 2 or 3.
    """
    from harstream import trial
    from harstream.embedded import EmbeddedBroker

    effective = GivenSettings.from_context(ctx).read()
    broker = effective.read_broker_settings()
    if broker is not None:
        broker.tls_context()
    else:
        EmbeddedBroker()  # raises ConfigError if it is not installed
    classifier = trial.load(effective.model, effective.backend)
    where = "the embedded broker" if broker is None else ", ".join(map(str, broker.urls))
    click.echo(f"good: model {classifier.bundle.id} ({classifier.backend}), broker {where}")


def _toml(value: object) -> str:
    """Return the TOML of a truth value, a number, a text, a path or a table."""
    if isinstance(value, Fields):
        return value.to_toml()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)  # TOML's basic strings have the escapes of JSON
