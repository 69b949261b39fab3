"""`harstream data`: the list of data sets, and downloads."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harstream.cli import main
from harstream.datasets import public
from harstream.datasets.base import KINDS, WINDOW_KINDS

from ..datasets.http_files import FileServer


def archive(sessions: int = 61, damaged: bool = False) -> bytes:
    """Return a zip with the file names of HAPT, inside another zip as the repository ships it."""
    inner, outer = BytesIO(), BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        for number in range(1, sessions + 1):
            file.writestr(f"RawData/acc_exp{number:02d}_user01.txt", "1 0 0\n" * 9)
            file.writestr(f"RawData/gyro_exp{number:02d}_user01.txt", "1 0 0\n" * 9)
        file.writestr("RawData/labels.txt", "1 1 1 1 9\n")
    with zipfile.ZipFile(outer, "w") as file:
        file.writestr("HAPT Data Set.zip", inner.getvalue())
    content = outer.getvalue()
    return content.replace(b"1 0 0\n1", b"1 0 0\n2", 1) if damaged else content


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(archive()) as server:
        yield server


def download(server: FileServer, out: Path, *more: str) -> Result:
    return invoke("download", "hapt", "--out", out, "--url", server.url, *more)


def test_every_kind_is_listed_with_subjects_placements_terms_and_source() -> None:
    result = invoke("list")
    assert result.exit_code == 0
    for kind in (*KINDS, *WINDOW_KINDS):
        assert f"{kind}  " in result.output
    for found in public.SETS.values():
        assert f"\n{found.kind}  {found.about}\n" in f"\n{result.output}"
        assert f"  subjects: {found.subjects}; worn at: {', '.join(found.placements)}\n" in result.output
        assert f"  terms: {found.terms}\n" in result.output
        assert f"  source: {found.source}\n  archive: {found.url}" in result.output
    assert "umafall  trials" in result.output
    assert "subjects: 23; worn at: pocket, wrist" in result.output


def test_a_set_is_fetched_checked_and_its_hash_printed(tmp_path: Path, server: FileServer) -> None:
    result = download(server, tmp_path / "data", "--sha256", sha256(server.content).upper())
    assert result.exit_code == 0, result.output
    assert (tmp_path / "data/hapt.zip").read_bytes() == server.content
    assert f"complete, SHA-256 {sha256(server.content)}" in result.output
    assert "harstream evaluate --data hapt:" in result.output


def test_an_interrupted_fetch_is_one_line_and_the_same_command_finishes_it(tmp_path: Path, server: FileServer) -> None:
    server.stop_after = 5000
    known = ("--sha256", sha256(server.content))
    result = download(server, tmp_path, *known)
    assert result.exit_code == 2
    assert "ended after 5000 of" in result.output.splitlines()[-1]
    assert download(server, tmp_path, *known).exit_code == 0
    assert server.asked == [None, "bytes=5000-"]


def test_what_is_already_there_is_checked_and_not_fetched_again(tmp_path: Path, server: FileServer) -> None:
    known = ("--sha256", sha256(server.content))
    download(server, tmp_path, *known)
    result = download(server, tmp_path, *known)
    assert result.exit_code == 0
    assert "already there" in result.output
    assert len(server.asked) == 1


def test_another_file_than_the_known_one_is_refused_naming_both_hashes(tmp_path: Path, server: FileServer) -> None:
    result = download(server, tmp_path)
    assert result.exit_code == 2
    assert sha256(server.content) in result.output
    assert str(public.SETS["hapt"].sha256) in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(damaged=True), "expected a complete zip or tar: HAPT Data Set.zip"),
        (archive(60), "expected 61 files like acc_exp"),
        (b"<html>We moved</html>", "expected a complete zip or tar"),
    ],
)
def test_what_is_not_whole_or_something_else_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with FileServer(content) as server:
        result = download(server, tmp_path, "--sha256", sha256(content))
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["download", "mnist"],
            "'mnist' is not a public data set: the public ones are hapt, uci-har, wisdm-watch, actitracker, "
            "umafall, sp-sw, difronzo, walking",
        ),
        (["download", "csv"], "'csv' is not a public data set"),
        (["download", "hapt", "--sha256", "12ab"], "--sha256: '12ab' is not 64 hexadecimal digits"),
        (["download", "hapt", "--url", "ftp://here/x"], "ftp://here/x: expected an address http://"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = invoke(*arguments, *(["--out", str(tmp_path)] if "mnist" not in arguments else []))
    assert result.exit_code == 2
    assert f"harstream: {message}" in result.output


def test_a_missing_file_is_refused_with_the_server_s_answer(tmp_path: Path, server: FileServer) -> None:
    result = invoke("download", "hapt", "--out", tmp_path, "--url", server.url.replace("set", "missing"))
    assert result.exit_code == 2
    assert "the server answered 404" in result.output
