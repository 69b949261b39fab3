"""Sweeps: many configs fitted on the same folds, their results, tables and figures."""
