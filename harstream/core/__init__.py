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
    The event that the samples of a device do not continue its earlier ones: after a long gap, or with a new rate. No
    window contains samples from both sides of a restart.
reset
    What each step does to a row at a restart: it forgets the earlier samples or windows.
late
    A sample is late when its time is not after the newest accepted sample of its device. Late samples are dropped.
due
    A window is due when its last sample is there and one stride has passed since the last due window.
"""
