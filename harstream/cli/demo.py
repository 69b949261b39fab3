"""`harstream demo`."""

from __future__ import annotations

import click

from harstream.cli import options
from harstream.config import OPTIONS
from harstream.errors import ConfigError
from harstream.shipped import SIMULATED_MODEL


@click.command()
@click.option(
    "--devices", type=click.IntRange(1, 500), default=8, show_default=True, help="Number of simulated wearables."
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    show_default="until Ctrl-C",
    help="Seconds until the demo ends.",
)
@options.click_option(OPTIONS["model"], default=SIMULATED_MODEL)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed; another one makes other subjects.")
def demo(devices: int, duration: float | None, model: str, seed: int) -> None:
    """Show live activities of simulated wearables. The demo starts a broker and a daemon of its own."""
    try:
        import rich  # noqa: F401 (only checked; harstream.demo imports it)
    except ImportError as error:
        raise ConfigError("the demo needs the packages of an extra: pip install '.[demo]' in a checkout") from error
    from harstream import demo as demonstration

    summary = demonstration.run(devices, duration, model, seed)
    seen = ", ".join(f"{count} {label}" for label, count in summary.activities.items())
    click.echo(
        f"{summary.devices} devices, {summary.samples:,} samples, {summary.labels} labels, "
        f"median latency {1000 * summary.latency_median_s:.1f} ms; at the end: {seen or 'no label yet'}"
    )
