"""Validation: fits with some subjects held out, scored on these subjects."""
