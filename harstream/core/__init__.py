"""Signal processing without side effects: raw samples to windows, probabilities to smoothed labels.

No module here opens a socket, reads a clock, starts a thread, writes a log or keeps global state. Training, evaluation,
replay and the daemon all feed the same ``Engine``, so they all get the same windows.

Reading order: ``batches`` (the arrays between the steps), ``spec`` (what a bundle says about its signal), ``engine``
(samples to windows), ``timeline`` (event time), ``smoothing`` (probabilities to labels and events).

These terms are used everywhere in the package:

row
    Index of a device's state. Every step keeps its state in arrays whose first axis is the row, so that one numpy
    call serves many devices (structure of arrays).
grid
    The sample times at the rate of the spec. Devices with another rate are resampled onto it.
gap
    Samples that are missing before a message. Short gaps are interpolated; a gap longer than ``max_gap_s`` causes a
    restart.
restart
    A point in the stream of a device from which on its samples do not continue the earlier ones: after a long gap, or
    with a new rate. No window contains samples from both sides of a restart.
reset
    Deletion of the earlier samples or windows of a row, which each step does at a restart.
late
    A sample is late when its time is not after the newest accepted sample of its device. Late samples are dropped.
due
    A window is due when its last sample is there and one stride has passed since the last due window.
"""
