"""Weights of neighbors: kernel ridge regression on the nearest texts of one text.

Each label is regressed on the neighbors, with 1 for those that have it and 0 for the others. The
prediction is linear in these targets, so it is a vote. Its weights are the same for all labels.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils import gen_batches

# Products differ by at most 2, so from here on the kernel is the same for all neighbors.
MAX_TEMPERATURE = 1e6
# Far smaller values leave equal texts without a solution, and far larger ones without weights.
MIN_ALPHA, MAX_ALPHA = 1e-6, 1e6
# The kernel of the nearest is at least exp of this, so that low temperatures leave some weight.
MIN_LOG_KERNEL = -40.0
# Numbers of the neighbors' vectors or kernels in memory at once.
MAX_NUMBERS = 2**23


def kernel_ridge_weights(
    products: np.ndarray, keys: np.ndarray, *, temperature: float, alpha: float
) -> np.ndarray:
    """Solve (K + alpha I) w = k for each text, with the kernel exp((product - 1) / temperature).

    Parameters
    ----------
    products : ndarray of shape (n_texts, n), float32
        Products of each text with its neighbors, the highest first.
    keys : ndarray of shape (n_texts, n, d), float32
        Vectors of the neighbors, of length 1 or 0.
    temperature : float
        Width of the kernel.
    alpha : float
        Strength of the regularization.

    Returns
    -------
    ndarray of shape (n_texts, n), float64
        Weights. Those of neighbors that say what nearer ones say may be negative.
    """
    temperature = min(temperature, MAX_TEMPERATURE)
    with np.errstate(under="ignore", over="ignore"):
        kernels = (keys @ keys.transpose(0, 2, 1)).astype(np.float64)
        kernels = np.exp((np.minimum(kernels, 1) - 1) / temperature)
        diagonal = np.arange(products.shape[1])
        kernels[:, diagonal, diagonal] = 1 + min(max(alpha, MIN_ALPHA), MAX_ALPHA)
        products = products.astype(np.float64)
        nearest = products[:, :1]
        targets = np.exp((products - nearest) / temperature)
        targets *= np.exp(np.maximum((nearest - 1) / temperature, MIN_LOG_KERNEL))
        return np.linalg.solve(kernels, targets[:, :, np.newaxis])[:, :, 0]


def blocks_of_texts(n_texts: int, width: int, n: int) -> list[slice]:
    """Split texts with n neighbors each, so that vectors and kernels of a block fit in memory."""
    return list(gen_batches(n_texts, max(1, MAX_NUMBERS // (n * max(n, width)))))
