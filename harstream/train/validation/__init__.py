"""Validation: fits with some subjects held out."""
