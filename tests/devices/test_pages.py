"""The figures, examples and settings of docs/devices agree with each other and with the programs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from harstream.config import RunConfig
from harstream.wire.decoder import Decoder, Message
from harstream.wire.samples import Units

from ..test_documents import block, page, table

DEPLOY = Path(__file__).parents[2] / "deploy" / "devices"


def test_counts_of_an_mpu6050_are_read_with_the_settings_beside_them():
    text = page("devices/esp32.md")
    config = RunConfig(**tomllib.loads(block(text, "settings counts")))
    units = Units(config.acc_unit, config.gyro_unit)
    decoder = Decoder(config.samples_template, needs_gyro=True, units=units, payload=config.payload_config)
    message = Message("wearables/w1/imu", block(text, "example counts").encode(), 0.0)
    batch, rejections = decoder.decode([message])
    assert rejections == []
    assert batch.t_ns[0] == 1763668800020000000
    assert batch.samples[0] == pytest.approx([0.01, -0.02, 0.99, 0.0174533, -0.0349066, 0.0], abs=2e-5)


def test_the_factors_are_one_divided_by_the_counts():
    rows = table(page("devices/esp32.md"), "range of accelerations")
    assert len(rows) == 4
    for _, acc_counts, acc_scale, _, gyro_counts, gyro_scale in rows:
        assert float(acc_scale) == pytest.approx(1 / float(acc_counts), rel=1e-4)
        assert float(gyro_scale) == pytest.approx(1 / float(gyro_counts), rel=1e-4)


@pytest.mark.parametrize("name", ["index", "sensor-logger", "phyphox", "esp32", "bangle-js"])
def test_the_files_that_a_page_names_exist(name):
    for path in re.findall(r"deploy/devices/[\w./-]*\w", page(f"devices/{name}.md")):
        assert (DEPLOY.parents[1] / path).exists(), path


@pytest.mark.parametrize(
    ("file", "texts"),
    [
        ("esp32/main.py", ("no broker:", "no sensor:")),
        ("esp32/esp32_mpu6050/esp32_mpu6050.ino", ("no broker:", "no sensor")),
        ("bangle-js/bridge.py", ("in reach", "connected to")),
    ],
)
def test_the_programs_print_what_the_pages_say(file, texts):
    program = (DEPLOY / file).read_text(encoding="utf-8")
    assert all(text in program for text in texts)
