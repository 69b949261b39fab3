"""Real recordings through a real broker: the labels are those that `harstream evaluate --stream` writes."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from harstream import bundle as bundles

from ..servers import Client, Process, recorded, wait_until

SESSIONS = ("exp01_user01", "exp02_user01")


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions of one wearer, in the publisher's layout."""
    folder = tmp_path_factory.mktemp("hapt")
    (folder / "RawData").mkdir()
    wanted = {"labels.txt", *(f"{sensor}_{name}.txt" for sensor in ("acc", "gyro") for name in SESSIONS)}
    with ZipFile(recorded("hapt.zip")) as archive:
        for name in archive.namelist():
            last = Path(name).name
            if last in wanted and Path(name).parent.name in ("RawData", "Raw-Data"):
                (folder / "RawData" / last).write_bytes(archive.read(name))
            elif last == "activity_labels.txt":
                (folder / last).write_bytes(archive.read(name))
    return folder


@pytest.fixture(scope="module")
def model() -> Path:
    """The shipped bundle."""
    return bundles.find(bundles.DEFAULT_MODEL)


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
        heard = client.labels()

    assert len(heard) == len(wanted)
    for device in SESSIONS:
        ours = [message for at, message in heard if at == device]
        theirs = [label for label in wanted if label["device"] == device]
        # A replay begins now, an evaluation at event time 0; the rest of time is the same.
        assert all(re.fullmatch(r"[A-Z_]+", message["label"]) for message in ours)
        begin = ours[0]["window"][0] - theirs[0]["window"][0]
        np.testing.assert_allclose([m["t"] - begin for m in ours], [label["t"] for label in theirs], atol=1e-4)
        rows = [[list(m["probabilities"].values()) for m in part] for part in (ours, theirs)]
        np.testing.assert_allclose(rows[0], rows[1], atol=1e-3)
        # JSON rounds samples to a millionth: a belief that is as good as undecided may fall to the other side.
        agreed = [(one, other) for one, other in zip(ours, theirs, strict=True) if one["label"] == other["label"]]
        assert len(ours) - len(agreed) <= len(ours) / 500
        np.testing.assert_allclose(
            [one["confidence"] for one, _ in agreed], [other["confidence"] for _, other in agreed], atol=2e-3
        )
