"""README and docs agree with the program: tables, examples, links and measured values."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from harstream import bundle, cli
from harstream.bench import results
from harstream.classifier import load_classifier
from harstream.config import RunConfig
from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec
from harstream.embedded import EmbeddedBroker
from harstream.errors import BrokerError, BundleError, ConfigError
from harstream.mqtt.connection import Connection
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.serve.metrics import DaemonMetrics
from harstream.serve.status import DaemonStatus
from harstream.shipped import DEFAULT_MODEL
from harstream.train.fitting.recipe import FitConfig
from harstream.wire.decoder import Decoder, Message
from harstream.wire.payloads import decode
from harstream.wire.reject import REASONS
from harstream.wire.samples import Units
from harstream.wire.topics import TopicTemplate

from . import reference_pages
from .servers import DEADLINE_S

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def table(text: str, header: str) -> list[list[str]]:
    """Return the rows of the Markdown table in ``text`` whose header begins with ``header``."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def block(text: str, marker: str) -> str:
    """Return the fenced block after an HTML comment that begins with ``marker``."""
    match = re.search(rf"<!-- {marker}.*?-->\n```\w*\n(.*?)```", text, re.DOTALL)
    assert match, marker
    return match[1]


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_options_and_commands_are_documented_as_declared(name):
    assert reference_pages.generated(page(f"reference/{name}")) == reference_pages.PAGES[name](), (
        "the declarations have changed: run python -m tests.reference_pages"
    )


def test_every_setting_of_the_training_is_documented_with_its_default():
    shown = {
        name.strip("`"): default.strip("`") for name, _, default in table(page("reference/training.md"), "setting")
    }
    declared = {}
    for field in dataclasses.fields(FitConfig):
        default = getattr(FitConfig(), field.name)
        declared[field.name] = "none" if default in ("", {}) else json.dumps(default).strip('"')
    assert shown == declared


def test_the_metric_table_has_every_metric_with_its_labels_and_help_text():
    made = bundle.Bundle(Path(), "x", "1", ("A", "B"), SignalSpec(), 1.0, {})
    exposed = {}
    status = DaemonStatus(made.id, "litert", made.published_labels)
    for family in DaemonMetrics(made, "litert", lambda: status).registry.collect():
        if family.name.startswith("harstream"):
            name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
            names = {label for sample in family.samples for label in sample.labels} - {"le"}
            shown = ",".join(sorted(names)) if names and not name.endswith("_info") else ""
            exposed[name] = (shown, "gauge" if family.type == "info" else family.type, family.documentation)
    documented = {}
    for cell, kind, meaning in table(page("reference/metrics.md"), "metric"):
        name, _, labels = cell.strip("`").rstrip("}").partition("{")
        documented[name] = (labels, kind, meaning)
    assert documented == exposed


def test_the_reasons_are_those_of_the_program():
    assert {row[0].strip("`"): row[1] for row in table(page("reference/payloads.md"), "reason")} == REASONS


def test_the_exit_codes_are_those_of_the_program():
    codes = {row[0] for row in table(page("reference/options.md"), "exit code")}
    assert codes == {"0", "1", *(str(cli.EXIT_CODES[error]) for error in (ConfigError, BundleError, BrokerError))}


def test_the_example_payloads_are_accepted():
    texts = README + page("reference/payloads.md")
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", texts, re.DOTALL)]
    samples = [example for example in examples if "label" not in example]
    assert len(samples) == 3
    for example in samples:
        decoded = decode(json.dumps(example).encode(), Units())
        assert decoded.t_ns == 1763668800020000000
        assert (decoded.gyro is not None) == bool({"gyro", "gx"} & set(example))


def test_the_examples_of_other_payloads_are_decoded_with_the_settings_beside_them():
    text = page("reference/payloads.md")
    names = re.findall(r"<!-- example ([\w-]+) -->", text)
    assert names == ["fields", "sensor-logger", "phyphox", "senml", "csv"]
    for name in names:
        settings: dict = {"payload": name, "topic": "imu"}
        if f"<!-- settings {name} -->" in text:
            settings |= tomllib.loads(block(text, f"settings {name}"))
        if name == "csv":
            settings["topic"] = "imu/{device}"
        config = RunConfig(**settings)
        decoder = Decoder(
            config.samples_template,
            needs_gyro=name not in ("csv", "senml"),
            units=Units("g"),
            payload=config.payload_config,
        )
        sent = Message(config.topic.replace("{device}", "w1"), block(text, f"example {name}").encode(), 1.0)
        batch, rejections = decoder.decode([sent])
        assert (batch.counts.sum(), rejections) == (1 if name == "sensor-logger" else 2, []), name
        expected = (
            1751729987417535200
            if name == "sensor-logger"
            else 1763668812_010_000_000
            if name == "phyphox"
            else 1763668800020000000
        )
        assert abs(batch.t_ns[0] - expected) <= 1000, name


def test_the_shapes_that_auto_understands_are_decoded():
    for line in block(page("reference/payloads.md"), "examples auto").splitlines():
        decoded = decode(line.encode(), Units())
        assert decoded.t_ns == 1763668800020000000
        assert decoded.acc[0].tolist() == pytest.approx([0.01, 0.02, 0.99])


def test_the_daemon_labels_the_messages_of_the_example_publisher():
    broker = EmbeddedBroker(0)
    broker.start()
    messages: list[Message] = []
    enough = threading.Event()

    def receive(topic: str, payload: bytes, retained: bool) -> None:
        messages.append(Message(topic, payload, 0.0, retained))
        if len(messages) == 20:
            enough.set()

    template = TopicTemplate("wearables/{device}/imu")
    settings = BrokerSettings(BrokerUrl.parse(broker.url), "3.1.1")
    listener = Connection(settings, "listener", subscriptions=[template.subscription], on_message=receive)
    try:
        listener.open()
        code = (
            block(page("how-to/publish-samples.md"), "publisher")
            .replace("1883", str(broker.port))
            .replace("sleep(0.5)", "sleep(0.05)")
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        assert enough.wait(DEADLINE_S), f"received {len(messages)} of 20 messages"
    finally:
        listener.close()
        broker.close()
    batch, rejections = Decoder(template).decode(messages)
    assert rejections == []
    assert set(batch.devices) == {"my-device"}
    classifier = load_classifier(DEFAULT_MODEL, "litert")
    windows = Engine(classifier.bundle.spec).feed(batch)
    labels = [classifier.bundle.labels[i] for i in classifier.predict(windows.windows).probabilities.argmax(1)]
    assert labels == ["STILL"] * 6


def test_the_speeds_are_those_of_the_last_benchmark():
    figures = json.loads(page("results/bench.json"))["figures"]
    measured = results.markdown([results.Figure.from_dict(figure) for figure in figures]).splitlines()
    assert measured == bench_table(page("explanation/performance.md"))
    shown = bench_table(README)
    assert len(shown) > 4
    assert [line for line in measured if line in shown] == shown


def bench_table(text: str) -> list[str]:
    """Return the lines of the table after the comment that names its source."""
    lines = text.partition("<!-- bench: docs/results/bench.json -->\n")[2].splitlines()
    return lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 220


def test_links_in_documents_lead_to_files():
    """mkdocs checks the links between pages; this checks those to other files, and those of other documents."""
    broken = []
    for document in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *DOCS.rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_test_that_the_page_of_faults_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page("explanation/faults.md"))
    assert len(named) > 20
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {name}"
