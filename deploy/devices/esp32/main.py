"""Publish an MPU-6050 on an ESP32 to harstream, half a second a message. It runs on MicroPython without any library.

Change the settings and copy the file to the board as main.py; docs/devices/esp32.md says how.

The sensor's own buffer (FIFO) keeps the samples at an even rate while this program is busy with the network. A message
is harstream's packed format, with the sensor's whole numbers and the factors that make g and rad/s of them.
"""

import math
import socket
import struct
import time

WIFI_NAME, WIFI_PASSWORD = "name of the network", "its password"
BROKER, PORT = "192.168.1.20", 1883
USER, PASSWORD = "", ""  # empty: the broker asks for none
DEVICE = "esp32-1"  # one name for each board
SDA, SCL = 21, 22  # pins of the sensor

RATE_HZ = 50
SAMPLES = 25  # in a message: half a second
KEPT_MESSAGES = 120  # while the broker cannot be reached: a minute, 40 kB
TIMEOUT_S = 1  # of the broker; the sensor's buffer lasts for 1.7
RETRY_MS = 5000
ACC_SCALE = 1 / 4096  # g, at a range of 8 g
GYRO_SCALE = math.pi / 180 / 32.8  # rad/s, at a range of 1000 deg/s
SAMPLE_BYTES = 12  # accelerometer x, y, z and gyroscope x, y, z, two bytes each
FIFO_BYTES = 1024


