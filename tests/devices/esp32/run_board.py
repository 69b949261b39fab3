# mypy: ignore-errors
"""Run the ESP32's program under MicroPython with a stand-in for the sensor, which plays counts from a file.

Arguments: folder of the program, port of the broker, file of counts (big-endian int16, six a sample), sample rate of
the sensor in Hz, start in ns since 1970. Time is not real: it goes on when the program sleeps.
"""

import sys

FOLDER, PORT, COUNTS, RATE_HZ, START_NS = sys.argv[1:6]
sys.path.insert(0, FOLDER)
import main as board  # noqa: E402

EPOCH_2000_NS = 946684800000000000
#: Seconds after the start in which the broker cannot be reached, and in which the program is kept from running: for
#: less and for more than the sensor's buffer lasts.
OUTAGE_S, BUSY_S, TOO_BUSY_S = (8, 25), (30, 31), (40, 43)


class Time:
    """Module ``time`` of an ESP32, which counts from 2000."""

    def __init__(self):
        self.elapsed_ms = 0

    def sleep_ms(self, ms):
        self.elapsed_ms += ms

    def time_ns(self):
        return int(START_NS) - EPOCH_2000_NS + self.elapsed_ms * 1000000

    def ticks_ms(self):
        return self.elapsed_ms

    def ticks_diff(self, a, b):
        return a - b

    def gmtime(self, seconds):
        return (2000, 1, 1, 0, 0, 0, 5, 1)


class Sensor:
    """MPU-6050 as machine.I2C shows it."""

    def __init__(self, time, counts):
        self.time, self.counts = time, counts
        self.registers = {0x6B: 0x40}
        self.taken = 0

    def made(self):
        """Return the number of samples until now."""
        return min(self.time.elapsed_ms * float(RATE_HZ) // 1000, len(self.counts) // 12)

    def writeto_mem(self, address, register, value):
        assert address == 0x68
        self.registers[register] = value[0]
        if register == 0x6A and value[0] & 0x04:
            self.taken = int(self.made())

    def readfrom_mem(self, address, register, n):
        assert address == 0x68
        expected = {0x6B: 1, 0x1A: 4, 0x19: 19, 0x1B: 0x10, 0x1C: 0x10, 0x23: 0x78, 0x6A: 0x40}
        assert self.registers == expected, self.registers
        waiting = int(self.made() - self.taken) * 12
        if register == 0x72:
            return min(waiting, 1024).to_bytes(2, "big")
        assert register == 0x74
        assert n <= waiting <= 1024
        self.taken += n // 12
        return self.counts[(self.taken * 12 - n) : self.taken * 12]


board.time = time = Time()
board.BROKER, board.PORT, board.DEVICE = "127.0.0.1", int(PORT), "esp32-1"
board.TIMEOUT_S = 180  # of the real time, in which a loaded machine may be slow
with open(COUNTS, "rb") as file:  # noqa: PTH123
    sensor = board.Mpu6050(Sensor(time, file.read()))
reach = board.Mqtt.connect


def connect(mqtt):
    """Fail during the outage."""
    if OUTAGE_S[0] <= time.elapsed_ms / 1000 < OUTAGE_S[1]:
        raise OSError("an outage")
    reach(mqtt)


board.Mqtt.connect = connect
sensor.start()
publisher = board.Publisher(sensor, board.Mqtt())
most_kept = 0
while sensor.waiting() >= 0 and sensor.i2c.made() < len(sensor.i2c.counts) // 12:
    publisher.step()
    most_kept = max(most_kept, len(publisher.kept))
    before = time.elapsed_ms
    time.sleep_ms(10)
    if before < OUTAGE_S[0] * 1000 <= time.elapsed_ms:
        publisher.mqtt.close()
    for busy in (BUSY_S, TOO_BUSY_S):
        if before < busy[0] * 1000 <= time.elapsed_ms:
            time.sleep_ms((busy[1] - busy[0]) * 1000)
    if before < TOO_BUSY_S[0] * 1000 <= time.elapsed_ms:
        assert sensor.waiting() == -1
        publisher.step()
while publisher.kept:
    publisher.step()
    time.sleep_ms(10)
print("most kept", most_kept)
