"""Fits of the simulator to recordings, and comparisons of simulated with real wearables."""
