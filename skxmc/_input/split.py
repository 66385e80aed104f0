"""Held-out sets, and texts of labels."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import scipy.sparse as sp

from skxmc._input.per_label import LabelTexts, check_label_texts
from skxmc._input.text_column import AnyTexts, TextColumn, plus, take
from skxmc._input.texts import check_texts
from skxmc._input.types import LabelsOfTexts, Texts, ValidationData
from skxmc._input.validation import Labels, check_labels, check_some_known
from skxmc._input.weights import LabelWeight, resolve_label_weight

HeldOut: TypeAlias = tuple[list[str], Labels]


class SplitTexts(NamedTuple):
    """Texts to train on, and the held-out set."""

    texts: list[str] | TextColumn  # texts of labels come last
    y: sp.csr_array  # their labels
    weights: np.ndarray | None  # their positive weights, None if all are 1
    classes: np.ndarray  # the label of each column of y
    n_label_texts: int
    held_out: HeldOut | None
    label_weights: np.ndarray | None  # of labels where they are true, None if all are 1


def split_texts(
    texts: list[str] | TextColumn,
    labels: Labels,
    label_texts: LabelTexts | None,
    given: HeldOut | None,
    validation_fraction: float | None,
    seed: int,
    weights: np.ndarray | None = None,
    label_weight: LabelWeight = None,
) -> SplitTexts:
    """Hold texts out with `hold_out`, and add texts of labels to the rest by `add_label_texts`.

    Texts of labels have the weight 1. Weights of labels are balanced on what `fit` trains on.
    """
    train, weights, held_out = hold_out(texts, labels, given, validation_fraction, seed, weights)
    all_texts, y = add_label_texts(*train, labels.classes, label_texts, len(texts))
    n_label_texts = len(all_texts) - len(train[0])
    if weights is not None:
        weights = np.concatenate([weights, np.ones(n_label_texts)])
    label_weights = resolve_label_weight(label_weight, labels.classes, y, weights)
    return SplitTexts(all_texts, y, weights, labels.classes, n_label_texts, held_out, label_weights)


def check_held_out(
    validation_data: ValidationData | None,
    X_val: Texts | None,
    y_val: LabelsOfTexts,
    classes: np.ndarray,
) -> HeldOut | None:
    """Check the held-out texts that the user passed to `fit`, as a pair or one by one.

    Parameters
    ----------
    validation_data : tuple (X, y) or None
        Both in one argument.
    X_val, y_val
        Texts and labels, or None.
    classes : ndarray of shape (n_labels,)
        Labels of the model.

    Raises
    ------
    TypeError, ValueError
        If both forms are given, or one of X_val and y_val alone, or if they are malformed. Also if
        the model knows none of the labels.
    """
    names = "X_val", "y_val"
    if validation_data is not None:
        if X_val is not None or y_val is not None:
            raise ValueError(
                "validation_data and X_val or y_val are given. Pass either validation_data or "
                "X_val and y_val."
            )
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ValueError("validation_data must be a pair (X, y) of texts and their labels.")
        names = "validation_data[0]", "validation_data[1]"
        X_val, y_val = validation_data
    elif X_val is None and y_val is None:
        return None
    elif X_val is None or y_val is None:
        given, lacking = names if y_val is None else names[::-1]
        raise ValueError(f"{given} is given without {lacking}. Pass both.")
    texts = check_texts(X_val, name=names[0])
    labels = check_labels(y_val, name=names[1], classes=classes, n_texts=len(texts))
    check_some_known(labels, names[1])
    return texts, labels


def hold_out(
    texts: AnyTexts,
    labels: Labels,
    given: HeldOut | None,
    validation_fraction: float | None,
    seed: int,
    weights: np.ndarray | None = None,
) -> tuple[tuple[AnyTexts, sp.csr_array], np.ndarray | None, HeldOut | None]:
    """Split texts and labels into a training set, its weights, and a held-out set.

    Texts of weight 0 are in neither set.

    Parameters
    ----------
    texts, labels
        Texts and labels that the user passed to `fit`.
    given : HeldOut or None
        Held-out set of the user. If given, nothing else is held out.
    validation_fraction : float or None
        Fraction to hold out. None holds nothing out.
    seed : int
        Seed for the choice of held-out texts.
    weights : ndarray of shape (n_texts,) or None
        Result of `check_sample_weight`.
    """
    if weights is not None:
        counts = np.flatnonzero(weights)
        texts, weights = take(texts, counts), weights[counts]
        labels = labels._replace(matrix=labels.matrix[counts])
        if labels.matrix.nnz == 0:
            raise ValueError(
                "sample_weight is 0 for all texts that have labels. Pass a positive number for "
                "some of them."
            )
    if given is not None or validation_fraction is None:
        return (texts, labels.matrix), weights, given
    order = np.random.default_rng(seed).permutation(len(texts))
    # Slightly less, because 2,000 / n times n may round to more than 2,000.
    n_held_out = math.ceil(validation_fraction * len(texts) * (1 - 1e-9))
    if n_held_out == len(texts):
        raise ValueError(
            f"validation_fraction={validation_fraction} of {len(texts)} texts leaves none "
            "to train on. Lower it, give more texts, or pass validation_data."
        )
    valid, train = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
    if labels.matrix[train].nnz == 0:
        raise ValueError(
            "No text of the training part has a label. Lower validation_fraction, give more "
            "labeled texts, or pass validation_data."
        )
    return (
        (take(texts, train), labels.matrix[train]),
        None if weights is None else weights[train],
        (list(take(texts, valid)), Labels(labels.matrix[valid], *labels[1:])),
    )


def add_label_texts(
    texts: AnyTexts,
    y: sp.csr_array,
    classes: np.ndarray,
    label_texts: LabelTexts | None,
    n_texts: int | None = None,
) -> tuple[AnyTexts, sp.csr_array]:
    """Append the text about each label as a training text with this label alone.

    Parameters
    ----------
    texts : list of str or TextColumn
        Texts, as `check_texts` or `check_column` returns them.
    y : csr_array of shape (n_texts, n_labels)
        Their labels, as `check_labels` returns them.
    classes : ndarray of shape (n_labels,)
        The label of each column of y.
    label_texts : array-like of shape (n_labels,), Series, dict, callable or None
        One text per label, see `check_label_texts`. Blank texts add nothing.
    n_texts : int, default=None
        Number of texts that the user passed, for error messages. None is that of `texts`.

    Returns
    -------
    texts : list of str or TextColumn
    y : csr_array
        Labels, one row per text.

    Raises
    ------
    TypeError, ValueError
        If label_texts is malformed, see `check_label_texts`.
    """
    if label_texts is None:
        return texts, y
    n_texts = len(texts) if n_texts is None else n_texts
    about = check_label_texts(label_texts, classes, n_texts)
    columns = [column for column, text in enumerate(about) if text.strip()]
    rows = sp.csr_array(
        (
            np.ones(len(columns), dtype=y.dtype),
            np.array(columns, dtype=y.indices.dtype),
            np.arange(len(columns) + 1, dtype=y.indptr.dtype),
        ),
        shape=(len(columns), y.shape[1]),
    )
    added = [about[column] for column in columns]
    return plus(texts, added), sp.csr_array(sp.vstack([y, rows], format="csr"))
