"""Simulated wearables: parametric motion whose parameters were fitted to recordings.

A simulated person is a subject, and the device that the subject wears is a wearable. ``motion.Wearable`` makes its
samples; docs/explanation/simulator.md describes the model.
"""
