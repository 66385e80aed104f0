"""Estimators that wrap estimators: what they share."""
