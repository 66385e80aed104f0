"""Exact search of the nearest vectors, and arrays to which vectors are added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import gen_batches

from skxmc._input.ranking import best_positions

if TYPE_CHECKING:
    from typing_extensions import Self

# Queries and keys are compared in blocks, which bounds the memory.
QUERY_BLOCK, KEY_BLOCK = 256, 4096
# Rows are scaled in blocks, because they are float64 meanwhile.
ROW_BLOCK = 4096


class GrowingArray:
    """An array with room for more rows, which costs less than a copy for each addition.

    Copies share the room, and the first that adds rows gets it. No row changes once it is there.

    Parameters
    ----------
    values : ndarray
        The rows.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self._room = values
        self._n_used = [len(values)]  # of the room, by all that share it

    def extended(self, rows: np.ndarray) -> Self:
        """Return these rows and more, of the same type. Only if there is no room, it copies."""
        if len(rows) == 0:  # the room may be a file that is only read
            return self
        n, end = len(self.values), len(self.values) + len(rows)
        room, n_used = self._room, self._n_used
        if end > len(room) or n_used[0] != n:
            room = np.empty((end + end // 2, *rows.shape[1:]), dtype=self.values.dtype)
            room[:n] = self.values
            n_used = [n]
        room[n:end] = rows
        n_used[0] = end
        extended = type(self)(room[:end])
        extended._room, extended._n_used = room, n_used
        return extended

    def __reduce__(self) -> tuple[type[GrowingArray], tuple[np.ndarray]]:
        return type(self), (self.values,)


class ExactKeys(GrowingArray):
    """Vectors that are searched exactly."""

    def nearest(self, queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the n vectors with the highest products with each query, as `nearest` does."""
        return nearest(queries, self.values, n)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of `rows`, of any shape: float32 with one more axis."""
        return self.values[rows]


def unit_rows(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Subtract the mean, and scale rows to length 1 (n, d) float32. Rows of 0 stay 0."""
    units = np.empty(vectors.shape, dtype=np.float32)
    with np.errstate(under="ignore"):
        for part in gen_batches(len(vectors), ROW_BLOCK):
            rows = vectors[part] - mean
            rows /= _divisors(np.abs(rows).max(axis=1))  # because squares may overflow
            units[part] = rows / _divisors(np.linalg.norm(rows, axis=1))
    return units


def _divisors(scales: np.ndarray) -> np.ndarray:
    return np.where(scales > 0, scales, 1)[:, np.newaxis]


def nearest(
    queries: np.ndarray,
    keys: np.ndarray,
    n: int,
    *,
    query_block: int = QUERY_BLOCK,
    key_block: int = KEY_BLOCK,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the n keys with the highest products with each query, the nearest first.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, d), float32
    keys : ndarray of shape (n_keys, d), float32
    n : int
        Number of keys per query, at most all.
    query_block, key_block : int
        Numbers of rows that are compared at once.

    Returns
    -------
    rows : ndarray of shape (n_queries, n), int64
        Rows of the keys. On ties, the lower row wins.
    products : ndarray of shape (n_queries, n), float32
    """
    found = np.empty((len(queries), n), dtype=np.int64)
    products = np.empty((len(queries), n), dtype=np.float32)
    for of_queries in gen_batches(len(queries), query_block):
        block = queries[of_queries]
        best = np.empty((len(block), 0), dtype=np.float32)
        rows = np.empty((len(block), 0), dtype=np.int64)
        for of_keys in gen_batches(len(keys), key_block):
            here = block @ keys[of_keys].T
            columns = np.arange(here.shape[1])
            if best.shape[1] == n:  # most keys are nearer to no text of the block
                columns = np.flatnonzero((here > best[:, -1:]).any(axis=0))
                here = np.take(here, columns, axis=1)
            here = np.hstack([best, here])
            columns = np.broadcast_to(columns + of_keys.start, (len(block), len(columns)))
            places = best_positions(here, min(n, here.shape[1]))
            best = np.take_along_axis(here, places, axis=1)
            rows = np.take_along_axis(np.hstack([rows, columns]), places, axis=1)
        found[of_queries], products[of_queries] = rows, best
    return found, products
