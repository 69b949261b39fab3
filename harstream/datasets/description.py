"""Description of the recordings of a data set as they were understood, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harstream.tables import plain

#: Subjects in the table at most.
_SHOWN = 20
#: Recordings of a subject that are named there.
_NAMES = 2
#: Forms of files that are described.
_FORMS = 3


@dataclass(frozen=True, slots=True)
class Inspection:
    """Description of the recordings of one data set as they were understood."""

    data: str  # KIND:PATH
    recordings: int
    files: int  # 0: it is no data set of own recordings
    rows: int  # of the files
    samples: int  # in all recordings: bridged gaps count, and rows that were left out do not
    left_out: dict[str, int]  # rows of the files by the reason why they were left out
    read_as: dict[str, int]  # number of files by their form: separator and units, in words
    columns_not_used: tuple[str, ...]
    rate_hz: tuple[float, ...]
    gyroscope: int  # number of recordings with one
    at_rest_g: float | None  # median of |acc| at rest; None: nothing was at rest
    subjects_by: dict[str, int]  # number of files by what tells their subject
    subjects: dict[str, dict[str, Any]]  # subject to names of recordings, seconds and labels
    labels: dict[str, dict[str, float]]  # label to seconds, longest segment in seconds, and number of subjects
    notes: tuple[str, ...]  # on names of labels that count as one
    warnings: tuple[str, ...]  # doubts

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the content as tables for a terminal."""
        rates = ", ".join(f"{rate:g}" for rate in self.rate_hz)
        rest = "nothing was at rest" if self.at_rest_g is None else f"{self.at_rest_g:.2f} g"
        left_out = ", ".join(f"{count:,} with {reason}" for reason, count in self.left_out.items()) or "none"
        facts = [("recordings", f"{self.recordings:,}" + (f" from {self.files:,} files" if self.files else ""))]
        if self.files:
            forms = sorted(self.read_as.items(), key=lambda one: -one[1])
            facts += [("read as", form + _in_files(count, self.files)) for form, count in forms[:_FORMS]]
            facts += [("", f"and {len(forms) - _FORMS} other forms")] if len(forms) > _FORMS else []
            facts.append(("columns not used", ", ".join(self.columns_not_used) or "none"))
            by = ", ".join(f"by {name}" + _in_files(count, self.files) for name, count in self.subjects_by.items())
            facts += [("subjects", by), ("rows", f"{self.rows:,}"), ("rows left out", left_out)]
        facts += [
            ("samples", f"{self.samples:,}"),
            ("rate", f"{rates} Hz"),
            ("gyroscope", f"in {self.gyroscope} of {self.recordings} recordings"),
            ("|acc| at rest", rest),
        ]
        width = max(len(name) for name, _ in facts)
        subjects = [
            (name, f"{len(one['recordings'])}", f"{one['seconds']:.0f}", _shorten(one["recordings"]))
            for name, one in self.subjects.items()
        ]
        if len(subjects) > _SHOWN:
            subjects = [*subjects[:_SHOWN], (f"and {len(subjects) - _SHOWN} more", "", "", "")]
        labels = [
            (name, f"{one['seconds']:.0f}", f"{one['longest_s']:.1f}", f"{one['subjects']:.0f}")
            for name, one in self.labels.items()
        ]
        remarks = [*(f"note: {text}" for text in self.notes), *(f"doubt: {text}" for text in self.warnings)]
        parts = [
            "\n".join([self.data, *(f"  {name:<{width}}  {text}" for name, text in facts)]),
            plain(("subject", "recordings", "seconds", "names"), subjects, right=(1, 2)),
            plain(("label", "seconds", "longest, s", "subjects"), labels, right=(1, 2, 3))
            if labels
            else "no sample has a label",
            *["\n".join(remarks)] * bool(remarks),
        ]
        return "\n\n".join(parts)


def _in_files(count: int, total: int) -> str:
    return "" if count == total else f" ({count:,} of {total:,} files)"


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES]) + (", ..." if len(names) > _NAMES else "")
