"""Learning curves: what each epoch of a fit came to, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harstream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the windows trained on."""

    epoch: int  # from 1
    loss: float  # mean over the epoch's steps, of augmented windows, with all that the objective adds
    accuracy: float  # likewise, with the weights as they were at each step: dropout on
    learning_rate: float  # at its end
    seconds: float
    held_out_loss: float | None = None  # cross-entropy on training subjects not trained on, after the epoch
    held_out_accuracy: float | None = None


def best_epoch(history: Sequence[Epoch]) -> int | None:
    """The first of those with the lowest held-out loss, from 1; None where no subjects are held out."""
    losses = [(epoch.held_out_loss, epoch.epoch) for epoch in history if epoch.held_out_loss is not None]
    return min(losses)[1] if losses else None


def to_json(history: Sequence[Epoch]) -> str:
    """``history.json``: an object with ``epochs`` and ``best_epoch``."""
    return json.dumps({"epochs": [asdict(e) for e in history], "best_epoch": best_epoch(history)}, indent=2) + "\n"


def from_json(epochs: Sequence[Mapping[str, Any]]) -> list[Epoch]:
    """The ``epochs`` of a history. Raises TypeError where they are something else."""
    return [Epoch(**epoch) for epoch in epochs]


def load(path: Path) -> list[Epoch]:
    """Read ``history.json``. Raises ConfigError where it is none."""
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8"))["epochs"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: not a history of a fit: {error}") from error


def plot(histories: Sequence[Epoch] | Mapping[str, Sequence[Epoch]], path: Path, title: str = "") -> None:
    """Draw loss and accuracy over the epochs, of one fit or of several by name, and write a PNG.

    Training is drawn solid, held-out subjects dashed, with a dot at the best epoch. Training is measured
    on augmented windows with dropout on, and its loss includes label smoothing: it may well be the worse.
    Raises ConfigError where there is no epoch.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    fits = histories if isinstance(histories, Mapping) else {"": histories}
    if not any(fits.values()):
        raise ConfigError("learning curves need at least one epoch")
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for panel, name in zip(panels, ("loss", "accuracy"), strict=True):
        for number, (fit, history) in enumerate(fits.items()):
            colour, label = f"C{number % 10}", f"{fit}, " if fit else ""
            at = [epoch.epoch for epoch in history]
            panel.plot(
                at, [getattr(epoch, name) for epoch in history], "o-", ms=2.5, color=colour, label=f"{label}training"
            )
            best = best_epoch(history)
            if best is None:
                continue
            held_out = [getattr(epoch, f"held_out_{name}") for epoch in history]
            panel.plot(at, held_out, "--", color=colour, label=f"{label}held-out subjects")
            panel.plot(
                best, held_out[best - 1], "o", ms=7, mfc="white", color=colour, label=f"{label}best, epoch {best}"
            )
        panel.set(xlabel="epoch", ylabel=name)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(top=1.0)
    panels[0].legend(frameon=False, fontsize="small")
    if title:
        figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
