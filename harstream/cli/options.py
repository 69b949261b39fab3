"""Options that several commands share, and the functions that turn their values into objects.

The options of `harstream run` come from their declarations in `harstream.config`.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harstream import checks
from harstream.config import BROKER_HELP, OPTIONS, RunConfig
from harstream.core.label_table import TABLES, LabelTable
from harstream.errors import ConfigError
from harstream.options import Option
from harstream.quiet import import_tensorflow

if TYPE_CHECKING:
    from harstream.datasets.sets import DataSet
    from harstream.wire.payloads import PayloadConfig
    from harstream.wire.topics import TopicTemplate

#: A decorator that gives a command options.
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PATH = click.Path(path_type=Path)


def together(*options: Decorator) -> Decorator:
    """Return a decorator that gives a command several options, listed by --help in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def click_option(option: Option, **changes: Any) -> Decorator:
    """Return the click option of an option of `harstream run`. ``changes`` are further arguments of `click.option`."""
    default = None if option.default_text else option.default
    arguments: dict[str, Any] = {
        "help": option.help,
        "default": default,
        "show_default": option.default_text or default is not None,
        "type": _type_of(option),
        "multiple": option.multiple,
        "metavar": option.metavar,
    }
    flags = f"--{option.flag}" + (f"/--no-{option.flag}" if option.kind is bool else "")
    return click.option(flags, option.name, **{**arguments, **changes})


def add_variables(command: click.Command, prefix: str) -> None:
    """Let the variable PREFIX_OPTION set each option of a command, and of the commands in a group.

    click itself derives a variable from the name of the Python parameter, which may differ from that of the option.
    """
    if isinstance(command, click.Group):
        for name, member in command.commands.items():
            add_variables(member, f"{prefix}_{name.upper()}")
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None:
            option.envvar = [f"{prefix}_{name.lstrip('-').replace('-', '_').upper()}" for name in option.opts]


def _type_of(option: Option) -> Any:
    """Return the click type that parses the option's text and shows its limits in --help."""
    if option.choices:
        return click.Choice(option.choices)
    if option.kind is Path:
        return PATH
    if option.is_table:
        return str
    if option.kind in (str, bool):
        return option.kind
    low, high = (None if math.isinf(limit) else option.kind(limit) for limit in (option.minimum, option.maximum))
    return click.IntRange(low, high) if option.kind is int else click.FloatRange(low, high)


# --- models and data ----------------------------------------------------------------------------------

model = click_option(OPTIONS["model"])
backend = click_option(OPTIONS["backend"])
subjects = click.option(
    "--subjects",
    "--wearers",  # its name in earlier versions
    "subjects",
    show_default="all",
    help="Subjects whose recordings are used, separated by commas; --wearers is the same option.",
    metavar="A,B,C",
)
data = click.option(
    "--data",
    required=True,
    help="Kind and path of the recordings, such as csv:recordings or hapt:hapt.zip.",
    metavar="KIND:PATH",
)


class _DataType(click.types.StringParamType):
    """KIND:PATH; in a variable, each on a line of its own, because a path may hold spaces."""

    envvar_list_splitter = "\n"


several_data = click.option(
    "--data",
    required=True,
    multiple=True,
    type=_DataType(),
    help="Kind and path of the recordings, such as csv:recordings or hapt:hapt.zip; given again, several data sets are "
    "used together.",
    metavar="KIND:PATH",
)
placements = click.option(
    "--placement",
    "placements",
    multiple=True,
    help="Use only recordings of this placement, of the data sets that name placements, or of one kind of data as in "
    "umafall:pocket; may be given several times.",
    metavar="NAME",
)
json_file = click.option("--json", "json_path", type=PATH, help="Write the figures to this JSON file.", metavar="FILE")


def load_sets(
    data: Sequence[str], subjects: str | None, placements: Sequence[str], *, windows: bool = False
) -> list[DataSet]:
    """Return what ``--data``, ``--subjects`` and ``--placement`` choose.

    Args:
        data: KIND:PATH of each data set.
        subjects: Names of subjects, separated by commas; None: all.
        placements: Placements; none: all.
        windows: Accept kinds that hold windows only.

    Raises:
        DatasetError: A data set cannot be loaded, or has nothing of what is chosen.

    """
    from harstream import datasets
    from harstream.datasets import sets as data_sets

    # These raise before the long part.
    data_sets.names_of(data)
    data_sets.require_placements(placements, data_sets.published_placements(data))
    kinds = datasets.WINDOW_KINDS if windows else ()
    contents = [datasets.load_windows(one) if data_sets.kind_of(one) in kinds else datasets.load(one) for one in data]
    sets = data_sets.put_together(data, contents)
    if subjects is not None:
        sets = data_sets.select_subjects(sets, subjects.split(","))
    return data_sets.select_placements(sets, placements) if placements else sets


