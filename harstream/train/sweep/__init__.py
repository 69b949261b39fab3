"""Sweeps: many configs fitted on the same folds, with their results, tables and figures."""
