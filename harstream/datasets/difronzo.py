"""DiFronzo: recordings of a phone in the trouser pocket, in the layout of HAPT (repository of A. Lien, DiFronzo).

Layout: as HAPT, in the folder ``raw data``.

Units: m/s2 with gravity and rad/s at 50 Hz; g and rad/s in the recordings.

Labels: numbered as the first five of HAPT, so that ``activity_labels.txt`` is not needed. Files begin with some samples
of zero, and one row of ``labels.txt`` ends beyond its file: see ``read_experiments``. Some segments of gait begin while
the subject still stands: see ``gait``.

Licence: MIT, see ABOUT.
"""

from __future__ import annotations

from pathlib import Path

from harstream.datasets.base import Recording
from harstream.datasets.experiments import read_experiments
from harstream.datasets.gait import leave_out_still

LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING")

#: Description, source and licence for the model card.
ABOUT = """\
Raw recordings of DiFronzo's repository on human activity recognition: eight subjects walking, climbing stairs, sitting
and standing, at 50 Hz.

Placement: a phone (Samsung Galaxy S8) in the trouser pocket, upside down.

Source: GitHub, repository DiFronzo/LSTM-for-Human-Activity-Recognition-classification of Andreas Lien, 2021; recorded
with the app HyperIMU. There is no paper.

Licence: MIT."""


def load(path: Path) -> list[Recording]:
    """Return every session of a folder or zip, sorted by name, in g and rad/s at 50 Hz.

    Raises:
        DatasetError: A file is missing or malformed; the message names file and line.

    """
    recordings = read_experiments(path, acc_unit="m/s2", placement="pocket", activities=dict(enumerate(LABELS, 1)))
    return [leave_out_still(recording) for recording in recordings]
