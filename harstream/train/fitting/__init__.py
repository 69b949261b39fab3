"""Fitting one network to labelled windows."""
