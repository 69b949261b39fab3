"""Entry point of the program: ``harstream`` and ``python -m harstream``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence


def main() -> None:
    """Run the command line. If it holds a password, start again with the password in the environment."""
    moved = move_passwords(sys.argv[1:], os.environ)
    if moved is not None:
        arguments, environment = moved
        # Options of Python itself, and the name of the module or script that it runs.
        program = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
        os.execve(sys.executable, [sys.executable, *program, *arguments], environment)  # noqa: S606 (no shell)
    from harstream.cli import main as run_command_line

    run_command_line()


def move_passwords(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]] | None:
    """Move broker addresses from the arguments to the environment if one of them holds a password.

    Every user of the machine can list the arguments of a running process, but not its environment.

    Returns:
        New arguments and environment, or None if no address holds a password or a query.

    """
    others: list[str] = []
    brokers: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name == "--broker":
            brokers.append(value if equals else next(remaining, ""))
        else:
            others.append(argument)
    # The query of a WebSocket's address may hold a token.
    secret = any("?" in each or ":" in each.rpartition("://")[2].rpartition("@")[0] for each in brokers)
    if not others or not secret:
        return None
    command = "RUN" if others[0] == "config" else others[0].upper()
    return others, {**environment, f"HARSTREAM_{command}_BROKER": " ".join(brokers)}


if __name__ == "__main__":
    main()
