"""Loading of models for prediction and evaluation."""

from __future__ import annotations

import argparse
from typing import Any

from skxmc._base import TextRankerMixin
from skxmc._classifier import LightXMLClassifier
from skxmc._input.ranking import check_k
from skxmc._model.device import resolve_device
from skxmc._storage.estimators import load_estimator
from skxmc._utils.quoting import quoted

DEFAULT_K = 5


def load_any(args: argparse.Namespace) -> Any:
    """Load the model, and replace its devices and precisions by --device and --precision."""
    changed = {"device": args.device, "precision": args.precision}
    changed = {name: value for name, value in changed.items() if value is not None}
    try:
        LightXMLClassifier(**changed)._validate_params()
        if args.device is not None:  # the model's own may be missing here, which is no error
            resolve_device(args.device)
    except ValueError as error:
        raise argparse.ArgumentError(None, str(error)) from error
    return load_estimator(args.model, replaced=changed)


def load_model(args: argparse.Namespace) -> TextRankerMixin:
    """Load a model as `load_any` does, and check that it is a classifier."""
    clf = load_any(args)
    if not isinstance(clf, TextRankerMixin):
        raise ValueError(
            f"{args.model} holds {quoted(type(clf).__name__)}, which is no classifier of skxmc. "
            "Give a classifier or an ensemble, or load the folder with skxmc.from_pretrained."
        )
    return clf


def choose_k(k: int | None, n_labels: int) -> int:
    """Check a given k, or return the default, which is at most the number of labels."""
    return min(DEFAULT_K, n_labels) if k is None else check_k(k, n_labels)
