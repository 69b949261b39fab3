"""Fetch one file over HTTP, going on where an earlier attempt stopped."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from harstream.errors import ConfigError, DatasetError

#: Told of the bytes that are there, and of how many there will be, if the server says so.
Progress = Callable[[int, int | None], None]

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30.0
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


def download(url: str, target: Path, progress: Progress = lambda done, total: None) -> None:
    """Fetch ``url`` into ``target``, by way of ``<target>.part``, which an interrupted attempt leaves behind.

    The next attempt asks for the rest of it (HTTP Range, RFC 9110 section 14); a server that cannot do
    that sends everything again. Raises ConfigError for an address that is not http or https, DatasetError
    where the server cannot be reached, refuses, or sends less than it promised.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"{url}: not an http:// or https:// address")
    part = part_of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress)
        part.replace(target)
    except HTTPError as error:
        raise DatasetError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DatasetError(
            f"{url}: interrupted{_so_far(part)}: {reason}; the same command goes on from there"
        ) from error
    except OSError as error:
        raise DatasetError(f"{part}: cannot be written: {error.strerror}") from error


def part_of(target: Path) -> Path:
    """Where an unfinished download is kept."""
    return target.with_name(f"{target.name}.part")


def sha256_of(path: Path) -> str:
    """In lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(url: str, part: Path, progress: Progress) -> None:
    done = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, done)
    except HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE or not done:
            raise
        # Nothing lies behind what is there: it is all, or of another file.
        if _total(error.headers.get("Content-Range", "")) == done:
            return
        part.unlink()
        done, response = 0, _open(url, 0)
    with response:
        if done and not _continues(response, done):
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        with part.open("ab" if done else "wb") as file:
            done = _copy(response, file, done, total, progress)
    if total is not None and done < total:
        raise DatasetError(f"{url}: ended after {done} of {total} bytes; the same command goes on from there")


def _open(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "harstream"} | ({"Range": f"bytes={start}-"} if start else {})
    response: http.client.HTTPResponse = urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S
    )
    return response


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    """Whether the answer is the rest from ``start`` on, and not the whole file."""
    if response.status != _PARTIAL_CONTENT:
        return False
    content_range = response.headers.get("Content-Range", "")
    if not re.match(rf"bytes {start}-", content_range):
        raise DatasetError(f"{response.url}: asked for bytes from {start} on, the server sends {content_range!r}")
    return True


def _total(content_range: str) -> int | None:
    match = re.fullmatch(r"bytes \*/(\d+)", content_range)
    return int(match[1]) if match else None


def _copy(response: http.client.HTTPResponse, file: BinaryIO, done: int, total: int | None, progress: Progress) -> int:
    progress(done, total)
    while chunk := response.read1(_CHUNK_BYTES):
        file.write(chunk)
        done += len(chunk)
        progress(done, total)
    return done


def _so_far(part: Path) -> str:
    return f" after {part.stat().st_size} bytes" if part.exists() else ""
