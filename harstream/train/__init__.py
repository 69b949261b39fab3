"""Training of model bundles from recordings, and their validation by subject."""

import os

# TensorFlow logs a missing GPU as an error. Real errors are raised as exceptions as well.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
