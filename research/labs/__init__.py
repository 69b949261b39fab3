"""Leaving whole data sets out: how a model does on people, labs and phones that it has never seen."""
