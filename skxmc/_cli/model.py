"""Loading of models for prediction and evaluation."""

from __future__ import annotations

import argparse

from skxmc._classifier import LightXMLClassifier
from skxmc._input.ranking import check_k
from skxmc._model.device import resolve_device

DEFAULT_K = 5


def load_model(args: argparse.Namespace) -> LightXMLClassifier:
    """Load the model, and replace its device and precision by --device and --precision."""
    changed = {"device": args.device, "precision": args.precision}
    changed = {name: value for name, value in changed.items() if value is not None}
    try:
        LightXMLClassifier(**changed)._validate_params()
        if args.device is not None:  # the model's own may be missing here, which is no error
            resolve_device(args.device)
    except ValueError as error:
        raise argparse.ArgumentError(None, str(error)) from error
    return LightXMLClassifier.from_pretrained(args.model).set_params(**changed)


def choose_k(k: int | None, n_labels: int) -> int:
    """Check a given k, or return the default, which is at most the number of labels."""
    return min(DEFAULT_K, n_labels) if k is None else check_k(k, n_labels)