class Mpu6050:
    """Sensor behind ``i2c``, which has ``readfrom_mem`` and ``writeto_mem`` as machine.I2C does."""

    def __init__(self, i2c, address: int = 0x68) -> None:  # noqa: ANN001
        self.i2c, self.address = i2c, address

    def start(self) -> None:
        """Reset the sensor and let it fill its buffer."""
        self._write(0x6B, 0x80)  # PWR_MGMT_1: reset
        time.sleep_ms(100)
        for register, value in (
            (0x6B, 0x01),  # PWR_MGMT_1: awake, clock of the gyroscope
            (0x1A, 0x04),  # CONFIG: low-pass filter of 21 Hz, below half the rate
            (0x19, 1000 // RATE_HZ - 1),  # SMPLRT_DIV, of 1 kHz
            (0x1B, 0x10),  # GYRO_CONFIG: 1000 deg/s
            (0x1C, 0x10),  # ACCEL_CONFIG: 8 g, as the steps of a runner exceed 4 g
            (0x23, 0x78),  # FIFO_EN: both sensors
        ):
            self._write(register, value)
        self.restart()

    def restart(self) -> None:
        """Empty the buffer."""
        self._write(0x6A, 0x04)  # USER_CTRL: reset of the buffer, which must be off
        self._write(0x6A, 0x40)

    def waiting(self) -> int:
        """Return the number of samples in the buffer; -1 if it has overflowed, so that its content is useless."""
        count = struct.unpack(">H", self.i2c.readfrom_mem(self.address, 0x72, 2))[0]
        return -1 if count > FIFO_BYTES - SAMPLE_BYTES else count // SAMPLE_BYTES

    def read(self, n: int) -> bytes:
        """Return the ``n`` oldest samples, big-endian, and take them out of the buffer."""
        return self.i2c.readfrom_mem(self.address, 0x74, n * SAMPLE_BYTES)

    def _write(self, register: int, value: int) -> None:
        self.i2c.writeto_mem(self.address, register, bytes([value]))


class Clock:
    """Times of samples: the sensor counts them evenly, and the board's clock says where they are."""

    def __init__(self) -> None:
        self.next_ns = None

    def first(self, waiting: int, now_ns: int) -> int:
        """Return the time of the oldest of ``waiting`` samples, of which a message takes ``SAMPLES``.

        When a sample arrived is only known to a sample period, so the board's clock corrects the count by an eighth.
        """
        period_ns = 1000000000 // RATE_HZ
        measured_ns = now_ns - waiting * period_ns + period_ns // 2
        if self.next_ns is None or abs(measured_ns - self.next_ns) > 5 * period_ns:
            self.next_ns = measured_ns
        first_ns = self.next_ns + (measured_ns - self.next_ns) // 8
        self.next_ns = first_ns + SAMPLES * period_ns
        return first_ns


class Mqtt:
    """As much of MQTT 3.1.1 as a device needs that only publishes, at QoS 1."""

    def __init__(self) -> None:
        self.socket = None
        self.last_id = 0

    def connect(self) -> None:
        """Connect to the broker. Raise OSError if it cannot be reached or refuses."""
        self.socket = socket.socket()
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(socket.getaddrinfo(BROKER, PORT)[0][-1])
        flags = 0xC2 if USER else 0x02  # user and password, clean session
        body = text("MQTT") + bytes([4, flags, 0, 30]) + text(DEVICE)  # 30 s: keep alive
        if USER:
            body += text(USER) + text(PASSWORD)
        self._send(0x10, body)
        if self._receive(0x20)[1]:
            raise OSError("the broker refuses " + DEVICE)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish, and wait until the broker has the message. Raise OSError if it does not say so."""
        self.last_id = self.last_id % 65535 + 1
        packet_id = struct.pack(">H", self.last_id)
        self._send(0x32, text(topic) + packet_id + payload)
        while self._receive(0x40) != packet_id:
            pass

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _send(self, kind: int, body: bytes) -> None:
        header, rest = bytes([kind]), len(body)
        while rest > 127:
            header += bytes([rest % 128 + 128])
            rest //= 128
        self.socket.write(header + bytes([rest]) + body)

    def _receive(self, wanted: int) -> bytes:
        """Return the body of the next packet of a kind, and pass over others."""
        kind = -1
        while kind != wanted:
            kind, size, shift = self._read(1)[0], 0, 0
            while True:
                digit = self._read(1)[0]
                size |= (digit & 127) << shift
                shift += 7
                if digit < 128:
                    break
            body = self._read(size)
        return body

    def _read(self, n: int) -> bytes:
        data = self.socket.read(n)
        if data is None or len(data) < n:
            raise OSError("the broker closed the connection")
        return data


def text(value: str) -> bytes:
    """Return a text with its length before it, as MQTT writes it."""
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def unix_ns() -> int:
    """Return nanoseconds since 1970; MicroPython counts from 1970 or 2000."""
    return time.time_ns() + (946684800000000000 if time.gmtime(0)[0] == 2000 else 0)


def packed(first_ns: int, data: bytes) -> bytes:
    """Return the message with these samples, of which the first is of ``first_ns``."""
    header = struct.pack("<2sBBqfHHff", b"HS", 1, 3, first_ns, RATE_HZ, SAMPLES, 0, ACC_SCALE, GYRO_SCALE)
    values = struct.unpack(">%dh" % (6 * SAMPLES), data)  # noqa: UP031
    return header + struct.pack("<%dh" % (6 * SAMPLES), *values)  # noqa: UP031


class Publisher:
    """Samples from the sensor to the broker. What the broker has not confirmed is kept, and the oldest dropped."""

    def __init__(self, sensor: Mpu6050, mqtt: Mqtt) -> None:
        self.sensor, self.mqtt = sensor, mqtt
        self.clock = Clock()
        self.kept = []
        self.failed_ms = None

    def step(self) -> None:
        """Take a message out of the sensor if one is complete, and send the oldest that is kept."""
        waiting = self.sensor.waiting()
        if waiting < 0:
            self.sensor.restart()
            self.clock = Clock()
        elif waiting >= SAMPLES:
            self.kept.append(packed(self.clock.first(waiting, unix_ns()), self.sensor.read(SAMPLES)))
            self.kept = self.kept[-KEPT_MESSAGES:]
        if self.kept and (self.failed_ms is None or time.ticks_diff(time.ticks_ms(), self.failed_ms) > RETRY_MS):
            self._send()

    def _send(self) -> None:
        try:
            if self.mqtt.socket is None:
                self.mqtt.connect()
            self.mqtt.publish("wearables/" + DEVICE + "/imu", self.kept[0])
            self.kept.pop(0)
            self.failed_ms = None
        except OSError as error:
            print("no broker:", error)
            self.mqtt.close()
            self.failed_ms = time.ticks_ms()


def join_network() -> None:
    """Connect to the wireless network, and set the clock by NTP. Without NTP the labels have dates of the year 2000."""
    import network
    import ntptime

    wlan = network.WLAN(network.STA_IF)
    wlan.active(True)
    wlan.connect(WIFI_NAME, WIFI_PASSWORD)
    while not wlan.isconnected():
        time.sleep_ms(200)
    for _ in range(5):
        try:
            ntptime.settime()
            break
        except OSError:
            time.sleep_ms(1000)


def main() -> None:
    """Publish for ever."""
    from machine import I2C, Pin

    join_network()
    sensor = Mpu6050(I2C(0, scl=Pin(SCL), sda=Pin(SDA), freq=400000))
    while True:
        try:
            sensor.start()
            break
        except OSError as error:
            print("no sensor:", error)
            time.sleep_ms(1000)
    publisher = Publisher(sensor, Mqtt())
    while True:
        publisher.step()
        time.sleep_ms(10)


if __name__ == "__main__":
    main()
