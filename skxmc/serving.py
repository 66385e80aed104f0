"""For servers. It imports no torch."""

from skxmc._onnx_classifier import OnnxClassifier
from skxmc._utils.batcher import Batcher

__all__ = ["Batcher", "OnnxClassifier"]
