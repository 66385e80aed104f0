"""Weights of texts: checked, and as factors of statistics of the texts."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from skxmc._utils.quoting import quoted


def check_sample_weight(sample_weight: ArrayLike | None, n_texts: int) -> np.ndarray | None:
    """Check the weights that a user passed to `fit`: (n_texts,) float64, or None without any.

    Raises
    ------
    ValueError
        If they are not one finite number of at least 0 per text, or if all are 0.
    """
    if sample_weight is None:
        return None
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"sample_weight must hold numbers, got {quoted(sample_weight)}. Pass one per text."
        ) from error
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
