"""Fits: one network trained on labelled windows, from prepared windows to checkpointed weights."""
