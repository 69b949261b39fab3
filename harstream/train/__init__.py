"""Training and evaluation: recordings to a model bundle, and figures of how good it is."""
