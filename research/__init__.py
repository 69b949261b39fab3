"""Studies and scripts that run from time to time from a checkout; README.md lists them. Not part of the wheel."""
