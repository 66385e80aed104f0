"""Helpers that know nothing of labels: parallelism, progress, warnings."""
