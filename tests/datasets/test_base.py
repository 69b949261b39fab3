"""KIND:PATH, and what is common to all kinds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from harstream.datasets import base, public
from harstream.errors import DatasetError


@pytest.mark.parametrize("data", ["hapt", "nothing:here", ":x", ""])
def test_what_is_no_kind_and_path_is_refused_with_the_kinds_there_are(data: str) -> None:
    with pytest.raises(DatasetError, match="one of hapt, wisdm-watch, actitracker, csv, uci-har"):
        base.load(data)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        base.load(f"csv:{tmp_path}/nowhere")


@pytest.mark.parametrize("kind", [*base.KINDS, *base.WINDOW_KINDS])
def test_every_kind_but_one_s_own_says_whose_it_is_and_can_be_fetched(kind: str) -> None:
    module = import_module((base.KINDS | base.WINDOW_KINDS)[kind])
    assert callable(getattr(module, "load" if kind in base.KINDS else "load_windows"))
    if kind != "csv":
        assert "Source:" in module.ABOUT
        assert "Licence" in module.ABOUT
        assert kind in public.SETS
