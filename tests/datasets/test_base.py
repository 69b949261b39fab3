"""KIND:PATH, and requirements that hold for all kinds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from harstream.datasets import base, public
from harstream.datasets.base import Recording, select_subjects
from harstream.errors import DatasetError

from .archives import zip_of


@pytest.mark.parametrize("data", ["hapt", "nothing:here", ":x", "", "csv:"])
def test_what_is_no_kind_and_path_is_refused_with_the_kinds_there_are(data: str) -> None:
    with pytest.raises(DatasetError, match=r"one of hapt, wisdm-watch, actitracker, umafall, .*, csv, uci-har"):
        base.load(data)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        base.load(f"csv:{tmp_path}/nowhere")


def test_an_encrypted_archive_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/anna_1.csv").write_text("t,ax,ay,az,label")
    archive = bytearray(zip_of(tmp_path / "own", tmp_path / "own.zip").read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        archive[archive.index(header) + flags] |= 1
    (tmp_path / "own.zip").write_bytes(archive)
    with pytest.raises(DatasetError, match=r"own\.zip: expected a readable folder, zip or tar: .*encrypted"):
        base.load(f"csv:{tmp_path}/own.zip")


@pytest.mark.parametrize("kind", [*base.KINDS, *base.WINDOW_KINDS])
def test_every_public_kind_has_a_source_and_can_be_fetched(kind: str) -> None:
    module = import_module((base.KINDS | base.WINDOW_KINDS)[kind])
    assert callable(getattr(module, "load" if kind in base.KINDS else "load_windows"))
    if kind != "csv":
        assert "Source:" in module.ABOUT
        assert "Licence" in module.ABOUT
        assert "Placement:" in module.ABOUT
        assert kind in public.SETS
        assert set(public.SETS[kind].placements) <= set(base.PLACEMENTS)


def test_recordings_of_some_subjects_only_and_none_is_an_error() -> None:
    recordings = [Recording(name, name[:2], 50.0, np.zeros((5, 6), np.float32), ()) for name in ("01a", "01b", "02a")]
    assert [recording.name for recording in select_subjects(recordings, ["01"])] == ["01a", "01b"]
    with pytest.raises(DatasetError, match="subject '03' has no recording: the subjects are 01, 02"):
        select_subjects(recordings, ["01", "03"])


def test_a_folder_without_its_kind_is_answered_with_csv(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"got '{tmp_path}': did you mean csv:{tmp_path}"):
        base.load(str(tmp_path))
