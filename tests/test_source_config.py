"""The ``[[source]]`` tables of the settings file: what they leave out, what contradicts, and how they are shown."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harstream import trial
from harstream.cli import main
from harstream.config import RunConfig
from harstream.errors import ConfigError
from harstream.settings_file import read_file
from harstream.source_config import SOURCE_KEYS

#: Three kinds of devices.
THREE = """
model = "waist"
acc_unit = "m/s2"

[[source]]
name = "belts"
acc_unit = "g"

[[source]]
topic = "imu/{device}"
payload = "fields"
model = "phone"
axes = ["-y", "x", "z"]
labels-topic = "imu/{device}/activity"
events_topic = "off"
[source.fields]
t = "timestamp"
acc = ["accX", "accY", "accZ"]

[[source]]
topic = "sensor-logger"
payload = "sensor-logger"
"""


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "harstream.toml"
        path.write_text(text)
        return path

    return write


def config_of(*tables: dict[str, object], **settings: object) -> RunConfig:
    return RunConfig(instance="i", source=tables, **settings)  # type: ignore[arg-type]


def test_without_tables_the_top_level_is_the_one_source():
    (source,) = RunConfig(topic="a/{device}", model="waist", acc_unit="g", events_topic="off").sources
    assert (source.name, source.where) == ("source1", "")
    assert (source.topic, source.model, source.acc_unit, source.events_topic) == ("a/{device}", "waist", "g", "off")


def test_what_a_table_leaves_out_is_as_at_the_top_level(toml):
    first, second, third = RunConfig(**read_file(toml(THREE))).sources
    assert [source.name for source in (first, second, third)] == ["belts", "source2", "source3"]
    assert [source.where for source in (first, third)] == ["source belts: ", "source source3: "]
    assert (first.topic, first.model, first.acc_unit) == ("wearables/{device}/imu", "waist", "g")
    assert (second.model, second.units.acc, second.labels_topic) == ("phone", "m/s2", "imu/{device}/activity")
    assert second.events_template is None
    assert second.payload_config.fields.acc == ("accX", "accY", "accZ")
    assert second.payload_config.axes.columns == (1, 0, 2)
    assert (third.payload, third.model, third.fields) == ("sensor-logger", "waist", None)
    assert not third.samples_template.has_device
    # Two of them publish to the same topics.
    assert first.labels_topic == third.labels_topic


def test_a_flag_is_a_default_of_tables_like_the_file_above_them(toml):
    path = str(toml(THREE))
    shown = CliRunner().invoke(main, ["config", "show", "--config", path, "--model", "wrist"]).output
    assert [line for line in shown.splitlines() if "model = " in line] == [
        'model = "wrist"  # --model',
        '# model = "wrist"  # as above',
        f'model = "phone"  # {path}',
        '# model = "wrist"  # as above',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[source]\ntopic = 'a'", "source: expected tables that begin with [[source]]"),
        ("source = 'a'", "source: expected tables"),
        (
            "[[source]]\ntopics = 'a'",
            "source source1: 'topics' does not exist in [[source]]; known are name, topic, acc_topic",
        ),
        ("[[source]]\nbackend = 'int8'", "source source1: 'backend' does not exist in [[source]]"),
        ("[[source]]\nname = 3", "source 1: name: expected a text, got int"),
        ("[[source]]\nname = 'x'\nacc_unit = 'kg'", "source x: acc_unit: "),
        ("source = ''", "source: expected tables"),
        ("[[source]]\nacc_unit = 'g'\nacc-unit = 'g'", "source source1: acc-unit: the setting is given twice"),
        ("[[source]]\n[source.fields]\naccel = 'x'", "source source1: fields: 'accel' does not exist"),
        ("[[sources]]\ntopic = 'a'", "'sources' does not exist; did you mean 'source'?"),
    ],
)
def test_a_table_that_is_wrong_is_named_with_its_file(toml, text, message):
    path = toml(text)
    with pytest.raises(ConfigError) as error:
        read_file(path)
    assert str(error.value).startswith(f"config: {path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_with_a_topic_of_samples_takes_none_from_above():
    apart: dict[str, Any] = {"acc_topic": "w/{device}/a", "gyro_topic": "w/{device}/g"}
    own, above = RunConfig(**apart, source=({"topic": "a/{device}"}, {})).sources
    assert (own.samples_topics, above.samples_topics) == ("a/{device}", "w/{device}/a and w/{device}/g")
    own, above = RunConfig(topic="a/{device}", source=(apart, {})).sources
    assert (own.samples_topics, above.samples_topics) == ("w/{device}/a and w/{device}/g", "a/{device}")


TWO = {"topic": "a/{device}"}, {"topic": "b/{device}"}


@pytest.mark.parametrize(
    ("tables", "settings", "message"),
    [
        (({"name": "a b"},), {}, "source a b: name: 'a b' is not 1 to 64 letters"),
        (({"name": ""},), {}, "name: '' is not 1 to 64 letters"),
        (({"name": "x", **TWO[0]}, {"name": "x", **TWO[1]}), {}, "source x: two sources have this name"),
        (
            ({"name": "source2", **TWO[0]}, TWO[1]),
            {},
            "source source2: two sources have this name; give each its own",
        ),
        (
            (TWO[0], {}),
            {"topic": "a/{device}"},
            "source source2: topic: 'a/{device}' and source source1: topic 'a/{device}' match the same topics",
        ),
        (({"topic": "a/{device}"}, {"topic": "a/b"}), {}, "source source2: topic: 'a/b' and source source1: topic"),
        (
            (TWO[0], {"topic": "b/{device}", "labels_topic": "a/{device}"}),
            {},
            "source source2: labels-topic: 'a/{device}' and source source1: topic 'a/{device}' match the same topics",
        ),
        (
            (TWO[0], {"topic": "b/{device}", "labels_topic": "wearables/{device}/activity/event"}),
            {},
            "source source2: labels-topic: 'wearables/{device}/activity/event' and source source1: events-topic ",
        ),
        # Equal topics are shared; others that match the same ones are a mistake.
        (
            (TWO[0], {**TWO[1], "labels_topic": "{device}/x/activity"}),
            {},
            "source2: labels-topic: '{device}/x/activity'",
        ),
        (({"topic": "harstream/{device}/status"},), {}, "source source1: topic: 'harstream/{device}/status' matches"),
        (({"payload": "fields"},), {}, "source source1: payload: fields needs the place of acc"),
        (({"topic": "imu", "payload": "packed"},), {}, "source source1: topic: packed messages name no device"),
        (({"topic": "imu/+"},), {}, "source source1: topic: "),
        (({"acc_topic": "a/{device}"},), {}, "source source1: acc-topic: it goes with gyro-topic"),
        (({"axes": "x y"},), {}, "source source1: axes: 'x y' does not name x, y and z once each"),
        (({"events_topic": "none"},), {}, "source source1: events-topic: "),
        (TWO, {"topic": "c/{device}"}, "topic: no source uses 'c/{device}', because each has a topic of its own"),
        (TWO, {"partitions": "0-3"}, "source source1: partitions: the topic 'a/{device}' has no level {partition}"),
        (
            ({"topic": "a/{partition}/{device}"}, {"topic": "b/{partition}/{device}"}),
            {"worker": "0/2", "partition_count": 4},
            "worker: workers share the partitions of one source, but there are 2 [[source]] tables; start workers for",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_one_line(tables, settings, message):
    with pytest.raises(ConfigError) as error:
        config_of(*tables, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_worker_may_serve_a_source_of_a_table():
    config = config_of({"topic": "a/{partition}/{device}", "name": "a"}, worker="0/2", partition_count=4)
    assert config.served_partitions == (0, 2)
    assert config.sources[0].samples_template.has_partition


def test_show_prints_a_file_with_the_same_sources(toml):
    shown = CliRunner().invoke(main, ["config", "show", "--config", str(toml(THREE))]).output
    again = toml(shown)
    read = RunConfig(**read_file(again))
    assert read.sources == RunConfig(**read_file(toml(THREE))).sources
    tables = tomllib.loads(shown)["source"]
    assert [set(table) for table in tables] == [
        {"name", "acc_unit"},
        {"topic", "payload", "model", "axes", "labels_topic", "events_topic", "fields"},
        {"topic", "payload"},
    ]
    # What is left out is shown too.
    lines = shown[shown.index("[[source]]") :].splitlines()
    assert sum(line.lstrip("# ").partition(" = ")[0] in SOURCE_KEYS for line in lines) == 3 * len(SOURCE_KEYS)
    assert '# name = "source2"  # default' in lines
    assert '# acc_unit = "m/s2"  # as above' in lines


def test_without_tables_show_prints_none():
    assert "[[source]]" not in CliRunner().invoke(main, ["config", "show"]).output


def test_check_loads_each_model_once_and_names_each_source(toml, random_bundle, own_bundle, monkeypatch):
    loaded: list[str] = []
    real = trial.load

    def load(model: str, backend: str, **options):
        loaded.append(model)
        return real(model, backend, **options)

    monkeypatch.setattr("harstream.trial.load", load)
    link = own_bundle.parent / "link"
    link.symlink_to(random_bundle)
    path = toml(
        f'broker = "mqtt://h"\nmodel = "{random_bundle}"\n[[source]]\nname = "one"\n'
        f'[[source]]\ntopic = "two/{{device}}"\nmodel = "{own_bundle}"\n[[source]]\ntopic = "three"\nmodel = "{link}"\n'
    )
    done = CliRunner().invoke(main, ["config", "check", "--config", str(path)])
    assert done.exit_code == 0, done.output
    assert loaded == [str(random_bundle), str(own_bundle)]
    assert done.output.splitlines() == [
        "good: model random@0.0.1 (litert), broker mqtt://h:1883",
        "source one: samples wearables/{device}/imu (auto), model random@0.0.1, labels wearables/{device}/activity",
        "source source2: samples two/{device} (auto), model random@0.0.1, labels wearables/{device}/activity",
        "source source3: samples three (auto), model random@0.0.1, labels wearables/{device}/activity",
    ]
    (own_bundle / "model.tflite").write_bytes(b"other")
    done = CliRunner().invoke(main, ["config", "check", "--config", str(path)])
    assert (done.exit_code, "sha256" in done.output) == (3, True)
