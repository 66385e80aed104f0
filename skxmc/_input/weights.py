"""Weights of texts, as factors of statistics of the texts, and weights of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from skxmc._input.per_label import list_by_label, plain_column
from skxmc._utils.quoting import quoted

# Weights of labels multiply gradients in float32, which hold 3e38.
MAX_LABEL_WEIGHT = 1e9

# Copies per text, on average, that stand for weights, and how far they may be from whole numbers.
MAX_COPIES, TOLERANCE = 10, 1e-6

LabelWeight: TypeAlias = str | ArrayLike | Mapping[Any, float] | None


def check_sample_weight(sample_weight: ArrayLike | None, n_texts: int) -> np.ndarray | None:
    """Check the weights that a user passed to `fit`: (n_texts,) float64, or None without any.

    Raises
    ------
    ValueError
        If they are not one finite number of at least 0 per text, or if all are 0.
    """
    if sample_weight is None:
        return None
    weights = _numbers(sample_weight, sample_weight, "sample_weight", "text")
    if weights.shape != (n_texts,):
        raise ValueError(
            f"sample_weight has the shape {weights.shape}, but there are {n_texts} texts. Pass one "
            "number per text."
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        row = int(np.flatnonzero(~np.isfinite(weights) | (weights < 0))[0])
        raise ValueError(
            f"sample_weight[{row}] is {weights[row]}. Pass finite numbers of at least 0."
        )
    if not weights.any():
        raise ValueError("sample_weight is 0 for all texts. Pass a positive number for some.")
    return weights


def weighted(y: sp.csr_array, weights: np.ndarray | None) -> sp.csr_array:
    """Multiply the labels of each text by its weight, if there are weights."""
    return y if weights is None else sp.csr_array(y.multiply(weights[:, None]))


def copies(weights: np.ndarray, max_copies: int = MAX_COPIES) -> tuple[np.ndarray, float]:
    """Return how often to repeat each text, and the weight of a copy: (n_texts,) int64, float.

    The weights of the copies of a text add up to that of the text, if at most `max_copies` copies
    per text are enough for this. Otherwise the numbers of copies are rounded, to at least 1.

    Parameters
    ----------
    weights : ndarray of shape (n_texts,)
        Positive weights.
    max_copies : int
        Number of copies per text, on average, and of those of the lightest text.
    """
    lightest, most = float(weights.min()), max_copies * len(weights)
    with np.errstate(over="ignore"):
        for n in range(1, max_copies + 1):
            exact = n * (weights / lightest)
            counts = np.rint(exact)
            if counts.sum() <= most and (np.abs(counts - exact) <= TOLERANCE * exact).all():
                return counts.astype(np.int64), lightest / n
        of_copy = float((weights / most).sum())
    return np.maximum(np.rint(weights / of_copy), 1).astype(np.int64), of_copy


def resolve_label_weight(
    label_weight: LabelWeight,
    classes: NDArray[Any],
    y: sp.csr_array,
    weights: np.ndarray | None = None,
) -> np.ndarray | None:
    """Return the weight of each label in the order of `classes`: (n_labels,) float64, or None.

    Parameters
    ----------
    label_weight : "balanced", array-like of shape (n_labels,), dict or None
        Parameter of `LightXMLClassifier`.
    classes : ndarray of shape (n_labels,)
        Labels.
    y : csr_array of shape (n_texts, n_labels)
        Labels of the training texts.
    weights : ndarray of shape (n_texts,) or None
        Weights of the training texts.

    Raises
    ------
    ValueError
        If the weights are not one number from 0 to 1e9 per label, if all are 0, if a dict has a
        key that is not a label, or if the index of a Series repeats an entry.
    """
    if label_weight is None:
        return None
    if isinstance(label_weight, str):
        counts = np.asarray(weighted(y, weights).sum(axis=0), dtype=np.float64).ravel()
        is_used = counts > 0
        mean = counts.sum() / max(1, is_used.sum())
        return np.divide(mean, counts, out=np.ones(len(counts)), where=is_used)
    index: Any = getattr(label_weight, "index", None)
    if getattr(index, "has_duplicates", False):  # of pandas
        twice = index[index.duplicated()].tolist()[0]
        raise ValueError(
            f"the index of label_weight repeats {quoted(twice)}. Name every label once, or pass "
            "label_weight.to_numpy() to go by position."
        )
    of_each: Any = plain_column(label_weight)
    if isinstance(of_each, Mapping):
        of_each = list_by_label(of_each, classes, "label_weight", default=1.0)
    of_labels = _numbers(of_each, label_weight, "label_weight", "label")
    if of_labels.shape != classes.shape:
        raise ValueError(
            f"label_weight has the shape {of_labels.shape}, but there are {len(classes)} labels. "
            "Pass one number per label, in the order of classes_, or a dict with weights of some "
            "labels."
        )
    is_wrong = ~((of_labels >= 0) & (of_labels <= MAX_LABEL_WEIGHT))
    if is_wrong.any():
        label = int(is_wrong.argmax())
        raise ValueError(
            f"label_weight is {of_labels[label]} for the label {quoted(classes.tolist()[label])}. "
            f"Pass numbers from 0 to {MAX_LABEL_WEIGHT:.0e}."
        )
    if not of_labels.any():
        raise ValueError("label_weight is 0 for all labels. Pass a positive number for some.")
    return of_labels


def _numbers(of_each: Any, given: Any, name: str, each: str) -> np.ndarray:
    """Convert weights to float64. `given` is what the user passed."""
    try:
        return np.asarray(of_each, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must hold numbers, got {quoted(given)}. Pass one per {each}."
        ) from error
