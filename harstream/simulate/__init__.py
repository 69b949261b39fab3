"""Synthetic wearables: parametric motion fitted to recordings. See ``motion.Wearable`` and docs/explanation/simulator.md."""
