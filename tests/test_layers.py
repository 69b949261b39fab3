"""Import rules: layers without cycles, one home for each outer library, and a core without input and output."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "harstream"
RESEARCH = ROOT / "research"

_BASE = {"core", "checks", "errors", "interruption", "memory", "progress", "quiet", "storage", "tables"}
_MODEL = {"classifier", "golden", "bundle", "shipped"}
#: Layers of harstream, each with the other layers that its modules may import.
ALLOWED: dict[str, set[str] | None] = {
    "errors": set(),
    "checks": {"errors"},
    "interruption": set(),
    "quiet": set(),
    "progress": {"interruption"},
    "storage": set(),
    "tables": set(),
    "core": {"checks", "errors"},
    "wire": _BASE,
    "int8": {"checks", "errors"},
    "shipped": {"errors"},
    "bundle": {"int8", *_BASE},
    "golden": {"bundle", *_BASE},
    "classifier": {"golden", "bundle", "shipped", *_BASE},
    "trial": {*_MODEL, *_BASE},
    "datasets": {"wire", "bundle", *_BASE},
    "mqtt": {"checks", "errors"},
    "addresses": {"errors"},
    "embedded": {"addresses", "errors"},
    "embedded_process": set(),
    "partitions": {"errors"},
    "options": {"checks", "errors"},
    "source_config": {"options", "wire", "errors"},
    "config": {"addresses", "options", "source_config", "partitions", "mqtt", "wire", "bundle", "shipped", *_BASE},
    "settings_file": {"config", "options", "source_config", "errors"},
    "logs": set(),
    "memory": set(),
    "signals": set(),
    "serve": {
        "addresses",
        "config",
        "source_config",
        "partitions",
        "logs",
        "signals",
        "mqtt",
        "embedded",
        "wire",
        "trial",
        *_MODEL,
        *_BASE,
        "",
    },
    "evaluate": {"datasets", "wire", *_MODEL, *_BASE, ""},
    "train": {"evaluate", "datasets", "wire", *_MODEL, *_BASE, ""},
    "sources": _BASE,
    "simulate": {"sources", "datasets", *_BASE},
    "publish": {"sources", "mqtt", "wire", *_BASE},
    "replay": {"sources", "datasets", *_BASE},
    "record": {"mqtt", "datasets", "wire", *_BASE},
    "probe": {"config", "wire", *_BASE},
    "watch": {"core", "mqtt", "wire", "errors"},
    "demo": {"addresses", "watch", "signals", "config", "source_config", "embedded", "mqtt", "wire", "errors"},
    "bench": {
        "addresses",
        "serve",
        "simulate",
        "publish",
        "config",
        "source_config",
        "logs",
        "embedded",
        "mqtt",
        "wire",
        *_MODEL,
        *_BASE,
        "",
    },
    "cli": None,  # any
    "__main__": {"cli"},
    "": set(),  # harstream/__init__.py: the version only
}

#: Parts of harstream.train from bottom to top, each with the other parts that its modules may import.
TRAIN_ALLOWED: dict[str, set[str]] = {
    "folds": set(),
    "fitting": {"folds"},
    "export": {"fitting"},
    "validation": {"export", "fitting", "folds"},
    "sweep": {"validation", "export", "fitting", "folds"},
    "card": {"validation", "fitting"},
    "pipeline": {"card", "validation", "export", "fitting", "folds"},
    "__init__": set(),
}

#: Layers that may import each outer library; the benchmark measures some of them alone, as upper limits.
HOMES = {
    "paho": {"mqtt", "bench"},
    "prometheus_client": {"serve"},
    "ai_edge_litert": {"classifier", "bench"},
    "tensorflow": {"classifier", "train"},
    "keras": {"classifier", "train", "bench"},
    "click": {"cli"},
    "iotcore": {"embedded_process"},
    "rich": {"watch", "demo", "cli"},
    "matplotlib": {"train"},
    "msgspec": {"wire", "watch", "serve"},
    "simdjson": {"wire"},
    "cbor2": {"wire"},
    "zstandard": {"wire"},
    "scipy": {"core", "simulate", "train", "bench"},
}
#: Outer libraries that core may import.
OUTER_OF_CORE = {"numpy", "scipy"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    """Return the layer of a module: the first part of its path in the package."""
    first = path.relative_to(PACKAGE).parts[0]
    return {"__init__.py": ""}.get(first, first.removesuffix(".py"))


def imports(path: Path) -> Iterator[str]:
    """Yield the names of the modules that a file imports, also inside functions, but not those for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            if node.module == "harstream":
                yield from (f"harstream.{alias.name}" for alias in node.names)
            else:
                yield node.module


