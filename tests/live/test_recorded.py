"""Real recordings through a real broker get the labels that `harstream evaluate --stream` writes."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from harstream import shipped
from harstream.core.smoothing_section import Smoothing

from ..servers import Client, Process, recorded, wait_until

SESSIONS = ("exp01_user01", "exp02_user01")


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two sessions of one subject in the layout of the data set, with the six decimals that JSON keeps."""
    folder = tmp_path_factory.mktemp("hapt")
    (folder / "RawData").mkdir()
    wanted = {"labels.txt", *(f"{sensor}_{name}.txt" for sensor in ("acc", "gyro") for name in SESSIONS)}
    with ZipFile(recorded("hapt.zip")) as archive:
        for name in archive.namelist():
            last = Path(name).name
            if last in wanted and Path(name).parent.name in ("RawData", "Raw-Data"):
                rows = np.loadtxt(archive.read(name).decode().splitlines())
                np.savetxt(folder / "RawData" / last, rows, fmt="%d" if last == "labels.txt" else "%.6f")
            elif last == "activity_labels.txt":
                (folder / last).write_bytes(archive.read(name))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the shipped bundle with an HMM smoother."""
    folder = shutil.copytree(shipped.find("waist"), tmp_path_factory.mktemp("model") / "smoothed")
    data = json.loads((folder / "bundle.json").read_text())
    data["smoothing"] = Smoothing("hmm", 0.6, fixed_lag_windows=2).to_dict()
    (folder / "bundle.json").write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize("payload", ["json", "packed"])
def test_every_due_window_of_a_session_is_labelled_exactly_once_as_evaluated(
    mosquitto, tmp_path, sessions, model, payload
):
    with Process(
        *[
            "evaluate",
            "--stream",
            "--data",
            f"hapt:{sessions}",
            "--model",
            str(model),
            "--labels",
            str(tmp_path / "labels"),
        ],
        folder=tmp_path,
    ) as evaluate:
        assert evaluate.exit_code() == 0, evaluate.err
    wanted = [json.loads(line) for line in (tmp_path / "labels").read_text().splitlines()]
    assert {label["device"] for label in wanted} == set(SESSIONS)

    run = ["run", "--broker", mosquitto.address, "--model", str(model), "--instance", "test", "--http", "off"]
    with Client(mosquitto.port, "wearables/+/activity") as client, Process(*run, folder=tmp_path) as daemon:
        daemon.wait_for(" ready: ")
        publish = [
            "replay",
            "--broker",
            mosquitto.address,
            "--data",
            f"hapt:{sessions}",
            "--speed",
            "0",
            "--payload",
            payload,
        ]
        with Process(*publish, folder=tmp_path) as replay:
            assert replay.exit_code() == 0, replay.err
        wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        daemon.send(signal.SIGTERM)
        assert daemon.exit_code() == 0
        received = client.labels()

    assert len(received) == len(wanted)
    for device in SESSIONS:
        live = [message for sender, message in received if sender == device]
        evaluated = [label for label in wanted if label["device"] == device]
        # A replay begins at the present time, an evaluation at event time 0.
        assert all(re.fullmatch(r"[A-Z_]+", label["label"]) for label in live)
        begin = live[0]["window"][0] - evaluated[0]["window"][0]
        np.testing.assert_allclose(
            [label["t"] - begin for label in live], [label["t"] for label in evaluated], atol=1e-4
        )
        assert [label["label"] for label in live] == [label["label"] for label in evaluated]
        # Both are rounded to four decimals.
        rows = [[list(label["probabilities"].values()) for label in part] for part in (live, evaluated)]
        np.testing.assert_allclose(rows[0], rows[1], atol=1.01e-4)
        confidence = [[label["confidence"] for label in part] for part in (live, evaluated)]
        np.testing.assert_allclose(confidence[0], confidence[1], atol=1.01e-4)
