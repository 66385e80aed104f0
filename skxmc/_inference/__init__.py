"""Prediction and explanation with a trained model."""
