"""Contents: the form of a payload, told from its bytes, and the document, lines or number in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harstream.wire.compression import GZIP_MAGIC, is_compressed, unpack
from harstream.wire.csv_text import read_rows
from harstream.wire.documents import form_of, found, read_document
from harstream.wire.packed import MAGIC
from harstream.wire.reject import RejectError

#: Forms of a payload. "lines" is text with several columns.
FORMS = ("json", "cbor", "msgpack", "packed", "lines", "text", "binary", "empty")
_NAMES = {"json": "JSON", "cbor": "CBOR", "msgpack": "MessagePack", "lines": "lines of text"}
_MAX_SHOWN = 60  # characters of a text, and bytes of other payloads, that are shown


@dataclass(frozen=True, slots=True)
class Content:
    """Content of one payload."""

    form: str  # one of FORMS
    document: Any = None  # of json, cbor and msgpack; of lines: a list of texts for each line
    packing: str = ""  # gzip, zstd, or "" for none
    shown: str = ""  # begin of a payload that has no document, for people

    @property
    def name(self) -> str:
        """Name of the form for people."""
        return _NAMES.get(self.form, self.form) + (f" in {self.packing}" if self.packing else "")


def open_payload(payload: bytes, max_bytes: int) -> Content:
    """Return what a payload holds; it never raises.

    Args:
        payload: Any bytes.
        max_bytes: Largest number of bytes to unpack.

    """
    if not payload:
        return Content("empty")
    packing = ""
    if is_compressed(payload):
        packing = "gzip" if payload.startswith(GZIP_MAGIC) else "zstd"
        try:
            payload = unpack(payload, max_bytes)
        except RejectError as error:
            return Content("binary", packing=packing, shown=str(error))
    if payload.startswith(MAGIC):
        return Content("packed", packing=packing)
    return _read(payload, packing)


def _read(payload: bytes, packing: str) -> Content:
    form = form_of(payload)
    try:
        document = read_document(payload)
    except RejectError:
        pass
    else:
        if isinstance(document, dict | list) or form == "json":
            return Content(form, document, packing, "" if isinstance(document, dict | list) else found(document))
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Content("binary", packing=packing, shown=payload[:16].hex(" "))
    if not all(character.isprintable() or character in "\r\n\t" for character in text[:_MAX_SHOWN]):
        return Content("binary", packing=packing, shown=payload[:16].hex(" "))
    if text.lstrip()[:1] not in ("{", "["):
        try:
            _, separator, rows = read_rows(text)
        except RejectError:
            rows, separator = [], ""
        if separator == ";":  # as the decoder reads numbers
            rows = [[one.replace(",", ".") for one in row] for row in rows]
        if rows and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            return Content("lines", rows, packing)
    return Content("text", packing=packing, shown=repr(text[:_MAX_SHOWN]))
