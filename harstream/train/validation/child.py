"""Start of a training process.

This module imports nothing that imports TensorFlow, so that TensorFlow's lines about the machine are not shown.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.queues import SimpleQueue

from harstream.quiet import import_tensorflow

_epochs: SimpleQueue[tuple[int, int]]


def start(epochs: SimpleQueue[tuple[int, int]], is_alone: bool) -> None:
    """Prepare a new training process: one thread if there are others, and an end together with its parent."""
    global _epochs
    _epochs = epochs
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    tf = import_tensorflow()
    if not is_alone:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def report(index: int, done: int) -> None:
    """Tell the parent how many epochs of a task are done."""
    _epochs.put((index, done))


def _exit_with_parent() -> None:
    """End this process when its parent has ended, even if that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
