"""Words: what the names in messages and topics say.

>>> sensor_of("values.AcX"), sensor_of("gyro_y"), sensor_of("magnetometer.x"), sensor_of("data.x")
('acc', 'gyro', 'other', '')
>>> sensor_of("userAcceleration.x"), sensor_of("Gravity.z"), sensor_of("linear_acceleration.x")
('linear', 'gravity', 'linear')
"""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
#: Sensor to the words that name it, whole, and to the beginnings of others.
_SENSORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "linear": ("lin user nogravity", ("linear", "useracc", "linacc", "withoutgravity")),
    "gravity": ("gravity grav", ("gravit",)),
    "gyro": (
        "gyro gyr gyc gyroscope gy g rot rotation omega w angular angvel dps",
        ("gyr", "rotationrate", "angularv"),
    ),
    "acc": ("acc accel accelerometer acceleration ac a accl xl totalacceleration", ("acc", "totalacc")),
    "other": (
        "mag magnet magnetic compass m mx my mz magn orientation ori euler quat quaternion q pos position location gps "
        "temp temperature pressure baro light heading yaw pitch roll bearing battery velocity vel rotationvector "
        "speed steps heart hr ppg ecg eda humidity altitude latitude longitude",
        ("magn", "temper", "quat", "orient"),
    ),
}
#: Names that would be taken for another sensor by one of their words.
_WHOLE = {"gforce": "acc", "rotationvector": "other", "attitude": "other", "accuracy": "other"}
_TIMES = (
    "t ts time times timestamp timestamps stamp datetime date epoch unixtime uptime millis micros nanos ms us ns sec "
    "secs seconds at when tick ticks clock devicetime utc created sampled"
)
_COUNTERS = "seq sequence count counter cnt index idx id number no n packet message msg battery bat steps version v crc"
_RATES = "hz fs freq frequency odr sps rate samplerate samplingrate"
_DEVICES = "device dev id who mac serial sn uid uuid name node client user tag address addr imei wearer subject"
#: Levels of topics that say what is sent, or where, but name no device.
_GENERIC = (
    "imu imus acc accel accelerometer gyro gyroscope data raw telemetry wearables wearable devices device dev iot "
    "home mqtt json state events event stream streams samples sample motion sensor sensors watch phone phones v1 v2 "
    "v3 tele stat up uplink out values value measurement measurements mpu6050 mpu9250 bno055 lsm6ds3 tags tag "
    "boards board esp esp32 esp8266 arduino me test demo lab office hospital room building floor public app apps "
    "body band"
)
GENERIC = frozenset(_GENERIC.split())
AXES = "xyz"


def words_of(name: str) -> list[str]:
    """Return the words of a name in small letters: ``accX`` has acc and x."""
    return [word.lower() for word in _WORD.findall(name)]


@lru_cache(maxsize=4096)
def sensor_of(path: str) -> str:
    """Return the sensor that a path names: acc, gyro, linear, gravity, other, or "" for none.

    The step nearest to the value counts most. A step may be the name of an axis too.
    """
    steps = [step for step in path.split(".") if not step.isdecimal()]
    for number, step in enumerate(reversed(steps)):
        # A single letter around others is a name of anything.
        sensor = "" if number and len(step) == 1 else _sensor_of_step(step)
        if sensor:
            return sensor
    return ""


def _sensor_of_step(step: str) -> str:
    words = words_of(step)
    plain = "".join(words)
    # "ax" and "accx" are one word each: without its axis it may be a sensor.
    stems = [*words, plain, *(word[:-1] for word in (*words, plain) if word[-1:] in AXES and len(word) > 1)]
    for name, sensor in _WHOLE.items():
        if plain.startswith(name):
            return sensor
    for sensor, (known, beginnings) in _SENSORS.items():
        if not set(known.split()).isdisjoint(stems) or any(stem.startswith(beginnings) for stem in stems):
            return sensor
    return ""


def sensor_of_level(level: str) -> str:
    """Return the sensor that a level of a topic names, as a whole word; "" for none."""
    return sensor_of(level) if len(level) > 1 and level.isascii() and not any(map(str.isdigit, level)) else ""


def names_time(path: str) -> bool:
    """Return whether the last step of a path is the name of a time."""
    return _is_one_of(path, _TIMES)


def names_counter(path: str) -> bool:
    """Return whether the last step of a path is the name of a counter, which may look like a time."""
    return _is_one_of(path, _COUNTERS) and not names_time(path)


def names_rate(path: str) -> bool:
    """Return whether the last step of a path is the name of a sample rate."""
    return _is_one_of(path, _RATES)


def names_device(path: str) -> bool:
    """Return whether the last step of a path may be the name of a device."""
    return _is_one_of(path, _DEVICES)


def unit_of_time(path: str) -> str:
    """Return the unit in the name of a time: s, ms, us, ns, or ""."""
    words = set(words_of(path.rpartition(".")[2]))
    for unit, names in (("ms", "ms millis milliseconds"), ("us", "us micros microseconds"), ("ns", "ns nanos")):
        if not words.isdisjoint(names.split()):
            return unit
    return "s" if not words.isdisjoint(("s", "sec", "secs", "seconds")) else ""


def _is_one_of(path: str, known: str) -> bool:
    last = path.rpartition(".")[2]
    words = words_of(last)
    stems = {*words, "".join(words), last.lower()}
    return not stems.isdisjoint(known.split())
