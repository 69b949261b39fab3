"""Download of one file over HTTP, resumed where an earlier attempt stopped."""

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

#: Called with the number of bytes received so far, and of all bytes or None if the server does not tell.
BytesProgress = Callable[[int, int | None], None]

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30.0
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


def download(url: str, target: Path, progress: BytesProgress = lambda done, total: None) -> None:
    """Download ``url`` to ``target``.

    The data is first written to ``<target>.part``, which remains after an interruption. The next attempt asks the
    server for the rest (HTTP Range, RFC 9110 section 14). A server without support for this sends the whole file again.

    Args:
        url: Address of the file, http or https.
        target: Path of the file to write.
        progress: Called after each chunk.

    Raises:
        ConfigError: The address is not http or https.
        DatasetError: The server cannot be reached, refuses, or sends less than it announced, or the file cannot be
            written.

    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"{url}: expected an address http://... or https://...")
    part = part_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, progress)
        part.replace(target)
    except HTTPError as error:
        raise DatasetError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DatasetError(
            f"{url}: interrupted{_describe_size(part)}: {reason}; repeat the command to resume"
        ) from error
    except OSError as error:
        raise DatasetError(f"{part}: cannot write the file: {error.strerror}") from error


def part_path(target: Path) -> Path:
    """Return the path of an unfinished download."""
    return target.with_name(f"{target.name}.part")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, part: Path, progress: BytesProgress) -> None:
    done = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, done)
    except HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE or not done:
            raise
        # The part is already as long as the file, or longer because it is of another file.
        if _parse_total(error.headers.get("Content-Range", "")) == done:
            return
        part.unlink()
        done, response = 0, _open(url, 0)
    with response:
        if done and not _is_rest(response, done):
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        with part.open("ab" if done else "wb") as file:
            done = _copy(response, file, done, total, progress)
    if total is not None and done < total:
        raise DatasetError(f"{url}: ended after {done} of {total} bytes; repeat the command to resume")


def _open(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "harstream"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (`download` checks the scheme)
    response: http.client.HTTPResponse = urllib.request.urlopen(  # noqa: S310 (as above)
        request, timeout=_TIMEOUT_S
    )
    return response


def _is_rest(response: http.client.HTTPResponse, start: int) -> bool:
    """Return True if the response is the rest of the file from byte ``start``, False if it is the whole file.

    Raises:
        DatasetError: The response is another part of the file.

    """
    if response.status != _PARTIAL_CONTENT:
        return False
    content_range = response.headers.get("Content-Range", "")
    if not re.match(rf"bytes {start}-", content_range):
        raise DatasetError(f"{response.url}: asked for bytes from {start} on, the server sent {content_range!r}")
    return True


def _parse_total(content_range: str) -> int | None:
    match = re.fullmatch(r"bytes \*/(\d+)", content_range)
    return int(match[1]) if match else None


def _copy(
    response: http.client.HTTPResponse, file: BinaryIO, done: int, total: int | None, progress: BytesProgress
) -> int:
    progress(done, total)
    while chunk := response.read1(_CHUNK_BYTES):
        file.write(chunk)
        done += len(chunk)
        progress(done, total)
    return done


def _describe_size(part: Path) -> str:
    return f" after {part.stat().st_size} bytes" if part.exists() else ""
