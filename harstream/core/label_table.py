"""Label table: which activities of data sets each label of a model covers.

Data sets name the same activity differently: sitting is ``SITTING`` in one and ``SEATED`` in another, and a model that
knows only ``STILL`` is right about both. A table maps the names to the labels. Training stores it in the bundle, so
that evaluation counts the same activities under the same labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harstream import checks
from harstream.core.labels import UNKNOWN
from harstream.errors import ConfigError

#: A name of an activity: the kind of data it is limited to (None: any kind) and the name itself.
_Name = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Labels in order, each with the names of the activities that it covers; a label covers its own name as well.

    A name such as ``umafall:WALKING`` is limited to one kind of data, and takes precedence there. Names are compared
    exactly. A name that is not found is compared once more without regard to case, spaces, ``-`` and ``_``, so that
    ``Walking upstairs`` is ``WALKING_UPSTAIRS``.

    Raises:
        ConfigError: A label or name is empty or UNKNOWN, or two labels cover the same name.

    """

    covers: Mapping[str, tuple[str, ...]]
    _exact: Mapping[_Name, str] = field(init=False, repr=False, compare=False)
    _similar: Mapping[_Name, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        exact: dict[_Name, str] = {}
        for label, names in self.covers.items():
            for entry in ((None, label), *map(_split, names)):
                if entry[1] in ("", UNKNOWN):
                    raise ConfigError(f"label {label!r}: expected names other than the empty one and {UNKNOWN}")
                other = exact.setdefault(entry, label)
                if other != label:
                    raise ConfigError(f"both {other!r} and {label!r} cover {entry[1]!r}: list it under one of them")
        similar: dict[_Name, set[str]] = {}
        for (kind, name), label in exact.items():
            similar.setdefault((kind, simplify(name)), set()).add(label)
        object.__setattr__(self, "_exact", exact)
        object.__setattr__(self, "_similar", {key: min(found) for key, found in similar.items() if len(found) == 1})

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return tuple(self.covers)

    @property
    def is_plain(self) -> bool:
        """True if each label covers its own name only."""
        return not any(set(names) - {label} for label, names in self.covers.items())

    def label_of(self, kind: str, name: str) -> str | None:
        """Return the label that covers an activity of a kind of data, such as ``hapt``; None if none does."""
        for names, key in ((self._exact, name), (self._similar, simplify(name))):
            for limit in (kind, None):
                if (limit, key) in names:
                    return names[limit, key]
        return None

    def only(self, labels: Iterable[str]) -> LabelTable:
        """Return the table of ``labels`` in their order; one that this table does not have covers its own name."""
        return LabelTable({label: self.covers.get(label, ()) for label in labels})

    @classmethod
    def plain(cls, labels: Iterable[str]) -> LabelTable:
        """Return the table in which each label covers its own name only."""
        return cls(dict.fromkeys(labels, ()))

    @classmethod
    def from_dict(cls, data: Any) -> LabelTable:
        """Read a JSON object such as ``{"STILL": ["SITTING", "STANDING"], "WALKING": []}``.

        Raises:
            ConfigError: The value is of another form, or the table is not valid.

        """
        covers = {}
        for label, names in checks.mapping(data, "labels").items():
            if label:  # the constructor refuses the empty one
                checks.text(label, "labels")
            covers[label] = checks.sequence(names, label)
        for label, names in covers.items():
            for name in names:
                checks.text(name, label)
        return cls(covers)

    def to_dict(self) -> dict[str, list[str]]:
        """Return the JSON object that ``from_dict`` reads."""
        return {label: list(names) for label, names in self.covers.items()}


def _split(name: str) -> _Name:
    """Return KIND and NAME of ``KIND:NAME``; KIND is None for a name that is not limited."""
    kind, colon, rest = name.partition(":")
    return (kind, rest) if colon else (None, name)


def simplify(name: str) -> str:
    """Return a name without case, spaces, ``-`` and ``_``: names that are the same then are one name."""
    return re.sub(r"[\s_-]+", "", name).casefold()


_UP = ("UPSTAIRS", "STAIRS_UP", "GOING_UPSTAIRS", "GO_UPSTAIRS", "ASCENDING_STAIRS")
_DOWN = ("DOWNSTAIRS", "STAIRS_DOWN", "GOING_DOWNSTAIRS", "GO_DOWNSTAIRS", "DESCENDING_STAIRS")

#: Tables by the name that ``train --labels`` takes.
TABLES = {
    # What a phone anywhere on the trunk can tell. Sitting, standing and lying differ by placement and orientation only.
    "phone": LabelTable(
        {
            "STILL": ("SITTING", "STANDING", "LAYING", "LYING", "SEATED", "SIT", "STAND", "LIE"),
            # The subjects of sp-sw walk three metres, turn while they walk, and walk back.
            "WALKING": ("WALK", "sp-sw:TURNING"),
            "WALKING_UPSTAIRS": _UP,
            "WALKING_DOWNSTAIRS": _DOWN,
            "RUNNING": ("JOGGING", "RUN", "JOG"),
        }
    ),
    # The activities of WISDM, under whose STAIRS both directions are one, by the names that other sets have for them.
    "wrist": LabelTable(
        {
            "WALKING": ("WALK", "sp-sw:TURNING"),
            "JOGGING": ("RUNNING", "RUN", "JOG"),
            "STAIRS": ("WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", *_UP, *_DOWN),
            "SITTING": ("SEATED", "SIT"),
            "STANDING": ("STAND",),
            "TYPING": (),
            "BRUSHING_TEETH": (),
            "EATING_SOUP": (),
            "EATING_CHIPS": (),
            "EATING_PASTA": (),
            "DRINKING": (),
            "EATING_SANDWICH": (),
            "KICKING": (),
            "CATCH": (),
            "DRIBBLING": (),
            "WRITING": (),
            "CLAPPING": (),
            "FOLDING_CLOTHES": (),
        }
    ),
}
