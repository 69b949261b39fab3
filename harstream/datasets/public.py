"""Public data sets: address, size, licence and content of the archives that ``harstream data`` downloads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harstream.datasets import files
from harstream.errors import ConfigError, DatasetError

_UCI = "https://archive.ics.uci.edu/static/public"


@dataclass(frozen=True, slots=True)
class PublicSet:
    """Data set as its publisher ships it."""

    kind: str  # KIND of ``--data KIND:PATH``
    about: str  # description in one line
    licence: str  # terms in one line, with the paper to cite
    url: str
    file_name: str  # name of the downloaded file
    size_mb: int  # rounded
    members: Mapping[str, int]  # least number of files whose path ends with this regular expression
    sha256: str | None = None  # of a downloaded file, because the publishers give none; None: not known


SETS = {
    public.kind: public
    for public in (
        PublicSet(
            "hapt",
            "raw sessions of a phone at the waist, 50 Hz, 30 subjects, 6 activities and 6 postural transitions",
            "no commercial use; cite Reyes-Ortiz et al. 2015",
            f"{_UCI}/341/smartphone+based+recognition+of+human+activities+and+postural+transitions.zip",
            "hapt.zip",
            80,
            {r"acc_exp\d+_user\d+\.txt": 61, r"gyro_exp\d+_user\d+\.txt": 61, r"RawData/labels\.txt": 1},
            "4ac4ae064227c07045a99551876b54d204837e995e298b6488559e209b3deb09",
        ),
        PublicSet(
            "uci-har",
            "windows of a phone at the waist, filtered and cut by their publisher, 50 Hz, 30 subjects, 6 activities",
            "no commercial use; cite Anguita et al. 2013",
            f"{_UCI}/240/human+activity+recognition+using+smartphones.zip",
            "uci-har.zip",
            61,
            {r"Inertial Signals/\w+_train\.txt": 9, r"Inertial Signals/\w+_test\.txt": 9, r"y_(train|test)\.txt": 2},
            "c00b803081a5c797cd5e4b83700a9810b38d53d9d84e01917e090e1fdbc81031",
        ),
        PublicSet(
            "wisdm-watch",
            "raw sessions of a watch (and a phone, not used) at 20 Hz, 51 subjects, 18 everyday activities",
            "CC BY 4.0; cite Weiss 2019",
            f"{_UCI}/507/wisdm+smartphone+and+smartwatch+activity+and+biometrics+dataset.zip",
            "wisdm-watch.zip",
            300,
            {r"data_\d+_accel_watch\.txt": 46, r"data_\d+_gyro_watch\.txt": 46},
        ),
        PublicSet(
            "actitracker",
            "a phone in the trouser pocket, accelerometer only, 20 Hz, 36 users, 6 activities",
            "none named; cite Kwapisz et al. 2010",
            "https://www.cis.fordham.edu/wisdm/includes/datasets/latest/WISDM_ar_latest.tar.gz",
            "actitracker.tar.gz",
            11,
            {r"WISDM_ar_v[\d.]+_raw\.txt": 1},
        ),
    )
}


def find_set(kind: str) -> PublicSet:
    """Return the public data set of a kind.

    Raises:
        ConfigError: There is none.

    """
    if kind not in SETS:
        raise ConfigError(f"{kind!r} is not a public data set: the public ones are {', '.join(SETS)}")
    return SETS[kind]


def check_archive(public: PublicSet, path: Path) -> None:
    """Read a whole archive and check its content.

    Raises:
        DatasetError: The archive is damaged or lacks files.

    """
    names = files.list_files(path)
    for pattern, wanted in public.members.items():
        found = sum(re.search(rf"(^|/){pattern}$", name) is not None for name in names)
        if found < wanted:
            raise DatasetError(
                f"{path}: expected {wanted} files like {pattern} in {public.kind}, found {found}: "
                "delete the file and download it again"
            )
