"""DESIGN's import rules, kept by machine."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "harstream"

#: Who may import whom inside harstream: a module may import those of its own layer and of the listed ones.
ALLOWED = {
    "errors": set(),
    "core": {"errors"},
    "wire": {"core", "errors"},
    "bundle": {"core", "errors"},
    "datasets": {"wire", "core", "errors", "bundle"},
    "classifier": {"bundle", "core", "errors"},
    "golden": {"classifier", "bundle", "core", "errors"},
    "client": set(),
    "mqtt": {"client", "errors"},
    "embedded": {"errors"},
    "partitions": {"errors"},
    "config": {"partitions", "mqtt", "wire", "bundle", "classifier", "core", "errors"},
    "logs": set(),
    "signals": set(),
    "serve": {
        "config",
        "logs",
        "signals",
        "mqtt",
        "embedded",
        "golden",
        "classifier",
        "bundle",
        "wire",
        "core",
        "errors",
        "",
    },
    "train": {"golden", "classifier", "bundle", "datasets", "wire", "core", "errors", ""},
    "simulate": {"golden", "classifier", "datasets", "core", "errors"},
    "publish": {"mqtt", "wire", "core", "errors"},
    "replay": {"datasets", "core", "errors"},
    "record": {"mqtt", "datasets", "wire", "core", "errors"},
    "watch": {"mqtt", "wire", "errors"},
    "demo": {"watch", "signals", "config", "embedded", "mqtt", "wire", "errors"},
    "bench": {
        "serve",
        "simulate",
        "publish",
        "config",
        "logs",
        "embedded",
        "golden",
        "classifier",
        "bundle",
        "wire",
        "core",
        "errors",
        "",
    },
    "cli": None,  # everything
    "__main__": {"cli"},
    "": set(),  # harstream/__init__.py: the version only
}

#: The one home of each outer library; the benchmark has the bare ones as its ceilings.
HOMES = {
    "paho": {"client", "mqtt", "bench"},
    "prometheus_client": {"serve"},
    "ai_edge_litert": {"classifier", "bench"},
    "tensorflow": {"classifier", "train"},
    "keras": {"classifier", "train", "bench"},
    "click": {"cli"},
    "amqtt": {"embedded"},
    "rich": {"watch", "demo", "cli"},
    "matplotlib": {"train", "simulate"},
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
        ("import harstream.cli", ["tensorflow", "keras", "ai_edge_litert", "scipy", "amqtt"]),
        ("import harstream.serve.daemon", ["tensorflow", "keras", "amqtt", "rich", "matplotlib"]),
        ("import harstream.datasets.windows, harstream.evaluate.metrics", ["tensorflow", "keras"]),
    ],
)
def test_importing_pulls_in_nothing_it_does_not_need(statement: str, absent: list[str]):
    code = f"{statement}\nimport sys\nprint(*[name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
