"""`harstream simulate`."""

from __future__ import annotations

from typing import Any

import click

from harstream.cli.publishing import publish_sources, publisher_options


@click.command()
@publisher_options
@click.option("--devices", type=click.IntRange(min=1), default=10, show_default=True, help="Number of wearables.")
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    show_default="no end",
    help="Seconds of the stream to publish.",
)
@click.option(
    "--rate",
    type=click.FloatRange(10, 1000),
    default=50.0,
    show_default=True,
    help="Sample rate of the wearables in Hz.",
)
@click.option(
    "--pace",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Speed of the simulated day: 10 makes activities ten times shorter.",
)
@click.option(
    "--activity",
    show_default="a plausible day",
    help="Single activity of all subjects, such as WALKING.",
    metavar="NAME",
)
@click.option(
    "--fault",
    "faults",
    type=click.Choice(["units", "loop", "reboot", "coarse", "drift", "dropout"]),
    multiple=True,
    help="Fault of the devices; if given several times, the devices have the faults in turn.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed; another one makes other subjects.")
def simulate(
    devices: int,
    duration: float | None,
    rate: float,
    pace: float,
    activity: str | None,
    faults: tuple[str, ...],
    seed: int,
    **publishing: Any,
) -> None:
    """Publish synthetic wearables: worn at the waist by subjects who live a plausible day.

    With --fault, they send what faulty devices do: accelerations in m/s2 without saying so (units), each sample in a
    message of its own at intervals of 8 to 14 ms (loop), stamps of a clock that begins again near 0 every minute
    (reboot), in whole seconds (coarse) or of a clock that is 4 % fast (drift), or nothing for up to 3 s (dropout).
    """
    from harstream import checks
    from harstream.simulate.parameters import ACTIVITIES
    from harstream.simulate.source import sources

    if activity is not None:
        checks.choice(activity, "activity", tuple(ACTIVITIES))
    publish_sources(
        sources(devices, seed, rate_hz=rate, pace=pace, activity=activity, faults=faults),
        duration_s=duration,
        **publishing,
    )
