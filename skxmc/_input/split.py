"""Held-out sets, and texts of labels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skxmc._input.per_label import LabelTexts, check_label_texts
from skxmc._input.types import ValidationData
from skxmc._input.validation import Labels, check_labels, check_texts


class SplitTexts(NamedTuple):
    """Texts to train on, and the held-out set."""

    texts: list[str]  # texts of labels come last
    y: sp.csr_array  # their labels
    classes: np.ndarray  # the label of each column of y
    n_label_texts: int
    held_out: tuple[list[str], Labels] | None


def split_texts(
    texts: list[str],
    labels: Labels,
    label_texts: LabelTexts | None,
    validation_data: ValidationData | None,
    validation_fraction: float | None,
    seed: int,
) -> SplitTexts:
    """Hold texts out with `hold_out`, and add texts of labels to the rest by `add_label_texts`."""
    train, held_out = hold_out(texts, labels, validation_data, validation_fraction, seed)
    all_texts, y = add_label_texts(*train, labels.classes, label_texts)
    return SplitTexts(all_texts, y, labels.classes, len(all_texts) - len(train[0]), held_out)


def hold_out(
    texts: list[str],
    labels: Labels,
    validation_data: ValidationData | None,
    validation_fraction: float | None,
    seed: int,
) -> tuple[tuple[list[str], sp.csr_array], tuple[list[str], Labels] | None]:
    """Split texts and labels into a training set and a held-out set.

    Parameters
    ----------
    texts, labels
        Texts and labels that the user passed to `fit`.
    validation_data : tuple (X, y) or None
        Validation data of the user. If given, nothing is held out.
    validation_fraction : float or None
        Fraction to hold out. None holds nothing out.
    seed : int
        Seed for the choice of held-out texts.
    """
    if validation_data is not None:
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ValueError("validation_data must be a pair (X, y) of texts and their labels.")
        held_out = check_texts(validation_data[0], name="validation_data[0]")
        held_out_labels = check_labels(
            validation_data[1],
            name="validation_data[1]",
            classes=labels.classes,
            n_texts=len(held_out),
        )
        return (texts, labels.matrix), (held_out, held_out_labels)
    if validation_fraction is None:
        return (texts, labels.matrix), None
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
        ([texts[i] for i in train], labels.matrix[train]),
        ([texts[i] for i in valid], Labels(labels.matrix[valid], *labels[1:])),
    )


def add_label_texts(
    texts: list[str], y: sp.csr_array, classes: np.ndarray, label_texts: LabelTexts | None
) -> tuple[list[str], sp.csr_array]:
    """Append the text about each label as a training text with this label alone.

    Parameters
    ----------
    texts : list of str
        Texts, as `check_texts` returns them.
    y : csr_array of shape (n_texts, n_labels)
        Their labels, as `check_labels` returns them.
    classes : ndarray of shape (n_labels,)
        The label of each column of y.
    label_texts : array-like of shape (n_labels,), Series, dict or None
        One text per label, see `check_label_texts`. Blank texts add nothing.

    Returns
    -------
    texts : list of str
    y : csr_array
        Labels, one row per text.

    Raises
    ------
    TypeError, ValueError
        If label_texts is malformed, see `check_label_texts`.
    """
    if label_texts is None:
        return texts, y
    of_labels = check_label_texts(label_texts, classes)
    columns = [column for column, text in enumerate(of_labels) if text.strip()]
    rows = sp.csr_array(
        (
            np.ones(len(columns), dtype=y.dtype),
            np.array(columns, dtype=y.indices.dtype),
            np.arange(len(columns) + 1, dtype=y.indptr.dtype),
        ),
        shape=(len(columns), y.shape[1]),
    )
    added = [of_labels[column] for column in columns]
    return [*texts, *added], sp.csr_array(sp.vstack([y, rows], format="csr"))
