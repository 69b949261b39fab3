"""The log never waits for its reader: lines are queued, bounded, and those that are dropped are counted."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from harstream import logs
from harstream.logs import LineWriter, StandardError

from .live_streams import expected, messages
from .servers import DEADLINE_S, Client, http_get, metric, occupied, wait_until

#: Smallest size that a pipe may have.
PIPE_BYTES = 4096


class Pipe:
    """Pipe that is not read before a test asks for it."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def fill(self) -> None:
        """Write until it is full."""
        os.set_blocking(self.write_end, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.write_end, b"x")
        os.set_blocking(self.write_end, True)

    def read(self) -> str:
        """Return what can be read now."""
        os.set_blocking(self.read_end, False)
        text = b""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.read_end, 65536):
                text += part
        return text.decode()

    def close(self) -> None:
        for end in (self.read_end, self.write_end):
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def read_all(pipe: Pipe, writer: LineWriter) -> str:
    """Read until everything that the writer has not dropped is written, and return it."""
    text = ""

    def is_done() -> bool:
        nonlocal text
        text += pipe.read()
        return writer.flush(0.0)

    wait_until(is_done, "the lines")
    return text + pipe.read()


# --- the queue -------------------------------------------------------------------------------------------


def test_lines_are_written_in_order(pipe):
    writer = LineWriter(pipe.write_end, 10_000)
    for number in range(100):
        writer.put(b"%d\n" % number)
    assert writer.flush(DEADLINE_S)
    assert pipe.read() == "".join(f"{number}\n" for number in range(100))
    assert writer.dropped == 0


