"""HAPT: recordings of a phone at the waist (UCI Machine Learning Repository, Reyes-Ortiz et al. 2015).

Layout: the folder ``RawData`` (``Raw-Data`` in some copies) holds two files per session, ``acc_expNN_userMM.txt`` and
``gyro_expNN_userMM.txt``, with three numbers ``x y z`` a line.

Units: g and rad/s at 50 Hz.

Labels: ``labels.txt`` in the same folder has one segment a line: experiment, user, activity, first and last sample,
counted from 1. ``activity_labels.txt`` in the same folder or above it names the activities.

Subjects: the user number in the file names.

Licence: see ABOUT, which quotes the data set's README.txt.
"""

from __future__ import annotations

from pathlib import Path

from harstream.datasets.base import Recording
from harstream.datasets.experiments import read_experiments

#: Labels that ``train`` uses by default: the six activities of UCI HAR, in its order.
LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")

#: The other six labels: postural transitions of 1.5 to 7 s, which ``train --states`` learns as states between labels.
STATES = ("STAND_TO_SIT", "SIT_TO_STAND", "SIT_TO_LIE", "LIE_TO_SIT", "STAND_TO_LIE", "LIE_TO_STAND")

#: Description, source and licence for the model card.
ABOUT = """\
Smartphone-Based Recognition of Human Activities and Postural Transitions (HAPT), raw signals at 50 Hz:
volunteers aged 19 to 48 following a protocol that was filmed for labelling. The six postural transitions are used only
by models that know them as states.

Placement: a phone (Samsung Galaxy S II) at the waist, its x axis up, so that `total_acc_x` is about +1 g while
standing.

Source: UCI Machine Learning Repository, 2015; Jorge-L. Reyes-Ortiz, Luca Oneto, Albert Samà, Xavier Parra,
Davide Anguita: Transition-Aware Human Activity Recognition Using Smartphones, Neurocomputing, Springer 2015.

Licence, as its README.txt gives it: use in publications must be acknowledged by referencing the paper above; the
data set is distributed as it is, without responsibility of its authors; any commercial use is prohibited. Ask a
lawyer what that means for a network trained on it before selling anything."""


def load(path: Path) -> list[Recording]:
    """Return every session of a folder or zip, sorted by name, in g and rad/s at 50 Hz.

    The raw data may lie at any depth, and in a zip inside the zip. Rows of ``labels.txt`` about sessions without files
    are ignored, so a copy with some of the subjects can be read.

    Raises:
        DatasetError: A file is missing or malformed; the message names file and line.

    """
    return read_experiments(path, acc_unit="g", placement="waist")
