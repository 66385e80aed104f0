"""Weights of neighbors: kernel ridge regression on the nearest texts of one text.

Each label is regressed on the neighbors, with 1 for those that have it and 0 for the others. The
prediction is linear in these targets, so it is a vote. Its weights are the same for all labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import gen_batches

if TYPE_CHECKING:
    from skxmc._nearest.approximate import ApproximateKeys
    from skxmc._nearest.exact import ExactKeys

# Products differ by at most 2, so from here on the kernel is the same for all neighbors.
MAX_TEMPERATURE = 1e6
# Far smaller values leave equal texts without a solution, and far larger ones without weights.
MIN_ALPHA, MAX_ALPHA = 1e-6, 1e6
# The kernel of the nearest is at least exp of this, so that low temperatures leave some weight.
MIN_LOG_KERNEL = -40.0
# Numbers of the neighbors' vectors or kernels in memory at once.
MAX_NUMBERS = 2**23


def kernel_ridge_weights(
    keys: ExactKeys | ApproximateKeys,
    rows: np.ndarray,
    products: np.ndarray,
    *,
    temperature: float,
    alpha: float,
    sample_weight: np.ndarray | None = None,
    max_numbers: int = MAX_NUMBERS,
) -> np.ndarray:
    """Solve (K + alpha I) w = k for each text, with the kernel exp((product - 1) / temperature).

    With a diagonal S of sample weights, it solves (K + alpha S^-1) w = k.

    Parameters
    ----------
    keys : ExactKeys or ApproximateKeys
        Vectors of length 1 or 0.
    rows, products : ndarray of shape (n_texts, n)
        Neighbors of each text, and their products with it, as `keys.nearest` finds them.
    temperature : float
        Width of the kernel.
    alpha : float
        Strength of the regularization.
    sample_weight : ndarray of shape (n_texts, n), optional
        Positive weights of the neighbors' squared errors. One of weight 2 has the vote that two
        equal neighbors have together.
    max_numbers : int
        Numbers of the neighbors' vectors or kernels in memory at once, unless one text has more.

    Returns
    -------
    ndarray of shape (n_texts, n), float32
        Weights. Those of neighbors that say what nearer ones say may be negative.
    """
    weights = np.empty(rows.shape, dtype=np.float32)
    alpha = min(max(alpha, MIN_ALPHA), MAX_ALPHA)
    of_neighbors = np.broadcast_to(np.float64(alpha), rows.shape)
    if sample_weight is not None:
        with np.errstate(over="ignore"):
            of_neighbors = np.clip(alpha / sample_weight, MIN_ALPHA, MAX_ALPHA)
    temperature = min(temperature, MAX_TEMPERATURE)
    n_texts, n = rows.shape
    numbers_of_text = n * max(n, keys.vectors(rows[:1]).shape[-1])
    for block in gen_batches(n_texts, max(1, max_numbers // numbers_of_text)):
        vectors = keys.vectors(rows[block])
        weights[block] = _solve(products[block], vectors, temperature, of_neighbors[block])
    return weights


def _solve(
    products: np.ndarray, vectors: np.ndarray, temperature: float, alpha: np.ndarray
) -> np.ndarray:
    """Solve the systems of some texts, whose neighbors have the `vectors` (B, n, d): (B, n)."""
    with np.errstate(under="ignore", over="ignore"):
        kernels = (vectors @ vectors.transpose(0, 2, 1)).astype(np.float64)
        # Products may be a little above 1, which a low temperature would magnify.
        kernels = np.exp((np.minimum(kernels, 1) - 1) / temperature)
        diagonal = np.arange(products.shape[1])
        kernels[:, diagonal, diagonal] = 1 + alpha
        products = products.astype(np.float64)
        nearest = products[:, :1]
        targets = np.exp((products - nearest) / temperature)
        targets *= np.exp(np.clip((nearest - 1) / temperature, MIN_LOG_KERNEL, 0))
        return np.linalg.solve(kernels, targets[:, :, np.newaxis])[:, :, 0]
