"""Public data sets: source, terms and content of the archives that ``harstream data`` lists and downloads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harstream.datasets import files
from harstream.errors import ConfigError, DatasetError

_UCI = "https://archive.ics.uci.edu"
_DIFRONZO = "https://github.com/DiFronzo/LSTM-for-Human-Activity-Recognition-classification"


@dataclass(frozen=True, slots=True)
class PublicSet:
    """Data set as its publisher ships it."""

    kind: str  # KIND of ``--data KIND:PATH``
    about: str  # description in one line
    subjects: int
    placements: tuple[str, ...]  # of base.PLACEMENTS
    terms: str  # in one line, with the paper to cite
    source: str  # address of the publisher's page
    url: str  # address of the archive
    file_name: str  # name of the downloaded file
    size_mb: int | None  # rounded; None: not known
    members: Mapping[str, int]  # least number of files whose path ends with this regular expression
    sha256: str | None = None  # of a downloaded file, because the publishers give none; None: not known


SETS = {
    public.kind: public
    for public in (
        PublicSet(
            "hapt",
            "raw sessions of a phone, 50 Hz, 6 activities and 6 postural transitions",
            30,
            ("waist",),
            "no commercial use; cite Reyes-Ortiz et al. 2015",
            f"{_UCI}/dataset/341",
            f"{_UCI}/static/public/341/smartphone+based+recognition+of+human+activities+and+postural+transitions.zip",
            "hapt.zip",
            80,
            {r"acc_exp\d+_user\d+\.txt": 61, r"gyro_exp\d+_user\d+\.txt": 61, r"RawData/labels\.txt": 1},
            "4ac4ae064227c07045a99551876b54d204837e995e298b6488559e209b3deb09",
        ),
        PublicSet(
            "uci-har",
            "windows of a phone, filtered and cut by their publisher, 50 Hz, 6 activities",
            30,
            ("waist",),
            "no commercial use; cite Anguita et al. 2013",
            f"{_UCI}/dataset/240",
            f"{_UCI}/static/public/240/human+activity+recognition+using+smartphones.zip",
            "uci-har.zip",
            61,
            {r"Inertial Signals/\w+_train\.txt": 9, r"Inertial Signals/\w+_test\.txt": 9, r"y_(train|test)\.txt": 2},
            "c00b803081a5c797cd5e4b83700a9810b38d53d9d84e01917e090e1fdbc81031",
        ),
        PublicSet(
            "wisdm-watch",
            "raw sessions of a watch (and a phone, not used), 20 Hz, 18 everyday activities",
            51,
            ("wrist",),
            "CC BY 4.0; cite Weiss 2019",
            f"{_UCI}/dataset/507",
            f"{_UCI}/static/public/507/wisdm+smartphone+and+smartwatch+activity+and+biometrics+dataset.zip",
            "wisdm-watch.zip",
            300,
            {r"data_\d+_accel_watch\.txt": 46, r"data_\d+_gyro_watch\.txt": 46},
        ),
        PublicSet(
            "actitracker",
            "a phone, accelerometer only, 20 Hz, 6 activities",
            36,
            ("pocket",),
            "none named; cite Kwapisz et al. 2010",
            "https://www.cis.fordham.edu/wisdm/dataset.php",
            "https://www.cis.fordham.edu/wisdm/includes/datasets/latest/WISDM_ar_latest.tar.gz",
            "actitracker.tar.gz",
            11,
            {r"WISDM_ar_v[\d.]+_raw\.txt": 1},
        ),
        PublicSet(
            "umafall",
            "trials of 15 s: a phone, accelerometer only, 200 Hz, and body tags, 20 Hz; 12 activities and 3 falls",
            19,
            ("pocket", "waist", "chest", "wrist", "ankle"),
            "free to download; cite Casilari et al. 2017",
            "https://figshare.com/articles/dataset/UMA_ADL_FALL_Dataset_zip/4214283",
            "https://figshare.com/ndownloader/files/11826395",
            "umafall.zip",
            79,
            {r"UMAFall_Subject_\d+_(ADL|Fall)_.+\.csv": 746},
        ),
        PublicSet(
            "sp-sw",
            "a phone in four orientations and a watch, 104 Hz: a few seconds of rising, walking, turning, sitting down",
            23,
            ("pocket", "wrist"),
            "CC BY 4.0; cite Matey-Sanz et al. 2023",
            "https://doi.org/10.5281/zenodo.8398688",
            "https://github.com/GeoTecINIT/sp-sw-har-dataset/archive/673a2cc426707706c8a2578951b6b61b88777d78.zip",
            "sp-sw.zip",
            None,
            {r"s\d+_\d+_sp\.csv": 223, r"s\d+_\d+_sw\.csv": 223, r"executions_info\.csv": 1},
        ),
        PublicSet(
            "difronzo",
            "raw sessions of a phone, upside down, 50 Hz, 5 activities",
            8,
            ("pocket",),
            "MIT",
            _DIFRONZO,
            f"{_DIFRONZO}/archive/eddd71717d52b4de26f3e9f04f12c74ed3ea7989.zip",
            "difronzo.zip",
            None,
            {r"acc_exp\d+_user\d+\.txt": 12, r"gyro_exp\d+_user\d+\.txt": 12, r"raw data/labels\.txt": 1},
        ),
        PublicSet(
            "walking",
            "a phone, accelerometer only, 32 Hz, walking outdoors",
            22,
            ("chest",),
            "CC BY 4.0; cite Casale et al. 2012",
            f"{_UCI}/dataset/286",
            f"{_UCI}/static/public/286/user+identification+from+walking+activity.zip",
            "walking.zip",
            None,
            {r"\d+\.csv": 22},
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
