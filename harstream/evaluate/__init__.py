"""Evaluation: figures of how good a model is, without TensorFlow."""
