"""Options that a bundle and a sweep of `harstream train` share: recordings, labels, signal, names of data sets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harstream.cli import options
from harstream.errors import ConfigError

if TYPE_CHECKING:
    from harstream.core.label_table import LabelTable
    from harstream.core.spec import SignalSpec
    from harstream.datasets.base import Recording
    from harstream.datasets.sets import DataSet


@dataclass(frozen=True, slots=True)
class Request:
    """Options that a bundle and a sweep share."""

    data: tuple[str, ...]
    subjects: str | None
    placements: tuple[str, ...]
    table: LabelTable | None  # from --labels
    out: Path
    settings: dict[str, Any]  # by name, from --set, --arch, --epochs and --channels
    spec: Path | None
    seed: int
    repeats: int
    folds: str
    train_only: tuple[str, ...]
    jobs: int

    def load(self, states: Sequence[str] = ()) -> tuple[list[DataSet], LabelTable]:
        """Return the chosen recordings, with labels in place of activities, and the table of the labels.

        What was understood of the recordings is printed first, so that an error in them can be seen there.

        ``states`` are the states between labels, which keep their names.
        """
        from harstream.train.fitting.prepare import default_table

        sets = options.load_sets(self.data, self.subjects, self.placements)
        self._describe(sets, states)
        table = self.table or default_table([data_set for data_set in sets if not data_set.is_empty], states)
        return [data_set.cover(table, states) for data_set in sets], table

    def check_names(self, names: Sequence[str]) -> None:
        """Raise an error if ``--train-only`` and ``--folds`` leave no data set to hold out.

        Args:
            names: Names of the data sets, or of those of which something is left.

        """
        from harstream.train.fitting.prepare import scored_sets

        scored = scored_sets(names, self.train_only)
        if self.folds == "data" and len(scored) < 2:
            mend = "give --data again"
            if self.train_only:
                mend = "take one out of --train-only"
            elif len(names) < len(self.data):
                mend = "choose subjects of another one too"
            raise ConfigError(
                f"--folds data: it holds out whole data sets, but there is only one to hold out ({scored[0]}): {mend}, "
                "or choose --folds subject"
            )

    def usable(self, sets: Sequence[DataSet], signal: SignalSpec) -> list[DataSet]:
        """Return the recordings that the signal can be made of, and print what was left out so far."""
        from harstream.datasets.sets import leave_out_without_gyro, notes_of

        usable = leave_out_without_gyro(sets, signal)
        for note in notes_of(usable):
            click.echo(f"note: {note}")
        self.check_names([data_set.name for data_set in usable if not data_set.is_empty])
        return usable

    def _describe(self, sets: Sequence[DataSet], states: Sequence[str]) -> None:
        """Print each data set as it was understood, with the labels of ``--labels`` if there are any."""
        from harstream.datasets.inspection import inspect

        for data_set in sets:
            if not data_set.is_empty:
                signal = self.signal()
                rates = Counter(one.rate_hz for one in data_set.recordings)
                rate_hz = self.settings.get("sample_rate_hz", rates.most_common(1)[0][0])
                window_s = self.settings.get("window_samples", signal.window_samples) / rate_hz
                covered = data_set if self.table is None else data_set.cover(self.table, states)
                click.echo(inspect(data_set.data, covered.recordings, window_s).to_text())

    def signal(self, recordings: Sequence[Recording] | None = None) -> SignalSpec:
        """Return the signal of ``--spec``, completed for the recordings, or by the defaults without recordings.

        A sample rate in the settings takes precedence over that of the recordings.
        """
        from harstream.core.spec import SignalSpec
        from harstream.train.fitting.prepare import spec_of

        fields = {} if self.spec is None else _read_json(self.spec)
        if recordings is None:
            return SignalSpec.from_dict(fields)
        fields |= {name: value for name, value in self.settings.items() if name == "sample_rate_hz"}
        return spec_of(recordings, fields)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"--spec: {path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"--spec: {path}: expected a JSON object, got {type(data).__name__}")
    return data