def _imported(path: Path, known: set[str]) -> set[str]:
    """Return the modules of this project that a file imports, also inside functions and for types only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & known


def test_there_are_no_import_cycles():
    """Imports inside functions and for types only count too, because they also couple two modules."""
    paths = [*modules(), *sorted(RESEARCH.rglob("*.py"))]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    sorter = TopologicalSorter({name: _imported(path, set(names)) for name, path in names.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


def test_the_package_imports_neither_research_nor_tests():
    """The wheel does not contain them."""
    for path in modules():
        assert not [name for name in imports(path) if name.partition(".")[0] in ("research", "tests")], path


def test_every_module_has_a_layer():
    assert {layer(path) for path in modules()} == set(ALLOWED)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_layers_that_its_own_may_import(path: Path):
    own = layer(path)
    allowed = ALLOWED[own]
    for name in imports(path):
        outer, _, rest = name.partition(".")
        if outer != "harstream":
            assert own in HOMES.get(outer, {own}), f"{path}: only {HOMES[outer]} may import {outer}"
            if own == "core" and outer not in OUTER_OF_CORE:
                assert outer in sys.stdlib_module_names, f"{path}: core may not import {outer}"
        elif allowed is not None:
            other = rest.partition(".")[0]
            other = "" if other.startswith("__version__") else other
            assert other == own or other in allowed, f"{path}: {own} may not import {other!r}"


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "train").rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_a_module_of_train_imports_only_parts_below_its_own(path: Path):
    own = path.relative_to(PACKAGE / "train").parts[0].removesuffix(".py")
    forbidden = set(TRAIN_ALLOWED) - TRAIN_ALLOWED[own] - {own}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith("harstream.train."):
            names = {f"{node.module}.{alias.name}".split(".")[2] for alias in node.names}
            assert not names & forbidden, f"{path}: train.{own} may not import {names & forbidden} of train"


@pytest.mark.parametrize("name", ["socket", "time", "threading", "logging", "asyncio", "datetime"])
def test_core_has_no_socket_clock_thread_or_log(name: str):
    users = [path for path in modules() if layer(path) == "core" and name in set(imports(path))]
    assert users == []


def test_core_has_no_global_state():
    for path in modules():
        if layer(path) == "core":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)], path


def test_core_reduces_without_blas():
    """The last bits of a matrix product change with the shape of the batch."""
    for path in modules():
        if layer(path) == "core":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                assert not isinstance(node, ast.MatMult), path
                assert not (isinstance(node, ast.Attribute) and node.attr in ("dot", "matmul", "tensordot", "inner")), (
                    path
                )


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import harstream", ["numpy", "click", "scipy", "paho"]),
        ("import harstream.config", ["paho", "scipy", "click", "tensorflow", "ai_edge_litert"]),
        ("import harstream.cli", ["paho", "tensorflow", "keras", "ai_edge_litert", "scipy", "iotcore"]),
        ("import harstream.config, harstream.mqtt.urls", ["paho"]),
        ("import harstream.serve.app", ["tensorflow", "keras", "iotcore", "rich", "matplotlib"]),
        ("import harstream.evaluate.scoring, harstream.evaluate.report", ["tensorflow", "keras", "matplotlib"]),
    ],
)
def test_an_import_loads_no_heavy_module_that_it_does_not_need(statement: str, absent: list[str]):
    code = f"{statement}\nimport sys\nprint(*[name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
