"""The output in docs/how-to/connect-a-device.md is what a probe prints of the devices that the page names."""

from __future__ import annotations

import numpy as np

from harstream.core.batches import Float32
from harstream.probe import report
from harstream.probe.findings import examine

from ..test_documents import block, page
from . import devices
from .test_shapes import PHONE, WAIST

PAGE = page("how-to/connect-a-device.md")


def test_the_board_that_sends_counts():
    messages = devices.heard(devices.mpu_counts, "home/esp32-4f2a/mpu", per_message=1)
    assert block(PAGE, "probe counts") == report.describe(examine(messages, PHONE), "phone") + "\n"


def test_the_strap_whose_sensors_have_a_topic_each():
    def turns(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
        rotations = np.degrees(samples[:, 3:]).astype(float).round(2).tolist()
        return devices.dumps({"timestamp": t_ns // 10**6, "values": rotations})

    messages = devices.together(
        devices.heard(devices.acc_alone, "w/strap-2/accelerometer", per_message=1),
        devices.heard(turns, "w/strap-2/gyroscope", per_message=10, rate_hz=100.0, lag_s=0.05),
    )
    findings = examine(messages, WAIST, model="waist", filters=["w/#"])
    printed = f"{report.describe(findings, 'waist')}\n\nsettings:\n\n{report.settings(findings)}"
    assert block(PAGE, "probe pair") == printed
