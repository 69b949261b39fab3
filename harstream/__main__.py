"""The program, also as ``python -m harstream``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence


def main() -> None:
    """The command line, with a password in it moved to where nobody else can read it."""
    concealed = conceal(sys.argv[1:], os.environ)
    if concealed is not None:
        arguments, environment = concealed
        ourselves = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]  # flags, and what it ran
        os.execve(sys.executable, [sys.executable, *ourselves, *arguments], environment)
    from harstream.cli import main

    main()


def conceal(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]] | None:
    """The same with brokers' addresses in the environment, where one holds a password; else None.

    The list of processes shows arguments to everybody on the machine for as long as we run, the environment to nobody
    else.
    """
    left: list[str] = []
    brokers: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name == "--broker":
            brokers.append(value if equals else next(rest, ""))
        else:
            left.append(argument)
    if not left or not any(":" in broker.rpartition("://")[2].rpartition("@")[0] for broker in brokers):
        return None
    command = "RUN" if left[0] == "config" else left[0].upper()
    return left, {**environment, f"HARSTREAM_{command}_BROKER": " ".join(brokers)}


if __name__ == "__main__":
    main()
