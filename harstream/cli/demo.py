"""`harstream demo`."""

from __future__ import annotations

import click

from harstream.bundle import DEFAULT_MODEL
from harstream.errors import ConfigError


@click.command()
@click.option("--devices", type=click.IntRange(1, 500), default=8, show_default=True, help="Simulated wearables.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Seconds. [default: until Ctrl-C]")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or folder.", metavar="NAME|DIR")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other subjects.")
def demo(devices: int, duration: float | None, model: str, seed: int) -> None:
    """Watch simulated wearables being recognised live: broker, wearables and daemon in one go."""
    try:
        import rich  # noqa: F401
    except ImportError as error:
        raise ConfigError("the demo needs more than the base install: pip install 'harstream[demo]'") from error
    from harstream import demo as demonstration

    summary = demonstration.run(devices, duration, model, seed)
    seen = ", ".join(f"{count} {label}" for label, count in summary.activities.items())
    click.echo(
        f"{summary.devices} devices, {summary.samples:,} samples, {summary.labels} labels, "
        f"median latency {1000 * summary.latency_median_s:.1f} ms; at the end: {seen or 'nothing yet'}"
    )
