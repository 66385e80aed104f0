"""For servers and for engines of bulk prediction. It imports no torch."""

from skxmc._onnx_classifier import OnnxClassifier
from skxmc._serving.batch_predictor import BatchPredictor
from skxmc._utils.batcher import Batcher

__all__ = ["BatchPredictor", "Batcher", "OnnxClassifier"]
