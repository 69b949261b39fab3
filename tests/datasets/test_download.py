"""Download of a file: whole, resumed, refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harstream.datasets.download import download, part_path, sha256_of
from harstream.errors import ConfigError, DatasetError

from ..constants import UNREACHABLE
from .http_files import FileServer

CONTENT = np.random.default_rng(0).bytes(1_000_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(CONTENT) as file_server:
        yield file_server


def test_a_file_is_fetched_and_progress_is_reported(tmp_path: Path, server: FileServer) -> None:
    calls: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "set.zip"
    download(server.url, target, lambda done, total: calls.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert not part_path(target).exists()
    assert calls[0] == (0, len(CONTENT))
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert sha256_of(target) == hashlib.sha256(CONTENT).hexdigest()


def test_an_interrupted_download_goes_on_where_it_stopped(tmp_path: Path, server: FileServer) -> None:
    target = tmp_path / "set.zip"
    server.stop_after = 300_000
    with pytest.raises(DatasetError, match="ended after 300000 of 1000000 bytes; repeat the command to resume"):
        download(server.url, target)
    assert not target.exists()
    assert part_path(target).stat().st_size == 300_000
    calls: list[tuple[int, int | None]] = []
    download(server.url, target, lambda done, total: calls.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert calls[0] == (300_000, len(CONTENT))
    assert server.asked == [None, "bytes=300000-"]


def test_a_server_without_ranges_sends_everything_again(tmp_path: Path, server: FileServer) -> None:
    target = tmp_path / "set.zip"
    part_path(target).write_bytes(b"x" * 300_000)
    server.ranges = False
    download(server.url, target)
    assert target.read_bytes() == CONTENT


def test_a_missing_length_is_accepted(tmp_path: Path, server: FileServer) -> None:
    server.length = False
    totals: set[int | None] = set()
    download(server.url, tmp_path / "set.zip", lambda done, total: totals.add(total))
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert totals == {None}


def test_a_complete_part_is_used(tmp_path: Path, server: FileServer) -> None:
    part_path(tmp_path / "set.zip").write_bytes(CONTENT)
    download(server.url, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_larger_than_the_file_is_of_another_one_and_thrown_away(tmp_path: Path, server: FileServer) -> None:
    part_path(tmp_path / "set.zip").write_bytes(CONTENT + b"more")
    download(server.url, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_missing_file_leaves_nothing_behind(tmp_path: Path, server: FileServer) -> None:
    url = server.url.replace("set", "missing")
    with pytest.raises(DatasetError, match=r"missing\.zip: the server answered 404 Not Found"):
        download(url, tmp_path / "set.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    url = f"http://{UNREACHABLE}/set.zip"
    with pytest.raises(DatasetError, match=rf"{url}: interrupted: .*refused"):
        download(url, tmp_path / "set.zip")


def test_only_the_web_is_fetched_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected an address http://"):
        download("file:///etc/hostname", tmp_path / "set.zip")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot write the file"):
        download(server.url, tmp_path / "file" / "set.zip")
