"""DESIGN's import rules, kept by machine."""

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

#: Who may import whom inside harstream: a module may import those of its own layer and of the listed ones.
_BASE = {"core", "checks", "errors", "progress", "storage", "tables"}
_MODEL = {"classifier", "golden", "bundle"}
ALLOWED = {
    "errors": set(),
    "checks": {"errors"},
    "progress": set(),
    "storage": set(),
    "tables": set(),
    "core": {"checks", "errors"},
    "wire": _BASE,
    "bundle": _BASE,
    "golden": {"bundle", *_BASE},
    "classifier": {"golden", "bundle", *_BASE},
    "datasets": {"wire", "bundle", *_BASE},
    "mqtt": {"checks", "errors"},
    "embedded": {"errors"},
    "partitions": {"errors"},
    "options": {"checks", "errors"},
    "config": {"options", "partitions", "mqtt", "wire", "bundle", *_BASE},
    "logs": set(),
    "signals": set(),
    "serve": {"config", "logs", "signals", "mqtt", "embedded", "wire", *_MODEL, *_BASE, ""},
    "evaluate": {"datasets", "wire", *_MODEL, *_BASE, ""},
    "train": {"evaluate", "datasets", "wire", *_MODEL, *_BASE, ""},
    "simulate": {"datasets", *_BASE},
    "publish": {"mqtt", "wire", *_BASE},
    "replay": {"datasets", *_BASE},
    "record": {"mqtt", "datasets", "wire", *_BASE},
    "watch": {"mqtt", "wire", "errors"},
    "demo": {"watch", "signals", "config", "embedded", "mqtt", "wire", "errors"},
    "bench": {"serve", "simulate", "publish", "config", "logs", "embedded", "mqtt", "wire", *_MODEL, *_BASE, ""},
    "cli": None,  # everything
    "__main__": {"cli"},
    "": set(),  # harstream/__init__.py: the version only
}

#: The storeys of harstream.train, of which pipeline and card are the top: which parts of train each of them may import.
TRAIN_ALLOWED = {
    "folds": set(),
    "fitting": {"folds"},
    "export": {"fitting"},
    "validation": {"export", "fitting", "folds"},
    "sweep": {"validation", "export", "fitting", "folds"},
    "card": {"validation", "fitting"},
    "pipeline": {"card", "validation", "export", "fitting", "folds"},
    "__init__": set(),
}

#: The one home of each outer library; the benchmark has the bare ones as its ceilings.
HOMES = {
    "paho": {"mqtt", "bench"},
    "prometheus_client": {"serve"},
    "ai_edge_litert": {"classifier", "bench"},
    "tensorflow": {"classifier", "train"},
    "keras": {"classifier", "train", "bench"},
    "click": {"cli"},
    "amqtt": {"embedded"},
    "rich": {"watch", "demo", "cli"},
    "matplotlib": {"train"},
    "msgspec": {"wire", "watch"},
    "simdjson": {"wire"},
    "scipy": {"core", "simulate", "train", "bench"},
}
OUTER_OF_CORE = {"numpy", "scipy"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return {"__init__.py": ""}.get(first, first.removesuffix(".py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module imported anywhere in the file, and whether at its top level (type checking aside)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            if node.module == "harstream":
                yield from ((f"harstream.{alias.name}", id(node) in top) for alias in node.names)
            else:
                yield node.module, id(node) in top


def _imported(path: Path, known: set[str]) -> set[str]:
    """The modules of this project that a file imports, wherever in it and for whatever purpose."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & known


def test_there_are_no_import_cycles():
    """An import inside a function or only for types counts too: whoever reads the one must read the other."""
    paths = [*modules(), *sorted(RESEARCH.rglob("*.py"))]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    sorter = TopologicalSorter({name: _imported(path, set(names)) for name, path in names.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(f"an import cycle: {' <- '.join(error.args[1])}")


def test_only_the_checkout_knows_research():
    """What is not in the wheel may not be needed by what is."""
    for path in modules():
        assert not [name for name, _ in imports(path) if name.partition(".")[0] in ("research", "tests")], path


def test_every_module_has_a_layer():
    assert {layer(path) for path in modules()} == set(ALLOWED)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_layer_may(path: Path):
    mine = layer(path)
    allowed = ALLOWED[mine]
    for name, _ in imports(path):
        outer, _, rest = name.partition(".")
        if outer != "harstream":
            assert mine in HOMES.get(outer, {mine}), f"{path}: {outer} has its home in {HOMES[outer]}"
            if mine == "core" and outer not in OUTER_OF_CORE:
                assert outer in sys.stdlib_module_names, f"{path}: core may not import {outer}"
        elif allowed is not None:
            other = rest.partition(".")[0]
            other = "" if other.startswith("__version__") else other
            assert other == mine or other in allowed, f"{path}: {mine} may not import {other!r}"


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "train").rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_a_module_of_train_imports_only_what_its_storey_may(path: Path):
    mine = path.relative_to(PACKAGE / "train").parts[0].removesuffix(".py")
    storeys = {name for name in TRAIN_ALLOWED if name != mine} - TRAIN_ALLOWED[mine]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith("harstream.train."):
            names = {f"{node.module}.{alias.name}".split(".")[2] for alias in node.names}
            assert not names & storeys, f"{path}: train.{mine} may not import {names & storeys} of train"


@pytest.mark.parametrize("name", ["socket", "time", "threading", "logging", "asyncio", "datetime"])
def test_core_has_no_socket_clock_thread_or_log(name: str):
    users = [path for path in modules() if layer(path) == "core" and name in {n for n, _ in imports(path)}]
    assert users == []


def test_core_keeps_nothing_global():
    for path in modules():
        if layer(path) == "core":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)], path


def test_core_reduces_without_blas():
    """A matrix product changed its last bits with the batch's shape."""
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
        ("import harstream.cli", ["paho", "tensorflow", "keras", "ai_edge_litert", "scipy", "amqtt"]),
        ("import harstream.config, harstream.mqtt.urls", ["paho"]),
        ("import harstream.serve.app", ["tensorflow", "keras", "amqtt", "rich", "matplotlib"]),
        ("import harstream.evaluate.scoring, harstream.evaluate.report", ["tensorflow", "keras", "matplotlib"]),
    ],
)
def test_importing_pulls_in_nothing_it_does_not_need(statement: str, absent: list[str]):
    code = f"{statement}\nimport sys\nprint(*[name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
