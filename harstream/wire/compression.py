"""Compressed payloads: gzip (RFC 1952) and zstd (RFC 8878), which their first bytes tell from everything else.

Both formats begin with fixed bytes, so the content type of MQTT 5 adds nothing, and devices without MQTT 5 can
compress too. The limit of a payload holds for what it unpacks to, because that is what costs time: a few hundred bytes
could else keep the daemon busy for seconds. The memory that unpacking takes is bounded too.
"""

from __future__ import annotations

import zlib

import zstandard

from harstream.wire.reject import RejectError

GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
#: Largest window of zstd, bytes: what the decoder may keep in memory.
_MAX_WINDOW = 8 * 2**20


def is_compressed(payload: bytes) -> bool:
    """Return whether a payload begins as gzip or zstd does."""
    return payload.startswith((GZIP_MAGIC, ZSTD_MAGIC))


def unpack(payload: bytes, max_bytes: int) -> bytes:
    """Return the content of a compressed payload.

    Args:
        payload: A payload that ``is_compressed``.
        max_bytes: Largest number of bytes to unpack.

    Raises:
        RejectError: It is damaged, cut off or followed by more, or its content is longer than ``max_bytes``.

    """
    name, read = ("gzip", _read_gzip) if payload.startswith(GZIP_MAGIC) else ("zstd", _read_zstd)
    try:
        content, complete = read(payload, max_bytes + 1)
    except (zlib.error, zstandard.ZstdError) as error:
        raise RejectError("compressed", f"{name}: {error}") from None
    if len(content) > max_bytes:
        raise RejectError("compressed", f"{name}: unpacks to more than {max_bytes} bytes")
    if not complete:
        raise RejectError("compressed", f"{name}: the payload is cut off, or more follows its end")
    return content


def _read_gzip(payload: bytes, max_bytes: int) -> tuple[bytes, bool]:
    decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    content = decoder.decompress(payload, max_bytes)
    return content, decoder.eof and not decoder.unused_data


def _read_zstd(payload: bytes, max_bytes: int) -> tuple[bytes, bool]:
    decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    with decoder.stream_reader(payload, read_across_frames=False) as reader:
        content = reader.read(max_bytes)
        if len(content) == max_bytes:
            return content, True  # too long
    # The reader ends silently where a frame is cut off; a frame object tells.
    checker = decoder.decompressobj()
    whole = checker.decompress(payload)
    return whole, checker.eof and not checker.unused_data
