"""Simulated wearables: parametric motion fitted to recordings.

Start with ``motion.Wearable``; docs/explanation/simulator.md describes the model.
"""
