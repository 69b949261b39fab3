"""Documents: JSON, CBOR (RFC 8949) and MessagePack as Python objects, and words for what was found in them.

The first bytes tell the three apart. A CBOR map begins with A0 to BF, a MessagePack map with 80 to 8F, DE or DF. An
array in CBOR, such as a SenML pack, begins with 80 to 9F too, and an array in MessagePack with 90 to 9F, DC or DD. The
next bytes tell most of them: those of SenML (RFC 8428) go on with a map whose first key is a small number, a map in
MessagePack with a name. What is malformed in the likelier form is read in the other one. Neither may leave a byte
over, so no document of some length is both.

>>> form_of(b'{"acc": []}'), form_of(bytes.fromhex("a1 63 616363 80")), form_of(bytes.fromhex("81 a3 616363 90"))
('json', 'cbor', 'msgpack')
>>> form_of(bytes.fromhex("81 a1 21 63 77313a"))
'cbor'

No document can make the decoders use much more memory than its own length: nesting is bounded, and tags of CBOR that
share parts of a document, or stand for objects of Python, are rejected.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import cbor2
import msgspec

from harstream.wire.reject import RejectError

#: Lists and maps of a CBOR document inside each other.
_MAX_DEPTH = 64
#: Tags of CBOR: of a whole document (self-described CBOR), of a time as text and as a number.
_SELF_DESCRIBED = bytes.fromhex("d9d9f7")
_TRANSPARENT_TAGS = (0, 1)
#: First bytes of long lists and maps in MessagePack.
_LONG_MSGPACK = (0xDC, 0xDD, 0xDE, 0xDF)
#: Tags that cbor2 would make objects of: shared parts, numbers of any size, regular expressions and many others.
_REFUSED_TAGS = (*range(2, 6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43_000)
_MAX_SHOWN, _MAX_NAMES = 40, 8  # characters of a text, and names of an object, that are shown

TOO_DEEP = "lists and objects lie too deep inside each other; send samples flat"


def form_of(payload: bytes) -> str:
    """Return ``json``, ``cbor`` or ``msgpack`` for a payload, by its first bytes. What is none of them is ``json``."""
    first = payload[:3]
    if not first or first[0] < 0x80:
        return "json"
    if first[0] >= 0xA0:
        if first[0] in _LONG_MSGPACK:
            return "msgpack"
        return "cbor" if first[0] < 0xC0 or first == _SELF_DESCRIBED else "json"
    if first[0] >= 0x90 or len(first) < 3:
        return "cbor"
    return "cbor" if 0xA0 <= first[1] < 0xC0 and first[2] < 0x40 else "msgpack"


def read_document(payload: bytes) -> Any:
    """Return the content of a payload in JSON, CBOR or MessagePack. Raise RejectError if it is malformed."""
    form = form_of(payload)
    try:
        return READERS[form](payload)
    except RejectError as error:
        if not b"\x80" <= payload[:1] < b"\xa0":
            raise
        first = error.kept()
    try:
        return READERS["cbor" if form == "msgpack" else "msgpack"](payload)
    except RejectError:
        raise first.error() from None


def read_json(payload: bytes) -> Any:
    """Return the content of JSON. Raise RejectError if it is malformed."""
    try:
        return msgspec.json.decode(payload)
    except RecursionError:
        raise RejectError("json", TOO_DEEP) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise json_error(payload, error) from None


def json_error(payload: bytes, error: Exception) -> RejectError:
    """Return the rejection of a payload that is no JSON."""
    # Many encoders write NaN and Infinity, although JSON has no such numbers.
    if b"NaN" in payload or b"Infinity" in payload:
        return RejectError("not_finite", f"NaN or Infinity, which JSON does not have ({shown(str(error))})")
    return RejectError("json", shown(str(error)))  # it names the place, however deep that lies


def read_msgpack(payload: bytes) -> Any:
    """Return the content of MessagePack. Raise RejectError if it is malformed."""
    try:
        return msgspec.msgpack.decode(payload)
    except RecursionError:
        raise RejectError("msgpack", TOO_DEEP) from None
    except (msgspec.MsgspecError, ValueError, TypeError) as error:  # TypeError: a list as a name
        raise RejectError("msgpack", shown(str(error))) from None


def read_cbor(payload: bytes) -> Any:
    """Return the content of CBOR. Raise RejectError if it is malformed, or has a tag other than that of a time."""
    source = io.BytesIO(payload)
    try:
        decoder = cbor2.CBORDecoder(
            source, tag_hook=_refuse_tag, semantic_decoders=_TAG_DECODERS, read_size=1, max_depth=_MAX_DEPTH
        )
        document = decoder.decode()
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise RejectError("cbor", shown(str(error))) from None
    if source.tell() != len(payload):
        raise RejectError("cbor", f"{len(payload) - source.tell()} bytes follow the end of the document")
    return document


READERS: dict[str, Callable[[bytes], Any]] = {"json": read_json, "cbor": read_cbor, "msgpack": read_msgpack}


def _content(value: Any, immutable: bool) -> Any:
    return value


def _refuse(value: Any, immutable: bool) -> Any:
    raise cbor2.CBORDecodeError("not supported")  # cbor2 adds the number of the tag


def _refuse_tag(tag: cbor2.CBORTag, immutable: bool) -> Any:
    raise cbor2.CBORDecodeError(f"tag {tag.tag} is not supported; send numbers, texts, lists and maps")


_TAG_DECODERS = {**dict.fromkeys(_REFUSED_TAGS, _refuse), **dict.fromkeys(_TRANSPARENT_TAGS, _content)}


# --- what was found -----------------------------------------------------------------------------------


def shown(text: str) -> str:
    """Return the begin of a text as one printable line."""
    return repr(text[: 4 * _MAX_SHOWN])[1:-1]


def found(value: Any) -> str:
    """Return a few words for a value of a document.

    >>> found(None), found([1, 2]), found({"x": 1, "y": 2}), found("abc"), found(True)
    ('null', 'a list of 2', 'an object with x, y', "the text 'abc'", 'true')

    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= _MAX_SHOWN else f"the text {value[:_MAX_SHOWN]!r}..."
    if isinstance(value, int | float):
        digits = repr(value) if isinstance(value, float) or value.bit_length() < 200 else "a very large whole number"
        return f"the number {digits}" if digits[:1] != "a" else digits
    if isinstance(value, dict):
        return f"an object with {names_of(value)}" if value else "an empty object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"a value of type {type(value).__name__}"


def names_of(members: Mapping[Any, Any]) -> str:
    """Return the first names of an object, for people."""
    names = [shown(str(name)[:_MAX_SHOWN]) for name in islice(members, _MAX_NAMES)]
    return ", ".join(names) + (", ..." if len(members) > _MAX_NAMES else "")
