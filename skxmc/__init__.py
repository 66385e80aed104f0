"""Extreme multi-label text classification in the manner of scikit-learn."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skxmc._version import __version__

if TYPE_CHECKING:
    from skxmc._calibrated_classifier import CalibratedClassifier
    from skxmc._classifier import LightXMLClassifier
    from skxmc._clusterer import BalancedLabelClusterer, label_features
    from skxmc._ensemble import LightXMLEnsemble
    from skxmc._hierarchical_classifier import HierarchicalClassifier
    from skxmc._inference.explanation import (
        ExplainedLabel,
        MemberScore,
        NeighborLabel,
        NeighborText,
        TopKExplanation,
        WordEffect,
    )
    from skxmc._make_classifier import make_classifier
    from skxmc._neighbors import NeighborsClassifier
    from skxmc._omikuji import OmikujiClassifier
    from skxmc._paper import paper_params
    from skxmc._propensity_ranker import PropensityRanker
    from skxmc._storage.estimators import save_pretrained
    from skxmc._storage.hub import from_pretrained, push_to_hub
    from skxmc._text_encoder import TextEncoder
    from skxmc._topk import TopK, explain_topk, predict_topk
    from skxmc._tuned_threshold_classifier import TunedThresholdClassifier
    from skxmc._utils.versions import show_versions

__all__ = [
    "BalancedLabelClusterer",
    "CalibratedClassifier",
    "ExplainedLabel",
    "HierarchicalClassifier",
    "LightXMLClassifier",
    "LightXMLEnsemble",
    "MemberScore",
    "NeighborLabel",
    "NeighborText",
    "NeighborsClassifier",
    "OmikujiClassifier",
    "PropensityRanker",
    "TextEncoder",
    "TopK",
    "TopKExplanation",
    "TunedThresholdClassifier",
    "WordEffect",
    "__version__",
    "explain_topk",
    "from_pretrained",
    "label_features",
    "make_classifier",
    "paper_params",
    "predict_topk",
    "push_to_hub",
    "save_pretrained",
    "show_versions",
]

# Each name is imported on first use, so that `skxmc --help` does not wait seconds for torch.
_MODULES = {
    "BalancedLabelClusterer": "_clusterer",
    "CalibratedClassifier": "_calibrated_classifier",
    "ExplainedLabel": "_inference.explanation",
    "HierarchicalClassifier": "_hierarchical_classifier",
    "LightXMLClassifier": "_classifier",
    "LightXMLEnsemble": "_ensemble",
    "MemberScore": "_inference.explanation",
    "NeighborLabel": "_inference.explanation",
    "NeighborText": "_inference.explanation",
    "NeighborsClassifier": "_neighbors",
    "OmikujiClassifier": "_omikuji",
    "PropensityRanker": "_propensity_ranker",
    "TextEncoder": "_text_encoder",
    "TopK": "_topk",
    "TopKExplanation": "_inference.explanation",
    "TunedThresholdClassifier": "_tuned_threshold_classifier",
    "WordEffect": "_inference.explanation",
    "explain_topk": "_topk",
    "from_pretrained": "_storage.hub",
    "label_features": "_clusterer",
    "make_classifier": "_make_classifier",
    "paper_params": "_paper",
    "predict_topk": "_topk",
    "push_to_hub": "_storage.hub",
    "save_pretrained": "_storage.estimators",
    "show_versions": "_utils.versions",
}
_SUBPACKAGES = ("datasets", "metrics", "plotting", "serving")


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
