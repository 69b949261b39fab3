"""Learning curves: the figures of each epoch of a fit, as JSON and as a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Epoch:
    """The figures of one pass over the windows trained on."""

    epoch: int  # from 1
    loss: float  # mean over the steps of the epoch, of augmented windows, with every term of the loss
    accuracy: float  # mean over the steps, of augmented windows, with the weights of each step and dropout on
    learning_rate: float  # at the end of the epoch
    seconds: float  # duration
    held_out_loss: float | None = None  # cross-entropy on the subjects held out for early stopping
    held_out_accuracy: float | None = None  # of the same subjects


def best_epoch(history: Sequence[Epoch]) -> int | None:
    """Return the first epoch with the lowest held-out loss, counted from 1; None if no subjects are held out."""
    losses = [(epoch.held_out_loss, epoch.epoch) for epoch in history if epoch.held_out_loss is not None]
    return min(losses)[1] if losses else None


def to_json(history: Sequence[Epoch]) -> str:
    """Return the text of ``history.json``: an object with ``epochs`` and ``best_epoch``."""
    return json.dumps({"epochs": [asdict(e) for e in history], "best_epoch": best_epoch(history)}, indent=2) + "\n"


def from_json(epochs: Sequence[Mapping[str, Any]]) -> list[Epoch]:
    """Decode the ``epochs`` of a history. Raise TypeError if they have other fields."""
    return [Epoch(**epoch) for epoch in epochs]


def plot(history: Sequence[Epoch], path: Path, title: str) -> None:
    """Draw loss and accuracy over the epochs and write a PNG.

    Lines of training are solid, lines of held-out subjects dashed, with a dot at the best epoch. Training may look
    worse than the held-out subjects: it is measured on augmented windows with dropout on, and its loss includes label
    smoothing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    at = [epoch.epoch for epoch in history]
    best = best_epoch(history)
    for panel, name in zip(panels, ("loss", "accuracy"), strict=True):
        panel.plot(at, [getattr(epoch, name) for epoch in history], "o-", ms=2.5, color="C0", label="training")
        if best is not None:
            held_out = [getattr(epoch, f"held_out_{name}") for epoch in history]
            panel.plot(at, held_out, "--", color="C0", label="held-out subjects")
            panel.plot(best, held_out[best - 1], "o", ms=7, mfc="white", color="C0", label=f"best, epoch {best}")
        panel.set(xlabel="epoch", ylabel=name)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(top=1.0)
    panels[0].legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
