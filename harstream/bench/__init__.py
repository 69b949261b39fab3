"""Benchmark behind ``harstream bench``: each figure stands beside a ceiling measured in the same round.

``suite`` runs the modes. Most modes put a receiver (``receivers``: the daemon, or what it is compared with) at a broker
(``broker``) under a load (``load``), each in a process of its own, as ``testbed`` arranges them. ``throughput``,
``latency``, ``startup``, ``inference`` and ``growth`` take one measurement each; ``results`` writes the table.
"""
