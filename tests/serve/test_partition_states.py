"""State of partitions in a folder that workers share: it goes on with the next worker, whatever happens to the disk."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from harstream import storage
from harstream.classifier import Classifier
from harstream.core.smoothing_section import Smoothing
from harstream.errors import ConfigError
from harstream.serve import partition_states as states
from harstream.serve.durable import folder as folders
from harstream.serve.durable import partition_files
from harstream.serve.durable.partition_files import PartitionFiles
from harstream.serve.labelling import DevicesLost
from harstream.serve.takeover import Gained, Lost

from ..fakes import Clock
from ..servers import DEADLINE_S, metric, wait_until
from .daemons import WrappedClassifier, exposed, make_worker, partitioned

Sent = Sequence[tuple[str, bytes]]

#: Smoothings whose state differs; the last one holds events back.
SMOOTHINGS = [
    Smoothing(),
    Smoothing("hysteresis", margin=0.1, windows=2),
    Smoothing("hmm", unknown_below=0.3, fixed_lag_windows=2),
]


class Worker:
    """Worker that is not connected and whose steps the test takes."""

    def __init__(self, classifier: Classifier, folder: Path | None, clock: Clock | None = None, **settings) -> None:
        self.clock = clock or Clock()
        self.daemon = make_worker(0, classifier, 0, monotonic=self.clock, state_dir=folder, **settings)
        self.published: list[tuple[str, bytes]] = []
        self.daemon.labelling._publish = self._publish  # type: ignore[method-assign]
        self.daemon.labelling.start()
        self.done: list[Gained | Lost] = []
        assert self.daemon.takeover is not None
        self.takeover = self.daemon.takeover
        self.takeover.confirm = self.done.append

    def _publish(self, messages: Sequence[tuple[str, bytes]], *, retain: bool) -> int:
        self.published += messages
        return len(messages)

    def step_until(self, condition: Callable[[], object], what: str) -> None:
        def holds() -> object:
            self.daemon.step(0)
            return condition()

        wait_until(holds, what)

    def gain(self, *partitions: int) -> None:
        """Begin to serve partitions."""
        before = len(self.done)
        self.takeover.ask(Gained(partitions))
        n = len(partitions) if self.daemon.states is not None else 1
        self.step_until(lambda: len(self.done) == before + n, "the partitions")
        self.settle()

    def lose(self, *partitions: int) -> None:
        """Give partitions up."""
        self.takeover.ask(Lost(partitions))
        self.step_until(lambda: self.done[-1:] == [Lost(partitions)], "the end of the partitions")

    def label(self, sent: Sent) -> None:
        """Label messages."""
        for topic, payload in sent:
            self.daemon.receive([(topic, payload, False, 0)])
        self.daemon.step(0)
        self.step_until(
            lambda: not len(self.daemon.inbox) and not self.daemon.sources[0].pipeline.engine.n_pending, "the windows"
        )
        self.settle()

    def settle(self) -> None:
        """Wait for the labelling thread."""
        labelled = threading.Event()
        self.daemon.labelling.hand_over(DevicesLost(self.daemon.sources[0].pipeline, [], labelled.set))
        assert labelled.wait(DEADLINE_S)

    def write(self) -> None:
        """Write the partitions that have changed, in turn."""
        partition_states = self.daemon.states
        assert partition_states is not None
        self.clock.now_s += states.SAVE_EVERY_S
        self.daemon.step(0)

        def written() -> bool:
            partition_states._next_save_s = -np.inf  # whatever it has cost
            return partition_states._saving is None and not partition_states._round

        self.step_until(written, "the state to be written")

    def events(self) -> list[tuple[str, str, str]]:
        """Return device, kind and label of all events."""
        events = [(topic, json.loads(payload)) for topic, payload in self.published if topic.endswith("/event")]
        return [(topic.split("/")[1], event["event"], event["label"]) for topic, event in events]

    def close(self) -> None:
        self.daemon.labelling.finish()
        self.takeover.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Return a function that makes workers with one folder."""
    made: list[Worker] = []

    def begin(classifier: Classifier, folder: Path | None = tmp_path / "state", **settings) -> Worker:
        made.append(Worker(classifier, folder, **settings))
        return made[-1]

    yield begin
    for worker in made:
        worker.close()


def smoothed(classifier: Classifier, smoothing: Smoothing) -> Classifier:
    """Return a classifier whose bundle has another smoothing."""
    wrapped = WrappedClassifier(classifier)
    wrapped.bundle = dataclasses.replace(classifier.bundle, smoothing=smoothing)
    return wrapped


