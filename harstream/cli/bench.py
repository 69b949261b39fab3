"""`harstream bench`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harstream.bundle import BACKEND_FILES

if TYPE_CHECKING:
    from harstream.bench.suite import Options, Suite

_MODES = ("ingest", "tls", "baseline", "inference", "latency", "live", "start", "memory", "growth")


@click.command()
@click.argument("modes", nargs=-1, type=click.Choice(_MODES), metavar="[MODE]...")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write every run here.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--repeats", type=click.IntRange(1), help="Rounds; the median is shown.  [default: 5]")
@click.option("--seconds", type=click.FloatRange(0.1), help="That a throughput is measured for.  [default: 4]")
@click.option("--live-s", type=click.FloatRange(0.1), help="That a fleet must be held.  [default: 60]")
@click.option("--live-json", type=click.IntRange(1), help="Wearables of the live fleet with JSON.  [default: 12000]")
@click.option("--live-packed", type=click.IntRange(1), help="And with packed payloads.  [default: 20000]")
@click.option("--model", help="A shipped model's name, or a bundle's folder.", metavar="NAME|DIR")
@click.option("--backend", type=click.Choice(["auto", *BACKEND_FILES]), help="What computes the network.")
@click.option("--smoke", is_flag=True, help="Everything in the smallest size: whether it works, not how fast it is.")
def bench(modes: tuple[str, ...], json_file: Path | None, markdown: bool, smoke: bool, **sizes: Any) -> None:
    """Measure this machine: throughput, latency, memory, each figure beside its ceiling.

    Starts a mosquitto of its own (the embedded broker where it is missing). MODE is one or several of ingest, tls,
    baseline, inference, latency, live, start, memory and growth; without, all of them, in half an hour.
    """
    from harstream.bench.suite import SMOKE, Options, Suite

    options = SMOKE if smoke else Options()
    options = dataclasses.replace(options, **{name: value for name, value in sizes.items() if value is not None})
    chosen = list(dict.fromkeys(modes or _MODES))
    begun: list[str] = []

    def tick(what: str) -> None:
        bar.update(1 if begun else 0, what)
        begun.append(what)

    suite = Suite(options, tick)
    with click.progressbar(
        length=suite.rounds(chosen), label="bench", file=sys.stderr, item_show_func=lambda what: what or "", width=24
    ) as bar:
        try:
            suite.run(chosen)
        finally:  # what was measured before something broke is told all the same
            bar.update(1, "done")
            _tell(suite, options, markdown, json_file)


def _tell(suite: Suite, options: Options, markdown: bool, json_file: Path | None) -> None:
    from harstream.bench import machine, results

    described = machine.describe(suite.broker)
    click.echo(", ".join(f"{name} {value}" for name, value in described.items()))
    click.echo()
    click.echo((results.markdown if markdown else results.table)(suite.figures))
    for reason in suite.missing:
        click.echo(f"not measured: {reason}")
    if json_file is not None:
        data = {
            "machine": described,
            "options": dataclasses.asdict(options),
            "figures": [figure.to_dict() for figure in suite.figures],
            "missing": suite.missing,
        }
        json_file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
