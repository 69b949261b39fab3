"""Synthetic wearables: parametric motion fitted to recordings. See ``motion.Wearable`` and docs/simulator.md."""
