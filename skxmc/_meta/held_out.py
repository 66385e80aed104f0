"""Held-out texts of estimators that learn a decision from the scores of another one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skxmc._input.split import check_held_out, hold_out
from skxmc._input.text_column import take
from skxmc._input.texts import check_texts
from skxmc._input.types import LabelsOfTexts, PerLabel, RandomState, Texts, ValidationData
from skxmc._input.validation import Labels, align_labels, check_labels
from skxmc._input.weights import check_sample_weight
from skxmc._meta.fit_params import check_fit_params, fit_with
from skxmc._meta.members import is_frozen
from skxmc._meta.rescoring import classes_of

# validation_fraction="auto" holds out the share AUTO_HELD_OUT_SHARE. More than MAX_HELD_OUT texts
# do not improve the fusion. With fewer than MIN_HELD_OUT the mean is better, so small data sets
# hold out a larger share, up to MAX_HELD_OUT_SHARE.
AUTO_HELD_OUT_SHARE, MAX_HELD_OUT_SHARE = 0.05, 0.2
MIN_HELD_OUT, MAX_HELD_OUT = 200, 2000


class Fitted(NamedTuple):
    """A fitted estimator, its labels, and texts that it has not seen."""

    estimator: Any
    classes: np.ndarray
    texts: list[str]
    labels: Labels


def auto_validation_fraction(n_texts: int) -> float:
    """Return the share of texts that validation_fraction="auto" holds out."""
    least = min(MIN_HELD_OUT / n_texts, MAX_HELD_OUT_SHARE)
    return min(max(AUTO_HELD_OUT_SHARE, least), MAX_HELD_OUT / n_texts)


def resolve_fraction(fraction: float | str, n_texts: int) -> float:
    """Return the share of texts to hold out."""
    return auto_validation_fraction(n_texts) if fraction == "auto" else float(fraction)


def draw_seed(random_state: RandomState) -> int:
    """Draw the seed for the choice of held-out texts."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def name_labels(fit_params: dict[str, Any], classes: np.ndarray) -> None:
    """Add the names of all labels, because a label may be on held-out texts alone."""
    if not np.array_equal(classes, np.arange(len(classes))):
        fit_params["label_names"] = classes


def fit_and_hold_out(
    estimator: Any,
    X: Texts,
    y: LabelsOfTexts,
    *,
    label_names: PerLabel | None,
    validation_data: ValidationData | None,
    X_val: Texts | None,
    y_val: LabelsOfTexts,
    fraction: float | str,
    random_state: RandomState,
    fit_params: dict[str, Any],
) -> Fitted:
    """Fit a clone of an estimator to all but the held-out texts.

    A frozen estimator is not fitted, and X and y are the held-out texts unless others are given.
    Texts of weight 0 are left out.

    Raises
    ------
    ValueError
        If texts or labels are malformed, or the estimator has other labels than y.
    TypeError
        If the `fit` of the estimator does not take a parameter.
    """
    fit_params = {**fit_params}
    texts = check_texts(X)
    if is_frozen(estimator):
        check_is_fitted(estimator)
        classes = classes_of("estimator", estimator)
        held_out = check_held_out(validation_data, X_val, y_val, classes)
        if held_out is None:
            given = None if label_names is not None else classes
            labels = check_labels(
                y, classes=given, label_names=label_names, n_texts=len(texts), require_positive=True
            )
            weights = check_sample_weight(fit_params.get("sample_weight"), len(texts))
            matrix, _, n_unknown = align_labels(labels, classes)
            rows = np.arange(len(texts)) if weights is None else np.flatnonzero(weights)
            held_out = take(texts, rows), Labels(matrix[rows], classes, n_unknown[rows])
        return Fitted(estimator, classes, *held_out)
    labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
    given_texts = check_held_out(validation_data, X_val, y_val, labels.classes)
    fraction = resolve_fraction(fraction, len(texts))
    weights = check_sample_weight(fit_params.get("sample_weight"), len(texts))
    train, weights, held_out = hold_out(
        texts, labels, given_texts, fraction, draw_seed(random_state), weights
    )
    assert held_out is not None
    if weights is not None:
        fit_params["sample_weight"] = weights
    if label_names is not None:
        fit_params["label_names"] = label_names
    check_fit_params([estimator], fit_params)
    name_labels(fit_params, labels.classes)
    fitted = fit_with(clone(estimator), *train, fit_params)
    classes = classes_of("estimator", fitted)
    if not np.array_equal(classes, labels.classes):
        raise ValueError(
            f"{type(fitted).__name__} has other labels than y, or has them in another order. "
            "Wrap a fitted estimator in FrozenEstimator, or use one that keeps the labels of y."
        )
    return Fitted(fitted, classes, *held_out)
