"""Payloads: the formats of messages, each chosen by its name, or told from the message itself.

A `Payload` decodes a batch of messages. For each it returns the samples of every device in it, or why it is rejected:

>>> payload = make_payload(PayloadConfig("senml"), Units(), names_device=True)
>>> good, bad = payload.decode([b'[{"bn":"w1:","n":"ax","v":0},{"n":"ay","v":0},{"n":"az","v":1}]', b'{"acc": []}'])
>>> good[0].device, good[0].acc.tolist()
('w1', [[0.0, 0.0, 1.0]])
>>> bad.reason, bad.detail
('shape', 'the message is an object with acc, expected a list of SenML records')

`Samples` may hold one sensor only, and times of its own for each sensor: see there, and ``placing``. The caller makes
evenly spaced samples of both sensors of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from harstream.core.batches import Sensor
from harstream.errors import ConfigError
from harstream.wire.axes import Axes
from harstream.wire.canonical import decode_canonical, decode_json
from harstream.wire.common_names import common_fields, outline
from harstream.wire.compression import is_compressed, unpack
from harstream.wire.csv_text import check_columns, decode_csv
from harstream.wire.documents import form_of, found, read_cbor, read_document, read_json, read_msgpack
from harstream.wire.fields import Fields, decode_fields, find
from harstream.wire.other_names import IgnoredField
from harstream.wire.packed import MAGIC, decode_packed
from harstream.wire.phyphox import decode_phyphox
from harstream.wire.reject import Rejected, RejectError
from harstream.wire.samples import Samples, Units
from harstream.wire.senml import decode_senml
from harstream.wire.sensor_logger import RawUnits, decode_sensor_logger, is_sensor_logger

AUTO_PAYLOAD = "auto"
#: Shapes of messages that are remembered; only malformed ones bring many. Beyond it all are forgotten.
_MAX_OUTLINES = 256
_BEGIN = 64  # bytes in which a JSON message must begin
#: Limit of a single message that ``decode`` unpacks.
_MAX_UNPACKED = 256 * 1024

#: Format to the keys of ``fields`` that it uses; the others use none.
_KEYS = {
    "fields": frozenset(
        ("device", "t", "t_unit", "acc", "gyro", "samples", "rate_hz", "acc_scale", "gyro_scale"),
    ),
    "phyphox": frozenset(("device", "t", "acc", "gyro")),
    "csv": frozenset(("columns", "t_unit", "acc_scale", "gyro_scale")),
}

#: Samples of each device in one message, or why it is rejected.
Decoded = Sequence[Samples] | Rejected


@dataclass(frozen=True, slots=True)
class PayloadConfig:
    """Format of messages, as it is configured."""

    name: str = AUTO_PAYLOAD  # one of PAYLOADS
    fields: Fields = field(default_factory=Fields)
    axes: Axes = field(default_factory=Axes)

    def check(self, names_device: bool, paired: bool = False) -> None:
        """Raise ConfigError if the format cannot be decoded so.

        Args:
            names_device: Whether messages name their device, because the topic does not.
            paired: Whether the gyroscope has messages of its own.

        """
        self._check_use(paired)
        if self.name == "fields" and not self.fields.acc:
            raise ConfigError('payload: fields needs the place of acc, such as fields = { acc = ["ax", "ay", "az"] }')
        if self.name == "csv":
            missing = check_columns(self.fields)
            if missing:
                raise ConfigError(f"payload: csv: fields: {missing}")
        if not names_device:
            return
        if self.name == "packed":
            raise ConfigError("topic: packed messages name no device, so the topic needs a level {device}")
        if self.name == "fields" and not self.fields.device:
            raise ConfigError(
                'topic: without a level {device}, fields needs the place of the device, such as device = "id"'
            )
        if self.name == "csv" and "device" not in self.fields.columns:
            raise ConfigError("topic: without a level {device}, one of the columns must be device")

    def _check_use(self, paired: bool) -> None:
        """Raise ConfigError for a key of ``fields`` that would change nothing."""
        given, used = self.fields.given(), _KEYS.get(self.name, frozenset())
        unused = [key for key in given if key not in used]
        if unused:
            names, others = ", ".join(unused), [name for name, keys in _KEYS.items() if keys.issuperset(given)]
            choose = (
                f"set payload to {' or '.join(others)}" if others else f"{self.name} uses {', '.join(sorted(used))}"
            )
            raise ConfigError(
                f"fields: {names} would be ignored by payload = {self.name!r}; leave {names} out of fields, or {choose}"
            )
        has_t, has_gyro = bool(self.fields.t), bool(self.fields.gyro)
        if self.name == "csv":
            has_t, has_gyro = "t" in self.fields.columns, "gx" in self.fields.columns
        has_gyro |= paired  # messages of the gyroscope alone have it where others have the accelerometer
        for key, needs, is_there in (("t_unit", "t", has_t), ("gyro_scale", "gyro", has_gyro)):
            if key in given and not is_there:
                place = "columns" if self.name == "csv" else "fields"
                raise ConfigError(
                    f"fields: {key} would be ignored without {needs} in {place}; add {needs}, or leave it out"
                )
        if self.name == "phyphox":
            for key in ("acc", "gyro"):
                if len(getattr(self.fields, key)) == 1:
                    raise ConfigError(
                        f"fields: {key}: phyphox needs the ids of three buffers, one for each axis, got one"
                    )


class Payload(Protocol):
    """Decoder of a format of messages. It belongs to one thread.

    A message is decoded by itself; only the unit of raw accelerations of ``sensor-logger`` is kept for a recording.
    """

    name: str

    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        """Return the samples or the rejection of each message, in their order."""
        ...


class _OneByOne:
    """Payload whose messages are decoded one by one."""

    def __init__(self, name: str, decode_one: Callable[[bytes], Sequence[Samples]]) -> None:
        self.name = name
        self._decode_one = decode_one

    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        """Return the samples or the rejection of each message, in their order."""
        results: list[Decoded] = []
        decode_one = self._decode_one
        for payload in payloads:
            try:
                if not payload:
                    raise RejectError("empty", "no payload")
                results.append(decode_one(payload))
            except RejectError as error:
                results.append(error.kept())
        return results


def make_payload(config: PayloadConfig, units: Units, *, names_device: bool, sensor: Sensor | None = None) -> Payload:
    """Return the decoder of a format.

    Args:
        config: The format.
        units: Units of messages that name none, and whose format sets none.
        names_device: Whether messages name their device, because the topic does not.
        sensor: Sensors that messages may hold by themselves, where the topic is for one of them; None: messages hold
            both, or the accelerometer.

    """
    return _OneByOne(config.name, _MAKERS[config.name](config.fields, units, names_device, sensor))


# --- formats ------------------------------------------------------------------------------------------

_DecodeOne = Callable[[bytes], Sequence[Samples]]
_Make = Callable[[Fields, Units, bool, Sensor | None], _DecodeOne]


def _canonical(read: Callable[[bytes], Any]) -> _Make:
    """Return the maker of a decoder of canonical messages that ``read`` reads."""

    def make(_: Fields, units: Units, names_device: bool, sensor: Sensor | None) -> _DecodeOne:
        def decode_one(payload: bytes) -> Sequence[Samples]:
            return [decode_canonical(read(payload), units, names_device=names_device, sensor=sensor)]

        return decode_one

    return make


def _json(_: Fields, units: Units, names_device: bool, sensor: Sensor | None) -> _DecodeOne:
    return lambda payload: [decode_json(payload, units, names_device=names_device, sensor=sensor)]


def _packed(_: Fields, units: Units, names_device: bool, sensor: Sensor | None) -> _DecodeOne:
    def decode_one(payload: bytes) -> Sequence[Samples]:
        if payload[:2] != MAGIC:
            raise RejectError("packed", f"begins with {payload[:2].hex(' ')}, expected {MAGIC.hex(' ')}")
        if names_device:
            raise RejectError(
                "device", "packed messages name no device; publish to a topic with a level for the device"
            )
        return [decode_packed(payload, units, sensor)]

    return decode_one


def _fields(fields: Fields, units: Units, names_device: bool, sensor: Sensor | None) -> _DecodeOne:
    return lambda payload: [
        decode_fields(read_document(payload), fields, units, names_device=names_device, sensor=sensor)
    ]


def _senml(_: Fields, units: Units, names_device: bool, __: Sensor | None) -> _DecodeOne:
    return lambda payload: decode_senml(read_document(payload), units, names_device=names_device)


def _sensor_logger(_: Fields, __: Units, names_device: bool, ___: Sensor | None) -> _DecodeOne:
    raw_units = RawUnits()
    return lambda payload: decode_sensor_logger(read_document(payload), raw_units, names_device=names_device)


def _phyphox(fields: Fields, _: Units, names_device: bool, __: Sensor | None) -> _DecodeOne:
    return lambda payload: [decode_phyphox(read_document(payload), fields, names_device=names_device)]


def _csv(fields: Fields, units: Units, names_device: bool, sensor: Sensor | None) -> _DecodeOne:
    return lambda payload: decode_csv(payload, fields, units, names_device=names_device, sensor=sensor)


def _auto(_: Fields, units: Units, names_device: bool, sensor: Sensor | None) -> _DecodeOne:
    if sensor != Sensor.BOTH:
        return _Auto(units, names_device, sensor).decode_one
    read, read_gyro = _Auto(units, names_device).decode_one, _Auto(units, names_device, Sensor.GYRO).decode_one

    def decode_one(payload: bytes) -> Sequence[Samples]:
        try:
            return read(payload)
        except RejectError as error:
            if error.reason != "shape":
                raise
            refused = error.kept()
        try:
            return read_gyro(payload)
        except RejectError:
            raise refused.error() from None

    return decode_one


class _Auto:
    """Decoder that tells the format of each message from the message."""

    def __init__(self, units: Units, names_device: bool, sensor: Sensor | None = None) -> None:
        self._units, self._names_device, self._sensor = units, names_device, sensor
        self._json = _json(Fields(), units, names_device, sensor)
        self._packed = _packed(Fields(), units, names_device, sensor)
        self._raw_units = RawUnits()
        self._common: dict[Any, Fields | None] = {}  # by outline

    def decode_one(self, payload: bytes) -> Sequence[Samples]:
        """Return the samples of a message. Raise RejectError if it has no format that is told from the message."""
        if payload[:2] == MAGIC:
            return self._packed(payload)
        form = form_of(payload)
        if form != "json":
            return self._decode(read_document(payload), None)
        if payload[:_BEGIN].lstrip()[:1] != b"[":
            try:
                return self._json(payload)
            except RejectError as error:
                if error.reason != "shape":
                    raise
                first = error.kept()
            return self._decode(read_json(payload), first)
        return self._decode(read_json(payload), None)

    def _decode(self, document: Any, refused: Rejected | None) -> Sequence[Samples]:
        """Return the samples of a document, which as canonical JSON would be ``refused``."""
        if isinstance(document, list) and all(isinstance(one, dict) for one in document) and document:
            return decode_senml(document, self._units, names_device=self._names_device)
        if is_sensor_logger(document):
            return decode_sensor_logger(document, self._raw_units, names_device=self._names_device)
        if refused is None:
            try:
                return [self._canonical(document)]
            except RejectError as error:
                if error.reason != "shape":
                    raise
                refused = error.kept()
        fields = self._find_fields(document)
        if fields is None:
            raise refused.error()
        return [self._decode_common(document, fields)]

    def _canonical(self, document: Any) -> Samples:
        return decode_canonical(document, self._units, names_device=self._names_device, sensor=self._sensor)

    def _find_fields(self, document: Any) -> Fields | None:
        if not isinstance(document, dict) or _means_to_be_canonical(document):
            return None
        key = outline(document)
        if key is None:
            return common_fields(document, self._sensor)
        try:
            return self._common[key]
        except KeyError:
            fields = common_fields(document, self._sensor)
        if len(self._common) >= _MAX_OUTLINES:
            self._common.clear()
        self._common[key] = fields
        return fields

    def _decode_common(self, document: Any, fields: Fields) -> Samples:
        read = partial(decode_fields, document, units=self._units, names_device=self._names_device, sensor=self._sensor)
        try:
            return read(fields)
        except RejectError as error:
            if error.reason != "time":
                raise
        # A time from the start of the device, perhaps. As in a canonical message, the time of arrival counts instead.
        samples = read(replace(fields, t=""))
        value = find(document, fields.t)
        return replace(samples, ignored=(IgnoredField(fields.t, "time", found(value)),))


def _means_to_be_canonical(document: Mapping[Any, Any]) -> bool:
    """Return whether an object has samples as a canonical message has them, so that nothing else is to be guessed."""
    acc = document.get("acc")
    if isinstance(acc, list):
        return not acc or isinstance(acc[0], list)
    return acc is not None and not isinstance(acc, dict)


_MAKERS: dict[str, _Make] = {
    AUTO_PAYLOAD: _auto,
    "json": _json,
    "packed": _packed,
    "cbor": _canonical(read_cbor),
    "msgpack": _canonical(read_msgpack),
    "fields": _fields,
    "sensor-logger": _sensor_logger,
    "phyphox": _phyphox,
    "senml": _senml,
    "csv": _csv,
}
#: Names of the formats.
PAYLOADS = tuple(_MAKERS)


def decode(payload: bytes, units: Units) -> Samples:
    """Decode one message, whose format is told from its content, and whose topic names the device.

    Of two wearables in one message, the first is returned.

    Raises:
        RejectError: The payload is malformed, with one of ``reject.REASONS``.

    """
    if is_compressed(payload):
        payload = unpack(payload, _MAX_UNPACKED)
    (decoded,) = make_payload(PayloadConfig(), units, names_device=False).decode([payload])
    if isinstance(decoded, Rejected):
        raise decoded.error()
    if decoded[0].refused is not None:
        raise decoded[0].refused.error()
    return decoded[0]
