"""Other programs for the same job: what the daemon is compared with, and what each needs to be installed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Other:
    """One of ``receivers.RECEIVERS`` that is not the daemon."""

    name: str  # in the table
    module: str = ""  # that it needs beside harstream's own dependencies
    install: str = ""  # where the module comes from


#: By the name of the receiver.
OTHERS = {
    "plain": Other("plain script of an able engineer"),
    "pathway": Other("the plain script's job in Pathway", "pathway", "Pathway (pip install pathway beside harstream)"),
    "tutorial": Other(
        "callback, deques, predict per window", "keras", "TensorFlow (pip install '.[train]' in a checkout)"
    ),
}


def installed(mode: str, receivers: Iterable[str], missing: list[str]) -> dict[str, str]:
    """Return those of the receivers that can run, with their names; add to ``missing`` why the rest cannot."""
    found = {}
    for receiver in receivers:
        other = OTHERS[receiver]
        if other.module and find_spec(other.module) is None:
            missing.append(f"{mode} beside {other.name!r}: needs {other.install}")
        else:
            found[receiver] = other.name
    return found
