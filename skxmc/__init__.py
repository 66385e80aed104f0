"""Extreme multi-label text classification with scikit-learn manners."""

__version__ = "0.1.0.dev0"
