"""Durable mode: journal, checkpoints, acknowledgements, and a daemon that is killed."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import weakref
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from harstream import storage
from harstream.errors import ConfigError
from harstream.mqtt import deliveries
from harstream.serve.durable import durability as durable
from harstream.serve.durable import folder as folders
from harstream.serve.durable import journal
from harstream.serve.durable.durability import Durability
from harstream.serve.durable.folder import StateFolder
from harstream.wire.decoder import Message

from ..servers import wait_until


def message(number: int, mid: int = 0, **fields) -> Message:
    """Return a message with a payload of its own."""
    delivery = mid and deliveries.number(mid, repeated=fields.pop("repeated", False), connection=1)
    return Message(f"wearables/w{number % 3}/imu", b"payload %d" % number, 1.5 * number, delivery=delivery, **fields)


class Broker:
    """Broker that answers what is published when the test says so."""

    def __init__(self) -> None:
        self.published = self.answered = 0
        self.acknowledged: list[int] = []

    def acknowledge(self, numbers: Sequence[int]) -> None:
        self.acknowledged += numbers


def raising(error: Exception):
    """Return a function that raises."""

    def function(*_):
        raise error

    return function


def begin(path, broker: Broker | None = None) -> tuple[Durability, Broker]:
    """Return the durable part of a daemon that begins or goes on."""
    broker = broker or Broker()
    one = Durability(path, lambda: 0.0, lambda: None)
    one.connect(broker)
    return one, broker


def positions(one: Durability) -> list[int]:
    """Return the positions of the messages that are restored."""
    return [record.position for record, _ in one.records() if isinstance(record, journal.Messages)]


def payloads(one: Durability) -> list[bytes]:
    """Return the payloads of the messages that are restored."""
    records = [record for record, _ in one.records() if isinstance(record, journal.Messages)]
    return [message.payload for record in records for message in record.messages]


def equals(owner: object, name: str, value: int) -> bool:
    """Return True if an attribute has a value."""
    return bool(getattr(owner, name) == value)


def wait_for_checkpoints(one: Durability, number: int) -> None:
    """Wait until that many checkpoints are written."""
    wait_until(lambda: one.stats.checkpoints == number, "the checkpoint")


# --- journal ------------------------------------------------------------------------------------

RECORDS: list[journal.Record] = [
    journal.Messages(2, [message(1, mid=7), message(2, retained=True)]),
    journal.Labelled(2),
    journal.Evicted("phones", ["w0", "w/ö"]),
    journal.Messages(3, [message(3, mid=65535)]),
]


def write(path, records=RECORDS, generation: int = 4) -> bytes:
    """Write a journal and return its bytes."""
    writer = journal.JournalWriter(path, generation)
    for record in records:
        writer.write(journal.encode(record))
    writer.close()
    return path.read_bytes()


def without_connection(record: journal.Record) -> journal.Record:
    """Return a record as a journal gives it back: of a delivery, the packet identifier only."""
    if not isinstance(record, journal.Messages):
        return record
    return journal.Messages(
        record.position, [one._replace(delivery=one.delivery & deliveries.MID) for one in record.messages]
    )


def test_a_journal_gives_back_what_was_written(tmp_path):
    write(tmp_path / "journal")
    assert list(journal.read(tmp_path / "journal", 4)) == [without_connection(record) for record in RECORDS]


def test_a_journal_that_was_cut_off_anywhere_gives_back_the_whole_records(tmp_path):
    path = tmp_path / "journal"
    data = write(path)
    ends = [len(write(tmp_path / "part", RECORDS[:n])) for n in range(len(RECORDS) + 1)]
    for length in range(len(data)):
        path.write_bytes(data[:length])
        whole = sum(end <= length for end in ends[1:])
        assert len(list(journal.read(path, 4))) == whole


def test_a_journal_with_a_wrong_byte_ends_before_it_and_says_so(tmp_path, caplog):
    path = tmp_path / "journal"
    data = write(path)
    first, second = (len(write(tmp_path / "part", RECORDS[:n])) for n in (0, 1))
    for at in range(first, len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        n = len(list(journal.read(path, 4)))
        assert n < len(RECORDS)
        assert n == 0 or at >= second
    assert f"{path}: the record at byte" in caplog.text


def test_a_journal_of_another_version_or_generation_is_refused(tmp_path):
    path = tmp_path / "journal"
    data = write(path)
    with pytest.raises(ValueError, match="of generation 4, expected 5"):
        list(journal.read(path, 5))
    path.write_bytes(data.replace(b"journal 2", b"journal 9"))
    with pytest.raises(ValueError, match="begins with b'harstream journal 9"):
        list(journal.read(path, 4))


def test_what_a_full_disk_took_of_a_record_is_written_over(tmp_path, monkeypatch):
    path = tmp_path / "journal"
    writer = journal.JournalWriter(path, 4)
    data, write_file = journal.encode(RECORDS[0]), writer._file.write

    class Full:
        """File of which the disk takes ten bytes."""

        taken = 0

        def write(self, view) -> int:
            if self.taken:
                raise OSError(28, "No space left on device")
            self.taken = write_file(view[:10])
            return self.taken

        def __getattr__(self, name):
            return getattr(real, name)

    real, writer._file = writer._file, Full()  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left"):
        writer.write(data)
    writer._file = real
    for record in RECORDS:
        writer.write(journal.encode(record))
    writer.close()
    assert list(journal.read(path, 4)) == [without_connection(record) for record in RECORDS]


# --- folder -------------------------------------------------------------------------------------


def save(folder: StateFolder, *generations: int) -> None:
    """Write checkpoints that hold their generation."""
    for generation in generations:
        folder.save(generation, folders.encode({"generation": generation}, {"array": np.arange(generation)}))


def test_the_newest_checkpoint_that_is_whole_is_read_whatever_part_of_the_other_is_damaged(tmp_path, caplog):
    folder = StateFolder(tmp_path)
    save(folder, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000002", "checkpoint-00000003", "lock"]
    newest = tmp_path / "checkpoint-00000003"
    data = newest.read_bytes()
    loaded = folder.load()
    assert loaded is not None
    generation, facts, arrays = loaded
    assert (generation, facts, arrays["array"].tolist()) == (3, {"generation": 3}, [0, 1, 2])
    body = len(folders.HEADER) + 32
    for damaged in (
        *(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (0, body - 1, body, body + 50, len(data) - 1)),
        data[: len(data) // 2],
        b"",
    ):
        newest.write_bytes(damaged)
        loaded = folder.load()
        assert loaded is not None
        assert loaded[0] == 2
    assert f"{newest} is damaged" in caplog.text
    (tmp_path / "checkpoint-00000002").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no checkpoint in .* can be read; restore the folder from a copy"):
        folder.load()


def test_what_is_no_file_in_the_folder_is_named(tmp_path, caplog):
    folder = StateFolder(tmp_path)
    save(folder, 1, 2)
    checkpoint, record = tmp_path / "checkpoint-00000002", tmp_path / "journal-00000002"
    checkpoint.unlink()
    for path in (checkpoint, record):
        os.mkfifo(path)
    loaded = folder.load()
    assert loaded is not None
    assert loaded[0] == 1
    assert f"{checkpoint} is damaged (it is a FIFO, expected a regular file)" in caplog.text
    with pytest.raises(ConfigError, match=f"{record}: it is a FIFO, expected a regular file; restore the folder"):
        list(folder.records(1))


def test_a_checkpoint_of_very_many_devices_can_be_read(monkeypatch):
    monkeypatch.setattr(storage.from_npz, "__defaults__", (100,))  # bytes of other archives
    array = np.arange(1_000)
    assert folders.decode(folders.encode({"a": 1}, {"x": array}))[1]["x"].tolist() == array.tolist()


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    folder = StateFolder(tmp_path)
    save(folder, 1)
    path = tmp_path / "checkpoint-00000001"
    path.write_bytes(path.read_bytes().replace(b"checkpoint 2", b"checkpoint 9"))
    with pytest.raises(ConfigError, match=r"'harstream checkpoint 9', but this version of harstream reads"):
        folder.load()


def test_a_folder_that_another_daemon_uses_is_refused(tmp_path):
    first = StateFolder(tmp_path / "state")
    with pytest.raises(ConfigError, match=r"another daemon uses .*state; stop it"):
        StateFolder(tmp_path / "state")
    first.close()
    StateFolder(tmp_path / "state").close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"state-dir: .*file/state: Not a directory; choose a folder"):
        StateFolder(tmp_path / "file" / "state")


# --- acknowledgements ---------------------------------------------------------------------------


def test_a_message_is_acknowledged_when_it_is_on_disk_and_its_labels_are_accepted(tmp_path):
    one, broker = begin(tmp_path)
    one.start()
    assert list(one.admit([message(1, 11), message(2, 12)])) == [message(1, 11), message(2, 12)]
    broker.published = 3
    one.note_labelled(1)
    broker.published = 5
    one.note_labelled(2)
    wait_until(lambda: one._journaled == 2, "the journal")
    assert broker.acknowledged == []
    broker.answered = 4
    one.note_answers()
    wait_until(lambda: len(broker.acknowledged) == 1, "the first")
    broker.answered = 5
    one.note_answers()
    wait_until(lambda: len(broker.acknowledged) == 2, "the second")
    assert [number & deliveries.MID for number in broker.acknowledged] == [11, 12]
    one.finish()


def test_while_the_disk_is_full_nothing_is_acknowledged_and_one_line_says_so(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "harstream")
    monkeypatch.setattr(durable, "_RETRY_S", 0.001)
    one, broker = begin(tmp_path)
    one.start()
    full, write_record = True, journal.JournalWriter.write

    def write(self, data, *, sync=True):
        if full:
            raise OSError(28, "No space left on device")
        write_record(self, data, sync=sync)

    monkeypatch.setattr(journal.JournalWriter, "write", write)
    one.admit([message(1, 11)])
    one.note_labelled(1)
    wait_until(lambda: one.stats.failures >= 3, "some attempts")
    assert broker.acknowledged == []
    full = False
    wait_until(lambda: broker.acknowledged, "the acknowledgement")
    lines = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(lines) == 1
    assert "No space left on device; nothing is acknowledged until it can be written" in lines[0].getMessage()
    wait_until(lambda: "works again" in caplog.text, "a line at the end")
    one.finish()


def test_what_the_broker_sends_again_is_known_and_acknowledged_but_not_fed_again(tmp_path):
    one, broker = begin(tmp_path)
    one.start()
    one.admit([message(1, 11), message(2, 12)])
    one.note_labelled(2)
    wait_until(lambda: len(broker.acknowledged) == 2, "the acknowledgements")
    one.finish()

    two, broker = begin(tmp_path)
    assert positions(two) == [2]
    two.start()
    two.note_labelled(2)
    again = [message(1, 11, repeated=True), message(3, 12, repeated=True), message(4, 13)]
    new = two.admit(again)
    assert list(new) == again[1:]  # the second has the identifier of another message
    two.note_labelled(two.position)
    wait_until(lambda: len(broker.acknowledged) == 3, "the acknowledgements")
    assert (two.position, two.stats.repeated) == (4, 1)
    two.finish()


def test_labels_that_the_broker_has_are_known_after_a_crash(tmp_path):
    one, broker = begin(tmp_path)
    one.start()
    for position in (1, 2, 3):
        one.admit([message(position, position)])
        broker.published = position
        one.note_labelled(position)
        one.note_evicted("source1", [f"w{position}"])
    broker.answered = 2
    one.note_answers()
    wait_until(lambda: len(broker.acknowledged) == 2, "the acknowledgements")
    one.finish()

    two, _ = begin(tmp_path)
    records = list(two.records())
    assert [known for record, known in records if isinstance(record, journal.Messages)] == [True, True, False]
    evicted = [(record.devices, known) for record, known in records if isinstance(record, journal.Evicted)]
    assert evicted == [(["w1"], True), (["w2"], False), (["w3"], False)]  # the second came after the labels of 2
    two.finish()


def test_a_checkpoint_is_written_when_its_labels_are_accepted_and_not_before(tmp_path):
    one, broker = begin(tmp_path)
    one.start()
    one.admit([message(1, 11)])
    checkpoint = one.begin_checkpoint(["a/+"])
    checkpoint.add("phones", {"model": "m"}, {"engine x": np.arange(3)})
    checkpoint.add("phones", {"states": []}, {"smoother x": np.arange(2)})
    assert not one.checkpoint_due(100.0)  # one at a time
    broker.published = 1
    one.note_labelled(1)
    one.save(checkpoint)
    one.admit([message(2, 12)])
    wait_until(lambda: one._journaled == 2, "the journal")
    assert not list(tmp_path.glob("checkpoint-*"))
    broker.answered = 1
    one.note_answers()
    wait_for_checkpoints(one, 1)
    one.finish()

    two, _ = begin(tmp_path)
    assert two.subscriptions == ["a/+"]
    restored = two.take_restored()
    assert restored is not None
    assert restored.facts["sources"] == {"phones": {"model": "m", "states": []}}
    assert restored.arrays["phones engine x"].tolist() == [0, 1, 2]
    assert restored.arrays["phones smoother x"].tolist() == [0, 1]
    assert payloads(two) == [b"payload 2"]
    assert two.position == 2
    two.finish()


def test_a_checkpoint_that_is_written_does_not_stay_in_memory(tmp_path):
    one, _ = begin(tmp_path)
    one.start()
    array = np.zeros(1000)
    kept = weakref.ref(array)
    checkpoint = one.begin_checkpoint([])
    checkpoint.add("source1", {}, {"array": array})
    one.save(checkpoint)
    del array, checkpoint
    wait_for_checkpoints(one, 1)
    wait_until(lambda: kept() is None, "the end of the array")
    one.finish()


def test_after_damage_to_the_newest_checkpoint_the_one_before_gives_the_same_messages(tmp_path):
    one, broker = begin(tmp_path)
    one.start()
    for number in (1, 2, 3, 4):
        one.admit([message(number, number)])
        one.note_labelled(number)
        if number < 4:
            one.save(one.begin_checkpoint([]))
            wait_for_checkpoints(one, number)
    wait_until(lambda: len(broker.acknowledged) == 4, "the acknowledgements")
    one.finish()
    newest = max(tmp_path.glob("checkpoint-*"))
    newest.write_bytes(newest.read_bytes()[:-1])

    two, _ = begin(tmp_path)
    assert payloads(two) == [b"payload 3", b"payload 4"]
    two.finish()


# --- what goes wrong together -------------------------------------------------------------------


def full_disk(monkeypatch, takes=lambda data: False) -> None:
    """Let every synchronised write to a journal fail that ``takes`` does not admit."""
    monkeypatch.setattr(durable, "_RETRY_S", 0.001)
    write_record = journal.JournalWriter.write

    def write(self, data, *, sync=True):
        if sync and self.size and not takes(data):
            raise OSError(28, "No space left on device")
        write_record(self, data, sync=sync)

    monkeypatch.setattr(journal.JournalWriter, "write", write)


def test_labels_accepted_before_the_messages_are_on_disk_are_not_taken_for_those_of_later_messages(
    tmp_path, monkeypatch
):
    first = journal.encode(journal.Messages(1, [message(1, 11)]))
    one, broker = begin(tmp_path / "one")
    one.start()
    write_record = journal.JournalWriter.write

    def write(self, data, *, sync=True):
        if sync and self.size and data != first:
            raise OSError(28, "No space left on device")
        write_record(self, data, sync=sync)
        if data == first:  # while it is written, the next message comes and is labelled
            one.admit([message(2, 12)])
            broker.published = broker.answered = 2
            one.note_labelled(2)

    monkeypatch.setattr(journal.JournalWriter, "write", write)
    one.admit([message(1, 11)])
    wait_until(lambda: one.stats.failures, "the second message")
    shutil.copytree(tmp_path / "one", tmp_path / "two")  # as a crash leaves it
    one.finish()
    monkeypatch.setattr(journal.JournalWriter, "write", write_record)

    two, _ = begin(tmp_path / "two")
    assert positions(two) == [1]
    two.start()
    two.admit([message(9, 13)])
    wait_until(lambda: two._journaled == 2, "the journal")
    shutil.copytree(tmp_path / "two", tmp_path / "three")
    two.finish()

    three, _ = begin(tmp_path / "three")
    found = [(record.position, known) for record, known in three.records() if isinstance(record, journal.Messages)]
    assert found == [(1, True), (2, False)]
    three.finish()


def test_what_follows_a_message_that_found_no_room_is_not_acknowledged_at_a_stop(tmp_path, monkeypatch):
    one, broker = begin(tmp_path)
    one.start()
    full_disk(monkeypatch, takes=lambda data: len(data) < 1_000)  # the end of the last block is still free
    one.admit([message(1, 11)._replace(payload=bytes(10_000))])
    wait_until(lambda: one.stats.failures, "a failure")
    one.admit([message(2, 12)])
    one.note_labelled(2)
    one.finish()
    assert broker.acknowledged == []


def test_what_follows_a_journal_that_could_not_be_created_is_not_acknowledged_at_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "_RETRY_S", 0.001)
    one, broker = begin(tmp_path)
    one.start()
    wait_until(lambda: one._writer is not None, "the first journal")
    monkeypatch.setattr(StateFolder, "open_journal", raising(OSError(28, "No space left on device")))
    one.save(one.begin_checkpoint([]))
    wait_until(lambda: one.stats.failures, "a failure")
    one.admit([message(1, 11)])
    one.note_labelled(1)
    one.finish()
    assert broker.acknowledged == []
    assert not list(StateFolder(tmp_path).records(1))


def test_a_checkpoint_waits_for_the_events_after_its_labels_too(tmp_path):
    one, broker = begin(tmp_path)
    one.start()
    one.admit([message(1, 11)])
    broker.published = 1
    one.note_labelled(1)
    broker.published = 2  # such as the end of an activity of a device that was evicted
    one.save(one.begin_checkpoint([]))
    broker.answered = 1
    one.note_answers()
    wait_until(lambda: broker.acknowledged, "the acknowledgement")
    one.admit([message(2, 12)])
    wait_until(lambda: one._journaled == 2, "the journal")
    assert one.stats.checkpoints == 0
    broker.answered = 2
    one.note_answers()
    wait_until(lambda: one.stats.checkpoints == 1, "the checkpoint")
    one.finish()


def test_while_the_disk_is_full_the_messages_that_wait_for_it_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "_MAX_WAITING_BYTES", 10_000)
    one, _ = begin(tmp_path)
    one.start()
    with monkeypatch.context() as patch:
        full_disk(patch)
        number = 0
        while one.has_room:
            number += 1
            one.admit([message(number)])
        assert 10 < number < 100
    wait_until(lambda: one.has_room, "room")
    one.finish()


def test_a_disk_that_is_full_at_the_start_is_waited_for(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(durable, "_RETRY_S", 0.001)
    one, broker = begin(tmp_path)
    room, open_journal = threading.Event(), StateFolder.open_journal

    def full(self, generation):
        if not room.is_set():
            raise OSError(28, "No space left on device")
        return open_journal(self, generation)

    monkeypatch.setattr(StateFolder, "open_journal", full)
    one.start()
    one.admit([message(1, 11)])
    one.note_labelled(1)
    wait_until(lambda: one.stats.failures >= 3, "some attempts")
    assert broker.acknowledged == []
    assert "No space left on device; nothing is acknowledged until it can be written" in caplog.text
    room.set()
    wait_until(lambda: broker.acknowledged, "the acknowledgement")
    one.finish()
    again, _ = begin(tmp_path)
    assert payloads(again) == [b"payload 1"]
    again.finish()


def test_a_daemon_that_is_stopped_while_the_disk_is_full_from_the_start_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "_RETRY_S", 0.001)
    one, broker = begin(tmp_path)
    monkeypatch.setattr(StateFolder, "open_journal", raising(OSError(28, "No space left on device")))
    one.start()
    one.admit([message(1, 11)])
    wait_until(lambda: one.stats.failures >= 3, "some attempts")
    one.finish()
    assert broker.acknowledged == []


def test_on_a_slow_disk_messages_wait_in_bounded_memory_and_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "_MAX_WAITING_BYTES", 10_000)
    one, broker = begin(tmp_path)
    one.start()
    written, fdatasync = threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        written.wait()
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    number = 0
    while one.has_room:  # so long labels go on
        number += 1
        one.admit([message(number, mid=number)])
    assert 10 < number < 100
    assert one.stats.unacknowledged == number
    one.note_labelled(number)
    assert broker.acknowledged == []
    written.set()
    wait_until(lambda: one.stats.unacknowledged == 0, "the acknowledgements")
    assert len(broker.acknowledged) == number
    one.finish()


def test_after_something_was_not_published_nothing_is_acknowledged_or_saved(tmp_path):
    one, broker = begin(tmp_path)
    one.start()
    one.admit([message(1, 11)])
    one.note_labelled(1)
    one.admit([message(2, 12)])
    one.cut_short()
    one.note_labelled(2)
    one.save(one.begin_checkpoint([]))
    one.finish()
    assert [number & deliveries.MID for number in broker.acknowledged] == [11]
    assert one.stats.checkpoints == 0


def test_a_failed_checkpoint_is_logged_once_and_made_again_after_a_pause(tmp_path, monkeypatch, caplog):
    one, _ = begin(tmp_path)
    one.start()

    def fail(self, generation, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StateFolder, "save", fail)
    for number in (1, 2):
        one.save(one.begin_checkpoint([]))
        wait_until(partial(equals, one.stats, "failures", number), "the failure")
        one.admit([message(number)])
        one.note_labelled(number)
        wait_until(partial(equals, one, "_safe", number), "the journal")
    assert not one.checkpoint_due(100.0)
    one.finish()
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(lines) == 1
    assert "no checkpoint can be written" in lines[0]


def test_the_state_of_the_last_run_is_not_kept(tmp_path):
    folder = StateFolder(tmp_path)
    facts = {"position": 0, "subscriptions": ["a/+"]}
    folder.save(1, folders.encode(facts, {"deliveries": np.zeros((0, 3), np.int64)}))
    folder.close()
    one, _ = begin(tmp_path)
    assert one.take_restored() is not None
    assert one.take_restored() is None
    assert one.subscriptions == ["a/+"]
    one.finish()
