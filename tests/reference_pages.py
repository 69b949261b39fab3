"""The parts of the reference pages that follow from declarations in the code.

`python -m tests.reference_pages` writes them again; tests/test_documents.py checks that they are up to date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from harstream.cli import main
from harstream.config import CONFIG_FILE, OPTIONS
from harstream.options import Option

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
#: Commands that take the options of `harstream run`, which have a page of their own.
WITH_OPTIONS_OF_RUN = ("run", "config show", "config check")


def generated(page: str) -> str:
    """Return the generated part of the text of a page, without the comments that enclose it."""
    match = re.search(r"<!-- generated -->\n\n(.*?)\n\n<!-- end -->", page, re.DOTALL)
    assert match, "the page has no part between <!-- generated --> and <!-- end -->"
    return match[1]


def option_table() -> str:
    """Return the table of the options of `harstream run`."""
    rows = [
        [_flags(option), _default(option), "yes" if option.reloadable else "restart", option.help]
        for option in (*OPTIONS.values(), CONFIG_FILE)
        if not option.environment_only
    ]
    return _table(["option", "default", "reload", "meaning"], rows)


def command_sections() -> str:
    """Return a section for each command, with its arguments and options."""
    return "\n\n".join(
        f"## harstream {name}\n\n{_help_of(command)}\n\n{_parameters(name, command)}"
        for name, command in _commands(main, ())
    )


def _commands(group: click.Group, parents: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group) and not command.params:
            yield from _commands(command, (*parents, name))
        else:
            yield " ".join((*parents, name)), command


def _help_of(command: click.Command) -> str:
    """Return the paragraphs of a command's help, each in one line; a preformatted block becomes a code block."""
    paragraphs = []
    for paragraph in (command.help or "").split("\n\n"):
        first, _, rest = paragraph.partition("\n")
        if first.strip() == "\b":
            paragraphs.append("\n".join(f"    {line}" for line in rest.split("\n")))
        else:
            paragraphs.append(" ".join(paragraph.split()))
    return "\n\n".join(paragraphs)


def _parameters(name: str, command: click.Command) -> str:
    if name in WITH_OPTIONS_OF_RUN:
        return "Options: [those of `harstream run`](options.md)."
    arguments = [f"`{each.name.upper()}`" for each in command.params if isinstance(each, click.Argument) and each.name]
    lines = [f"Arguments: {', '.join(arguments)}."] if arguments else []
    rows = [
        [", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts)), _shown(option), option.help or ""]
        for option in command.params
        if isinstance(option, click.Option)
    ]
    lines += [_table(["option", "default", "meaning"], rows)] if rows else ["There are no options."]
    return "\n\n".join(lines)


def _shown(option: click.Option) -> str:
    """Return the default as --help shows it: a value as code, a note as text."""
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return option.show_default
    return f"`{option.default}`" if option.show_default and isinstance(option.default, str | int | float | Path) else ""


def _flags(option: Option) -> str:
    return f"`--{option.flag}`" + (f", `--no-{option.flag}`" if option.kind is bool else "")


def _default(option: Option) -> str:
    if option.kind is bool:
        return f"`{str(option.default).lower()}`"
    if option.default_text or option.default is None:
        return option.default_text
    return f"`{option.default}`"


def _table(header: list[str], rows: list[list[str]]) -> str:
    cells = [header, ["---"] * len(header), *([" ".join(cell.replace("|", "\\|").split()) for cell in r] for r in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


#: Function that makes the generated part of each page.
PAGES = {"options.md": option_table, "commands.md": command_sections}


def _write() -> None:
    for name, make in PAGES.items():
        path = REFERENCE / name
        text = path.read_text(encoding="utf-8")
        old = f"<!-- generated -->\n\n{generated(text)}\n\n<!-- end -->"
        path.write_text(text.replace(old, f"<!-- generated -->\n\n{make()}\n\n<!-- end -->"), encoding="utf-8")


if __name__ == "__main__":
    _write()
