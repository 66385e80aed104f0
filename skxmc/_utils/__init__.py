"""Helpers that do not depend on labels: parallelism, progress, versions, warnings."""