def by_topic(published: Sequence[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    """Return the payloads of each topic, in order."""
    found: dict[str, list[bytes]] = {}
    for topic, payload in published:
        found.setdefault(topic, []).append(payload)
    return found


def files(worker: Worker, partition: int) -> list[Path]:
    """Return the files of a partition, the newest last."""
    folder = worker.daemon.config.shared_dir
    assert folder is not None
    return sorted((folder / f"partition-{partition}").iterdir())


def newest(worker: Worker, partition: int) -> Path:
    """Return the newest file of a partition in which something was written."""
    return [path for path in files(worker, partition) if path.stat().st_size][-1]


def assert_alternating(events: Sequence[tuple[str, str, str]]) -> None:
    """Assert that no device enters an activity before it has left the last one, nor leaves one that it is not in."""
    current: dict[str, str] = {}
    for device, kind, label in events:
        if kind == "enter":
            assert device not in current, f"{device} enters {label} in the middle of {current[device]}"
            current[device] = label
        else:
            assert current.pop(device, None) == label


# --- in order -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", SMOOTHINGS, ids=lambda smoothing: smoothing.type)
def test_a_partition_that_changes_its_worker_gets_the_labels_and_events_of_one_that_does_not(
    make, classifier, subjects, smoothing
):
    model, sent = smoothed(classifier, smoothing), list(partitioned(subjects[:2]))
    alone = make(model, None)
    alone.gain(0, 1)
    alone.label(sent)
    first, second = make(model), make(model)
    first.gain(0, 1)
    second.gain()
    published = []
    for k, begin in enumerate(range(0, len(sent), 7)):  # in the middle of windows
        serving, other = (first, second) if k % 2 == 0 else (second, first)
        part = sent[begin : begin + 7]
        serving.label([message for message in part if message[0].startswith("p/1/")])
        first.label([message for message in part if message[0].startswith("p/0/")])
        published += [*serving.published, *(first.published if serving is second else [])]
        for worker in (first, second):
            worker.published.clear()
        serving.lose(1)
        assert serving.published == []
        other.gain(1)
        assert other.published == []
    assert by_topic(published) == by_topic(alone.published)
    assert metric(exposed(second.daemon), "harstream_devices_restored_total") == 5
    assert len(files(first, 1)) <= 2  # those of earlier terms are deleted


def test_health_units_and_last_labels_go_on(make, classifier, subjects):
    sent = list(partitioned(subjects[:2]))
    first, second = make(classifier, acc_unit="auto"), make(classifier, acc_unit="auto")
    first.gain(0)
    first.label([*sent[:40:2], sent[0]])  # one comes twice
    before = first.daemon.sources[0].pipeline.engine.health()
    label = first.daemon.sources[0].pipeline.last_labels.get(subjects[0].name)
    first.lose(0)
    assert first.daemon.sources[0].pipeline.engine.n_devices == 0
    assert not first.daemon.sources[0].pipeline.last_labels.devices
    assert not first.daemon.sources[0].pipeline.last_labels.to_clear
    second.gain(0)
    after = second.daemon.sources[0].pipeline.engine.health()
    assert before.acc_unit == after.acc_unit == ["g"]
    assert before.late.tolist() == after.late.tolist() == [25]
    assert second.daemon.sources[0].pipeline.last_labels.get(subjects[0].name) == label


def test_a_daemon_that_stops_leaves_its_partitions_to_the_next(make, classifier, subjects):
    sent = list(partitioned(subjects[:2]))
    first, second = make(classifier), make(classifier)
    first.gain(0, 1)
    first.label(sent[:40])
    first.published.clear()
    first.clock.now_s = np.inf  # the disk is fast enough
    first.takeover.lose_all(2)
    second.gain(0, 1)
    assert sorted(second.daemon.sources[0].pipeline.engine.devices) == [subject.name for subject in subjects[:2]]
    assert first.published == second.published == []


def test_a_device_that_was_evicted_does_not_come_back(make, classifier, subjects):
    sent = list(partitioned(subjects[:1]))
    first, second = make(classifier), make(classifier)
    first.gain(0)
    first.label(sent)
    first.write()
    first.daemon.config = dataclasses.replace(first.daemon.config, idle_s=1.0)
    first.clock.now_s += 10
    first.step_until(lambda: not first.daemon.sources[0].pipeline.engine.n_devices, "the eviction")
    first.write()
    second.gain(0)  # after a crash
    assert second.daemon.sources[0].pipeline.engine.devices == []


def test_devices_for_which_there_is_no_room_leave_their_activities(make, classifier, subjects):
    first, second = make(classifier), make(classifier, max_devices=1)
    first.gain(0, 1)
    first.label(list(partitioned(subjects[:2])))
    first.lose(0, 1)
    second.gain(0, 1)
    assert second.daemon.sources[0].pipeline.engine.n_devices == 1
    assert len(second.daemon.sources[0].pipeline.last_labels.devices) == 1
    assert [kind for _, kind, _ in second.events()] == ["exit"]
    assert_alternating([*first.events(), *second.events()])


# --- after a crash --------------------------------------------------------------------------------------


def test_after_a_crash_activities_end_before_others_begin(make, classifier, subjects):
    sent = list(partitioned(subjects[:2]))
    first, second = make(classifier), make(classifier)
    first.gain(0, 1)
    first.label(sent[:40])
    first.write()
    assert first.daemon.status().durability.checkpoints == 2
    second.gain(0, 1)
    second.label(sent[:40])  # old messages that come again
    assert second.published == []
    second.label(sent[48:])  # those of two seconds are lost
    events = [*first.events(), *second.events()]
    assert_alternating(events)
    assert {device for device, kind, _ in second.events() if kind == "exit"} == {s.name for s in subjects[:2]}


def test_after_a_crash_without_a_missing_message_windows_go_on(make, classifier, subjects):
    sent = list(partitioned(subjects[:2]))
    alone, first, second = make(classifier, None), make(classifier), make(classifier)
    for worker in (alone, first):
        worker.gain(0, 1)
    alone.label(sent)
    first.label(sent[:41])
    first.write()
    second.gain(0, 1)
    second.label(sent[41:])
    assert by_topic([*first.published, *second.published]) == by_topic(alone.published)


def test_only_partitions_that_have_changed_are_written_again(make, classifier, subjects):
    sent = list(partitioned(subjects[:2]))
    worker = make(classifier)
    worker.gain(0, 1)
    worker.label(sent[:20])
    worker.write()
    assert worker.daemon.status().durability.checkpoints == 2
    worker.clock.now_s += 1
    worker.write()
    assert worker.daemon.status().durability.checkpoints == 2
    worker.clock.now_s += 1
    worker.label([message for message in sent[20:40] if message[0].startswith("p/1/")])
    worker.write()
    assert worker.daemon.status().durability.checkpoints == 3
    worker.clock.now_s += 1
    worker.lose(0)  # which has not changed
    assert worker.daemon.status().durability.checkpoints == 3


# --- what is in the file --------------------------------------------------------------------------------


@pytest.fixture
def left(make, classifier, subjects) -> Worker:
    """Return a worker that has left partition 0 with one device that is in an activity."""
    worker = make(classifier)
    worker.gain(0)
    worker.label(list(partitioned(subjects[:1])))
    worker.lose(0)
    return worker


def test_damage_anywhere_is_named_and_the_devices_begin_anew(make, classifier, left, caplog):
    path = newest(left, 0)
    data = path.read_bytes()
    body = len(folders.HEADER) + 32
    damaged = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (0, 5, body - 1, body, body + 99, -1)]
    damaged += [data[: len(data) // 2], data[:10], data.replace(b"checkpoint 2", b"checkpoint 9"), b"?"]
    damaged += [folders.encode({}, {}), folders.encode({"partition": 0, "partition_count": 2}, {})]
    for number, content in enumerate(damaged):
        folder = left.daemon.config.state_dir
        assert folder is not None
        own = folder.with_name(f"damaged-{number}")
        other = make(classifier, own)
        path = own / "workers-harstream/partition-0/state-00000007"
        path.parent.mkdir()
        path.write_bytes(content)
        caplog.clear()
        other.gain(0)
        assert other.daemon.sources[0].pipeline.engine.devices == []
        (line,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert line.startswith(f"state-dir: {path}: ")
        assert line.endswith("; the devices of partition 0 begin anew")
        other.write()
        assert files(other, 0) == [path.with_name("state-00000008")]  # the next worker does not read the other again


def test_a_file_of_another_partition_or_number_of_partitions_is_not_taken(make, classifier, left, caplog):
    other = make(classifier, partition_count=3)
    other.gain(0)
    assert other.daemon.sources[0].pipeline.engine.devices == []
    assert "it is of partition 0 of 2, expected partition 0 of 3; the devices of partition 0 begin anew" in caplog.text
    path = newest(left, 0)
    path.parent.with_name("partition-1").mkdir()
    path.rename(path.parent.with_name("partition-1") / path.name)
    another = make(classifier)
    another.gain(1)
    assert "it is of partition 0 of 2, expected partition 1 of 2; the devices of partition 1 begin anew" in caplog.text


def test_what_is_no_file_is_named(make, classifier, left, caplog):
    path = newest(left, 0)
    path.unlink()
    os.mkfifo(path)
    other = make(classifier)
    other.gain(0)
    assert f"{path}: it is a FIFO, expected a regular file; the devices of partition 0 begin anew" in caplog.text


def test_with_other_windows_the_devices_begin_anew_and_their_activities_end(make, classifier, left, subjects, caplog):
    model = WrappedClassifier(classifier)
    spec = dataclasses.replace(classifier.bundle.spec, stride_samples=32)
    model.bundle = dataclasses.replace(classifier.bundle, name="other", spec=spec)
    other = make(model)
    other.gain(0)
    assert other.daemon.sources[0].pipeline.engine.devices == []
    assert f"{newest(left, 0)}: its windows are those of random@0.0.1, but other@0.0.1 needs others" in caplog.text
    assert [kind for _, kind, _ in other.events()] == ["exit"]
    other.label(list(partitioned(subjects[:1])))
    assert_alternating([*left.events(), *other.events()])


def test_with_another_smoothing_windows_go_on_and_activities_end(make, classifier, left, subjects, caplog):
    other = make(smoothed(classifier, SMOOTHINGS[1]))
    other.gain(0)
    assert other.daemon.sources[0].pipeline.engine.devices == [subjects[0].name]
    assert "whose labels or smoothing differ from those of random@0.0.1; its activities end" in caplog.text
    assert [kind for _, kind, _ in other.events()] == ["exit"]


def test_a_model_with_the_same_windows_and_labels_goes_on(make, classifier, left, subjects, caplog):
    model = WrappedClassifier(classifier)
    model.bundle = dataclasses.replace(classifier.bundle, version="9")
    other = make(model)
    other.gain(0)
    assert other.daemon.sources[0].pipeline.engine.devices == [subjects[0].name]
    assert other.events() == []
    assert caplog.text == ""


def test_groups_do_not_read_each_others_files(make, classifier, left):
    other = make(classifier, worker_group="other")
    other.gain(0)
    assert other.daemon.sources[0].pipeline.engine.devices == []
    assert newest(left, 0).exists()


# --- a worker that stood still --------------------------------------------------------------------------


def test_a_worker_that_stood_still_replaces_nothing_and_ends_no_activity(make, classifier, subjects):
    sent = list(partitioned(subjects[:1]))
    stale, owner, third = make(classifier), make(classifier), make(classifier)
    stale.gain(0)
    stale.label(sent[:20])
    stale.write()
    owner.gain(0)
    owner.label(sent[20:])
    owner.write()
    wanted = newest(owner, 0).read_bytes()
    stale.clock.now_s += 1
    stale.label(sent[20:21])  # it does not know yet
    stale.write()
    stale.label(sent[21:])
    stale.published.clear()
    stale.lose(0)
    assert stale.events() == []
    assert newest(owner, 0).read_bytes() == wanted
    assert stale.daemon.status().durability.checkpoints == 3
    third.gain(0)
    third.label(sent)  # all of them are old
    assert third.published == []
    state, other = (each.daemon.sources[0].pipeline.engine.snapshot() for each in (owner, third))
    assert state["windows.written"].tolist() == other["windows.written"].tolist()


def test_a_worker_that_stood_still_and_cannot_write_ends_no_activity_either(make, classifier, subjects, monkeypatch):
    stale, owner = make(classifier), make(classifier)
    stale.gain(0)
    stale.label(list(partitioned(subjects[:1])))
    owner.gain(0)
    stale.published.clear()
    monkeypatch.setattr(PartitionFiles, "save", full)
    stale.lose(0)
    assert stale.events() == []


def test_without_a_lease_nothing_is_written(make, classifier, subjects):
    worker = make(classifier)
    worker.gain(0)
    worker.label(list(partitioned(subjects[:1])))
    worker.takeover.lease_end_s = worker.clock.now_s
    worker.clock.now_s += 100
    for _ in range(10):
        worker.daemon.step(0)
    assert not worker.daemon.states._begun_s
    assert worker.daemon.status().durability.checkpoints == 0
    worker.takeover.lease_end_s = np.inf
    worker.write()
    assert worker.daemon.status().durability.checkpoints == 1


# --- the disk -------------------------------------------------------------------------------------------


def full(*_: object) -> None:
    """Fail as a full disk does."""
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_said_once_a_minute_counted_and_holds_up_nothing(
    make, classifier, subjects, monkeypatch, caplog
):
    sent = list(partitioned(subjects[:1]))
    worker, other = make(classifier), make(classifier)
    worker.gain(0)
    worker.label(sent[:20])
    with monkeypatch.context() as patched:
        patched.setattr(PartitionFiles, "save", full)
        for number in range(1, 4):
            worker.write()
            assert metric(exposed(worker.daemon), "harstream_state_failures_total") == number
        assert caplog.text.count("No space left on device; no state can be written") == 1
        worker.clock.now_s += 60
        worker.write()
        assert caplog.text.count("No space left on device; no state can be written") == 2
        worker.label(sent[20:])
        assert len(worker.daemon.sources[0].pipeline.last_labels.devices) == 1
        worker.lose(0)
    assert_alternating(worker.events())
    assert worker.events()[-1][1] == "exit"  # nothing is left of it, so that nobody goes on with the activity
    other.gain(0)
    assert other.daemon.sources[0].pipeline.engine.devices == []
    assert other.published == []


def test_after_a_full_disk_the_state_is_written_again(make, classifier, subjects, monkeypatch):
    worker, other = make(classifier), make(classifier)
    worker.gain(0)
    worker.label(list(partitioned(subjects[:1])))
    with monkeypatch.context() as patched:
        patched.setattr(PartitionFiles, "save", full)
        worker.write()
    worker.clock.now_s += 1
    worker.write()
    other.gain(0)
    assert other.daemon.sources[0].pipeline.engine.devices == [subjects[0].name]


@pytest.fixture
def hanging(monkeypatch) -> Iterator[Callable[[str], None]]:
    """Return a function that lets calls of a method of PartitionFiles wait until ``release`` or the end of the test."""
    release = threading.Event()

    def hang(name: str) -> None:
        method = getattr(PartitionFiles, name)

        def wait(self, *arguments):
            release.wait(DEADLINE_S)
            return method(self, *arguments)

        monkeypatch.setattr(PartitionFiles, name, wait)

    hang.release = release.set  # type: ignore[attr-defined]
    yield hang
    release.set()


def test_a_disk_that_hangs_while_it_is_read_is_waited_for_a_while(make, classifier, left, subjects, hanging, caplog):
    hanging("begin_term")
    other = make(classifier)
    other.takeover.ask(Gained((0, 1)))
    other.daemon.step(0)
    other.clock.now_s += states.LOAD_S - 0.1
    other.daemon.step(0)
    assert other.done == []
    other.clock.now_s += 0.2
    other.daemon.step(0)
    assert other.done == [Gained((0,)), Gained((1,))]
    assert "reading takes more than 1.5 s; labels go on without it" in caplog.text
    other.label(list(partitioned(subjects[:1])))
    assert other.daemon.sources[0].pipeline.engine.n_devices == 1
    hanging.release()
    other.step_until(lambda: other.daemon.states._terms[0].number, "the term")
    other.clock.now_s += 1
    other.lose(0)
    third = make(classifier)
    third.gain(0)
    assert third.daemon.sources[0].pipeline.engine.devices == [subjects[0].name]
    assert_alternating([*other.events(), *third.events()])


def test_a_term_that_begins_after_the_lease_has_ended_is_not_used(make, classifier, subjects, hanging):
    hanging("begin_term")
    worker = make(classifier)
    worker.takeover.ask(Gained((0,)))
    worker.daemon.step(0)
    worker.clock.now_s += states.LOAD_S + 0.1
    worker.daemon.step(0)
    worker.takeover.lease_end_s = worker.clock.now_s - 0.1
    hanging.release()
    worker.step_until(lambda: worker.daemon.states._terms[0].again_s < np.inf, "the answer")
    assert worker.daemon.states._terms[0].number is None
    worker.takeover.lease_end_s = np.inf
    worker.clock.now_s += 60
    worker.step_until(lambda: worker.daemon.states._terms[0].number == 2, "another term")


def test_a_disk_that_hangs_while_it_is_written_does_not_keep_the_partition(make, classifier, subjects, hanging, caplog):
    worker = make(classifier)
    worker.gain(0)
    worker.label(list(partitioned(subjects[:1])))
    worker.published.clear()
    hanging("save")
    worker.takeover.ask(Lost((0,)))
    for _ in range(5):
        worker.daemon.step(0)
    assert worker.done[-1] != Lost((0,))
    worker.clock.now_s += states.SAVE_S + 0.1
    worker.step_until(lambda: worker.done[-1] == Lost((0,)), "the end of the partition")
    assert worker.published == []  # what is written later may be read by the next worker
    assert "writing takes more than 2 s; labels go on without it" in caplog.text


def test_while_the_disk_hangs_no_further_copies_are_made(make, classifier, subjects, hanging, caplog):
    sent = list(partitioned(subjects[:2]))
    worker = make(classifier)
    worker.gain(0, 1)
    worker.label(sent[:20])
    hanging("save")
    worker.clock.now_s += 100
    worker.step_until(lambda: worker.daemon.states._saving, "the writing")
    worker.clock.now_s += 100
    worker.label(sent[20:])
    copies = []
    worker.daemon.states._save = lambda *arguments, **_: copies.append(arguments)
    worker.daemon.step(0)
    worker.lose(0)
    assert copies == []
    assert "writing takes more than 10 s; labels go on without it" in caplog.text


def test_a_disk_that_cannot_be_read_is_said_and_counted(make, classifier, left, monkeypatch, caplog):
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    other = make(classifier)
    with monkeypatch.context() as patched:
        patched.setattr(PartitionFiles, "begin_term", broken)
        other.gain(0, 1)
    assert other.daemon.sources[0].pipeline.engine.devices == []
    assert caplog.text.count("Input/output error; devices that come from another worker begin anew") == 1
    assert metric(exposed(other.daemon), "harstream_state_failures_total") == 2
    other.clock.now_s += 100
    other.step_until(lambda: all(term.number for term in other.daemon.states._terms.values()), "the terms")


def test_a_folder_that_cannot_be_made_ends_the_start(classifier, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"state-dir: .*file/state/workers-harstream: Not a directory; choose"):
        make_worker(0, classifier, 0, state_dir=tmp_path / "file/state")


# --- files ----------------------------------------------------------------------------------------------


def test_no_two_workers_have_one_term_though_a_folder_may_be_listed_as_it_was(tmp_path, monkeypatch):
    first, second = PartitionFiles(tmp_path), PartitionFiles(tmp_path)
    assert [first.begin_term(3) for _ in range(3)] == [1, 2, 3]
    monkeypatch.setattr(second, "_terms", lambda partition: [1])
    assert second.begin_term(3) == 4


def test_the_newest_file_in_which_something_was_written_is_read(tmp_path):
    one = PartitionFiles(tmp_path)
    for _ in range(4):
        one.begin_term(3)
    assert one.load(3, 4) is None
    one.file(3, 1).write_bytes(b"one")
    one.file(3, 2).write_bytes(b"two")
    (tmp_path / "partition-3/state-00000003.tmp").write_bytes(b"a part")
    (tmp_path / "partition-3/notes").write_bytes(b"somebody's")
    assert one.load(3, 4) == (one.file(3, 2), b"two")
    assert not one.is_over(3, 4)
    assert one.is_over(3, 3)
    one.save(3, 4, b"four")
    assert sorted(path.name for path in (tmp_path / "partition-3").iterdir()) == ["notes", "state-00000004"]
    one.save(3, 2, b"late")  # of a worker that stood still
    assert one.load(3, 5) == (one.file(3, 4), b"four")
    one.remove(3, 4)
    assert one.load(3, 5) is None


def test_a_file_that_is_deleted_while_it_is_to_be_read_is_looked_for_again(tmp_path, monkeypatch):
    """The worker of the term before wrote its state late, and deleted the older file."""
    files = PartitionFiles(tmp_path)
    first, second = files.begin_term(3), files.begin_term(3)
    files.save(3, first, b"older")
    read = storage.read_file

    def late(path, max_bytes):
        if path == files.file(3, first) and path.exists():
            files.save(3, second, b"newer")
        return read(path, max_bytes)

    monkeypatch.setattr(partition_files, "read_file", late)
    assert files.load(3, files.begin_term(3)) == (files.file(3, second), b"newer")
