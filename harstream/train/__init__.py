"""Training and evaluation: recordings to a model bundle, and figures of how good it is."""

import os

# TensorFlow reports at the error level that there is no GPU; what goes wrong is raised as well.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
