"""Journal: the messages since a checkpoint, in the order in which the engine gets them.

A file begins with HEADER and the number of its generation. Each record is a kind, the length and the CRC-32 of its
content, and the content. A crash may leave half a record at the end, which is left out; the broker sends its messages
again, because they were not acknowledged.
"""

from __future__ import annotations

import enum
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harstream.mqtt.deliveries import MID
from harstream.storage import read_file
from harstream.wire.decoder import Message

log = logging.getLogger("harstream")

#: First bytes of a journal, with the version of its format.
HEADER = b"harstream journal 2\n"
_GENERATION = struct.Struct("<Q")
_RECORD = struct.Struct("<BII")  # kind, length, CRC-32
_POSITION = struct.Struct("<Q")
#: Time of arrival, packet identifier, flags, lengths of topic and payload.
_MESSAGE = struct.Struct("<dHBHI")
_RETAINED = 1
#: Size above which a file is no journal, bytes.
_MAX_BYTES = 2**32
#: Largest content of a record. A larger length is damage.
_MAX_RECORD_BYTES = 2**30


class Kind(enum.IntEnum):
    """Kinds of records."""

    MESSAGES = 1
    LABELLED = 2
    EVICTED = 3


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages that the engine got together."""

    position: int  # number of the last of them, counted since the first start
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Labelled:
    """The broker has accepted the labels of all messages up to a position."""

    position: int


@dataclass(frozen=True, slots=True)
class Evicted:
    """Devices of a source that were evicted."""

    source: str
    devices: Sequence[str]


Record = Messages | Labelled | Evicted


def encode(record: Record) -> bytes:
    """Return a record as bytes."""
    match record:
        case Messages(position, messages):
            parts = [_POSITION.pack(position)]
            pack = _MESSAGE.pack
            for message in messages:
                topic, payload = message.topic.encode(), message.payload
                parts += (
                    pack(
                        message.arrival_s,
                        message.delivery & MID,
                        _RETAINED * message.retained,
                        len(topic),
                        len(payload),
                    ),
                    topic,
                    payload,
                )
            content, kind = b"".join(parts), Kind.MESSAGES
        case Labelled(position):
            content, kind = _POSITION.pack(position), Kind.LABELLED
        case Evicted(source, devices):
            content, kind = "\n".join((source, *devices)).encode(), Kind.EVICTED
    return _RECORD.pack(kind, len(content), zlib.crc32(content)) + content


def _decode(kind: int, content: bytes) -> Record:
    """Return the record with this content.

    Raises:
        ValueError: The kind is unknown.
        struct.error: The content is too short.

    """
    match kind:
        case Kind.MESSAGES:
            (position,) = _POSITION.unpack_from(content)
            messages, at = [], _POSITION.size
            while at < len(content):
                arrival_s, mid, flags, n_topic, n_payload = _MESSAGE.unpack_from(content, at)
                at += _MESSAGE.size
                topic, payload = content[at : at + n_topic].decode(), content[at + n_topic : at + n_topic + n_payload]
                messages.append(Message(topic, payload, arrival_s, bool(flags & _RETAINED), delivery=mid))
                at += n_topic + n_payload
            return Messages(position, messages)
        case Kind.LABELLED:
            return Labelled(_POSITION.unpack(content)[0])
        case Kind.EVICTED:
            source, *devices = content.decode().split("\n")
            return Evicted(source, devices)
    raise ValueError(f"a record of the unknown kind {kind}")


class JournalWriter:
    """A journal that is written. It belongs to one thread.

    Raises:
        OSError: The file cannot be created.

    """

    def __init__(self, path: Path, generation: int) -> None:
        self.path = path
        self.size = 0  # bytes that were appended completely
        self._file = path.open("wb", buffering=0)
        self.write(HEADER + _GENERATION.pack(generation))

    def write(self, data: bytes, *, sync: bool = True) -> None:
        """Append data and, if ``sync``, wait until it is on disk. After an error nothing is appended.

        Without ``sync`` the data outlive the process, but perhaps not the machine.

        Raises:
            OSError: The disk is full or fails.

        """
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            if sync:
                os.fdatasync(self._file.fileno())
        except OSError:
            self._file.seek(self.size)  # what was written of it is overwritten by the next attempt
            self._file.truncate()
            raise
        self.size += len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path, generation: int) -> Iterator[Record]:
    """Yield the records of a journal up to its end, or to the first damage, which is logged.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is no journal of this version and generation.

    """
    yield from parse(read_file(path, _MAX_BYTES), path, generation)


def parse(data: bytes, path: Path, generation: int) -> Iterator[Record]:
    """Yield the records of the content of a journal; ``path`` is its name in what is said of it.

    Raises:
        ValueError: It is no journal of this version and generation.

    """
    start = len(HEADER) + _GENERATION.size
    if len(data) < start:  # the crash came while the file was created, so there is no message in it
        return
    if not data.startswith(HEADER):
        raise ValueError(f"{path} begins with {data[: len(HEADER)]!r}, expected {HEADER!r}")
    (found,) = _GENERATION.unpack_from(data, len(HEADER))
    if found != generation:
        raise ValueError(f"{path} is of generation {found}, expected {generation}")
    at = start
    while at < len(data):
        try:
            kind, length, checksum = _RECORD.unpack_from(data, at)
            content = data[at + _RECORD.size : at + _RECORD.size + length]
            if length > _MAX_RECORD_BYTES or len(content) < length or zlib.crc32(content) != checksum:
                raise ValueError("its checksum is wrong" if len(content) == length else "it is cut off")
            record = _decode(kind, content)
        except (ValueError, struct.error) as error:
            log.warning(
                "%s: the record at byte %d of %d cannot be read (%s); it and what follows is left out, and the broker "
                "sends again what it was not told to be safe",
                path,
                at,
                len(data),
                error,
            )
            return
        yield record
        at += _RECORD.size + length
