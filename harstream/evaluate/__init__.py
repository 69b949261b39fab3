"""Scores of a model on a data set: metrics, events, reliability, and the report. Works without TensorFlow."""
