"""Durable mode: a daemon that is killed at any moment goes on where it was, without a gap in its labels."""
