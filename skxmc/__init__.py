"""Extreme multi-label text classification with scikit-learn manners."""

from ._classifier import LightXMLClassifier
from ._clusterer import BalancedLabelClusterer, label_features
from ._ensemble import LightXMLEnsemble
from ._explanation import TopKExplanation
from ._omikuji import OmikujiClassifier
from ._paper import paper_params
from ._propensity import PropensityRanker
from ._topk import predict_topk

__version__ = "0.1.0.dev0"

__all__ = [
    "BalancedLabelClusterer",
    "LightXMLClassifier",
    "LightXMLEnsemble",
    "OmikujiClassifier",
    "PropensityRanker",
    "TopKExplanation",
    "__version__",
    "label_features",
    "paper_params",
    "predict_topk",
]