def load_table(labels: str) -> LabelTable:
    """Return the label table of a name or a JSON file (``--labels NAME|FILE``).

    Raises:
        ConfigError: There is no such table, the file holds none, or the table has fewer than two labels or a name for a
            kind of data that does not exist.

    """
    if labels in TABLES:
        return TABLES[labels]
    try:
        data = json.loads(Path(labels).read_text(encoding="utf-8"), object_pairs_hook=_unique)
        table = LabelTable.from_dict(data)
        _check_table(table)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"--labels: {labels}: {error}: expected a JSON file or a table of harstream ({', '.join(TABLES)})"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"--labels: {labels}: {error}") from error
    return table


def _check_table(table: LabelTable) -> None:
    """Raise ConfigError if a model cannot be trained with a table, or a name in it would never be found."""
    from harstream.datasets import KINDS, WINDOW_KINDS

    checks.names(list(table.labels), "labels", 2)
    for label, names in table.covers.items():
        for name in names:
            kind, colon, _ = name.partition(":")
            if colon:
                checks.choice(kind, f"{label}: kind of data in {name!r}", (*KINDS, *WINDOW_KINDS))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raise ValueError if it has a name twice."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there more than once")
    return dict(pairs)


def check_writable(option: str, path: Path | None, *, folder: bool = False) -> None:
    """Make the parents of an output path, before the work whose result it receives.

    Args:
        option: Name of the option in an error.
        path: The output; None if the option is not given.
        folder: The output is a folder, not a file.

    Raises:
        ConfigError: The path cannot be written.

    """
    if path is None:
        return
    if path.exists() and path.is_dir() != folder:
        raise ConfigError(f"{option}: {path}: is {'not a folder' if folder else 'a folder, not a file'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option}: {path}: {error.strerror}") from error
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{option}: {path}: no permission to write; choose another place")


def need_extra(extra: str, module: str) -> None:
    """Raise ConfigError if a module of an optional extra is not installed; import TensorFlow."""
    if find_spec(module) is None:
        raise ConfigError(f"this command needs the package {module}: pip install '.[{extra}]' in a checkout")
    if module == "tensorflow":
        import_tensorflow()


# --- brokers ------------------------------------------------------------------------------------------

topic = click_option(OPTIONS["topic"], help="Topic template of the samples.")
labels_topic = click_option(OPTIONS["labels_topic"], help="Topic template of the labels.")
units = together(click_option(OPTIONS["acc_unit"]), click_option(OPTIONS["gyro_unit"]))
#: Format of the samples, for commands that do not take a settings file.
payload = together(click_option(OPTIONS["payload"]), click_option(OPTIONS["fields"]))
qos = click_option(OPTIONS["qos"], help="MQTT quality of service.")
#: Options of `harstream run` that say how to connect, for every command that takes a broker.
_CONNECTION = ("client_id", "mqtt_version", "ca", "cert", "key", "alpn", "user", "password_file")
#: Defaults of `harstream run` that other commands do not have.
_OTHER_DEFAULTS = {"client_id": "one with a random end", "password_file": ""}


def payload_config(name: str, fields: str | None, template: TopicTemplate) -> PayloadConfig:
    """Return the format of messages on the topics of a template. Raise ConfigError if it cannot be decoded so."""
    from harstream.wire.fields import Fields
    from harstream.wire.payloads import PayloadConfig

    config = PayloadConfig(name, Fields.parse(fields or {}))
    config.check(not template.has_device)
    return config


def broker(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a broker, and pass it the `BrokerSettings` that follow as argument ``broker``."""

    @functools.wraps(command)
    def call(*arguments: Any, **values: Any) -> Any:
        given = {name: values.pop(name) for name in ("broker", *_CONNECTION)}
        return command(*arguments, broker=RunConfig(**given).read_broker_settings(), **values)

    options = [
        click_option(replace(OPTIONS[name], default_text=_OTHER_DEFAULTS.get(name, OPTIONS[name].default_text)))
        for name in _CONNECTION
    ]
    return together(click.option("--broker", required=True, help=BROKER_HELP), *options)(call)
