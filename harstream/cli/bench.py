"""`harstream bench`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harstream.cli import options
from harstream.cli.progress import ProgressBar
from harstream.config import OPTIONS
from harstream.shipped import SIMULATED_MODEL

if TYPE_CHECKING:
    from harstream.bench.run import Options
    from harstream.bench.suite import Suite

_MODES = (
    *("ingest", "tls", "sources", "baseline", "inference", "cost", "latency", "viewers", "durable", "poison", "live"),
    *("start", "memory", "growth"),
)


@click.command()
@click.argument("modes", nargs=-1, type=click.Choice(_MODES), metavar="[MODE]...")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write every measurement to this JSON file.",
    metavar="FILE",
)
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option(
    "--repeats", type=click.IntRange(1), show_default="5", help="Number of rounds; the median of them is shown."
)
@click.option(
    "--seconds", type=click.FloatRange(0.1), show_default="4", help="Seconds for which a throughput is measured."
)
@click.option(
    "--live-s", type=click.FloatRange(0.1), show_default="60", help="Seconds for which the live fleet must be served."
)
@click.option(
    "--live-json",
    type=click.IntRange(1),
    show_default="12000",
    help="Number of wearables of the live fleet that send JSON.",
)
@click.option(
    "--live-packed",
    type=click.IntRange(1),
    show_default="20000",
    help="Number of wearables of the live fleet that send packed payloads.",
)
@options.click_option(OPTIONS["model"], default=None, show_default=SIMULATED_MODEL)
@options.click_option(OPTIONS["backend"], default=None, show_default=OPTIONS["backend"].default)
@click.option("--smoke", is_flag=True, help="Run everything in the smallest size, to see that it works.")
def bench(modes: tuple[str, ...], json_file: Path | None, markdown: bool, smoke: bool, **sizes: Any) -> None:
    """Measure throughput, latency and memory on this machine, each beside its upper bound.

    A mosquitto is started for the measurement, or the embedded broker if mosquitto is not installed. MODE is one or
    several of ingest, tls, sources, baseline, inference, cost, latency, viewers, durable, poison, live, start, memory
    and growth; without it all of them are run, which takes an hour and a half.

    cost and baseline also compare the daemon with the same job in Pathway if that is installed beside harstream
    (pip install pathway), and baseline with a tutorials' script if TensorFlow is. What could not be measured is listed
    below the table.
    """
    from harstream.bench.run import SMOKE, Options
    from harstream.bench.suite import Suite

    chosen_options = SMOKE if smoke else Options()
    given = {name: value for name, value in sizes.items() if value is not None}
    chosen_options = dataclasses.replace(chosen_options, **given)
    chosen = list(dict.fromkeys(modes or _MODES))
    n_begun = 0

    def show(round_name: str) -> None:
        nonlocal n_begun
        bar.update("bench", n_begun, suite.rounds(chosen), round_name)
        n_begun += 1

    suite = Suite(chosen_options, show)
    with ProgressBar() as bar:
        try:
            suite.run(chosen)
            bar.update("bench", n_begun, n_begun)
        finally:  # the measurements before a failure are printed too
            bar.close()
            _print_figures(suite, chosen_options, markdown, json_file)


def _print_figures(suite: Suite, options: Options, markdown: bool, json_file: Path | None) -> None:
    from harstream.bench import machine, results

    description = machine.describe(suite.broker)
    click.echo(", ".join(f"{name} {value}" for name, value in description.items()))
    click.echo()
    click.echo((results.markdown if markdown else results.table)(suite.figures))
    for reason in suite.missing:
        click.echo(f"not measured: {reason}")
    if json_file is not None:
        data = {
            "machine": description,
            "options": dataclasses.asdict(options),
            "figures": [figure.to_dict() for figure in suite.figures],
            "missing": suite.missing,
        }
        json_file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