def test_a_stuck_reader_holds_up_nobody_and_the_oldest_lines_are_dropped_and_counted(pipe, caplog):
    writer = LineWriter(pipe.write_end, 2000)
    line = "%06d " + "x" * 92 + "\n"

    def put(lines: list[bytes]) -> None:
        for one in lines:
            writer.put(one)

    threads = [
        threading.Thread(target=put, args=([(line % (1000 * k + n)).encode() for n in range(250)],)) for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert not writer.flush(0.0)
    assert sum(map(len, writer._lines)) <= 2000
    assert writer.dropped > 800
    dropped = writer.dropped
    text = read_all(pipe, writer)
    numbers = [int(one[:6]) for one in text.splitlines()]
    assert len(numbers) + dropped == 1000
    for k in range(4):  # those of each thread are in order
        assert [n for n in numbers if n // 1000 == k] == sorted(n for n in numbers if n // 1000 == k)
    wait_until(lambda: sum(int(note.split()[0]) for note in caplog.messages) == dropped, "the notes")
    assert {note.partition(" ")[2] for note in caplog.messages} == {
        "log lines were dropped, because standard error was not read in time or not writable"
    }


def test_lines_that_cannot_be_written_are_counted(pipe):
    os.close(pipe.read_end)
    writer = LineWriter(pipe.write_end, 2000)
    writer.put(b"a\n")
    assert writer.flush(DEADLINE_S)
    writer.put(b"b\n")
    assert writer.flush(DEADLINE_S)
    assert writer.dropped == 2


def test_a_pipe_that_does_not_block_is_waited_for(pipe):
    pipe.fill()
    os.set_blocking(pipe.write_end, False)
    writer = LineWriter(pipe.write_end, 2000)
    writer.put(b"last\n")
    assert not writer.flush(0.05)
    text = pipe.read()  # perhaps with the line, which is written as soon as there is room
    assert writer.flush(DEADLINE_S)
    assert (text + pipe.read()).endswith("last\n")
    assert writer.dropped == 0


def test_a_line_of_any_length_is_cut(pipe):
    writer = LineWriter(pipe.write_end, 10**6)
    writer.put(b"x" * 300_000 + b"\n")
    text = read_all(pipe, writer)
    assert text.endswith("xxx ...\n")
    assert len(text) < 70_000


# --- standard error --------------------------------------------------------------------------------------


def test_what_else_is_written_to_standard_error_takes_the_same_way(pipe, monkeypatch):
    writer = LineWriter(pipe.write_end, 10_000)
    stream = StandardError(writer, "ascii")
    print("whole", "line", file=stream)
    stream.write("two\nlines\nand a half")
    with contextlib.suppress(ZeroDivisionError):
        1 / 0  # noqa: B018
    click.echo("grün", file=stream)  # type: ignore[arg-type]
    monkeypatch.setattr(logs, "FLUSH_S", DEADLINE_S)
    stream.flush()
    assert pipe.read() == "whole line\ntwo\nlines\nand a halfgr\\xfcn\n"
    with pytest.raises(TypeError, match="bytes"):
        stream.write(b"bytes")  # type: ignore[arg-type]


def run(code: str, pipe: Pipe, **options) -> subprocess.Popen[bytes]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HARSTREAM_")}
    return subprocess.Popen(
        [sys.executable, "-c", code], stderr=pipe.write_end, stdout=subprocess.PIPE, env=inherited, **options
    )


def test_the_last_lines_and_a_traceback_are_written_at_the_end(pipe):
    code = """
import logging, warnings
from harstream import logs
logs.set_up("info", "text")
for n in range(20):
    logging.info("line %d", n)
warnings.warn("beware")
logs.set_up("warning", "json")
logging.info("not this")
logging.warning("this")
raise ZeroDivisionError("a bug")
"""
    with run(code, pipe) as process:
        assert process.wait(DEADLINE_S) == 1
    lines = pipe.read().splitlines()
    assert [line.rpartition(" ")[2] for line in lines[:20]] == [str(n) for n in range(20)]
    assert "UserWarning: beware" in lines[20]
    assert [json.loads(line)["message"] for line in lines if line.startswith("{")] == ["this"]
    assert lines[-1] == "ZeroDivisionError: a bug"


def test_a_program_ends_though_nobody_reads_what_it_says(pipe):
    pipe.fill()
    code = """
import logging, threading
from harstream import logs
logs.set_up("info", "text")
logs.EXIT_S = 0.1
for n in range(10_000):
    logging.info("line %d", n)
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
print(logs.lines_dropped())
raise SystemExit("the end")
"""
    with run(code, pipe) as process:
        assert process.wait(DEADLINE_S) == 1
        assert process.stdout is not None
        dropped = int(process.stdout.read())
    assert 0 <= dropped < 10_000


def test_a_process_that_ends_abruptly_after_a_flush_has_written_everything(pipe):
    code = """
import logging, os, sys
from harstream import logs
logs.set_up("info", "text")
logs.FLUSH_S = 100.0
logging.info("one")
print("two", file=sys.stderr)
sys.stderr.flush()
os._exit(3)
"""
    with run(code, pipe) as process:
        assert process.wait(DEADLINE_S) == 3
    assert [line.rpartition(" ")[2] for line in pipe.read().splitlines()] == ["one", "two"]


def test_a_closed_standard_error_is_no_problem(pipe):
    code = """
import os
os.close(2)
import logging
from harstream import logs
logs.set_up("info", "text")
logging.info("lost")
logs.flush()
print(logs.lines_dropped())
"""
    with run(code, pipe) as process:
        assert process.wait(DEADLINE_S) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b"1\n"


# --- harstream run ---------------------------------------------------------------------------------------

SMALL_QUEUE = """
from harstream import logs
logs.MAX_BYTES = 2000
from harstream.cli import main
main()
"""


def daemon(pipe: Pipe, bundle: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = ["run", "--model", str(bundle), "--instance", "test", *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HARSTREAM_")}
    return subprocess.Popen([sys.executable, "-c", SMALL_QUEUE, *command], stderr=pipe.write_end, env=inherited)


def test_a_daemon_whose_log_is_not_read_labels_answers_counts_and_stops(
    pipe, mosquitto, random_bundle, classifier, subjects
):
    wanted = expected(subjects, classifier)
    settings = ["--broker", mosquitto.address, "--http", "127.0.0.1:0", "--log-level", "debug"]
    with Client(mosquitto.port) as client, daemon(pipe, random_bundle, *settings) as process:
        try:
            first = ""

            def ready() -> bool:
                nonlocal first
                first += pipe.read()
                return " ready: " in first

            wait_until(ready, "the daemon")
            url = re.search(r"http (http://\S+)", first)
            assert url
            for topic, content in messages(subjects):  # each malformed one is a line in the log, now and then
                client.publish(topic, content)

            def stuck() -> bool:  # each request is a line of level debug
                status, text = http_get(f"{url[1]}/metrics")
                return status == 200 and metric(text, "harstream_log_lines_dropped_total") > 0

            wait_until(stuck, "dropped lines")
            assert http_get(f"{url[1]}/healthz") == (200, "ok\n")
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0
            wait_until(lambda: client.payloads("harstream/test/status")[-1:] == [b"stopped"], "stopped")
        finally:
            process.kill()


def test_an_error_at_the_start_ends_the_program_though_nobody_reads_it(pipe, random_bundle):
    pipe.fill()
    with (
        occupied() as port,
        daemon(pipe, random_bundle, "--broker", "127.0.0.1:1", "--http", f"127.0.0.1:{port}") as one,
    ):
        assert one.wait(DEADLINE_S) == 2


def test_without_a_set_up_nothing_is_dropped():
    assert logs.lines_dropped() == 0
    logs.flush()
