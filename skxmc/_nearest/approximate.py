"""Approximate search of the nearest vectors with faiss, for millions of texts.

The vectors are clustered. A query is compared with the centers of all clusters, and then with the
vectors of the nearest ones, which are kept in 8 bits per entry.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from skxmc._nearest.exact import ExactKeys
from skxmc._utils.parallel import usable_threads
from skxmc._utils.warnings import warn_user

# "auto" searches up to this number of texts exactly.
MAX_EXACT = 1_000_000
# An index pays from here on. With fewer texts the search is always exact.
MIN_APPROXIMATE = 10_000
# Number of clusters whose vectors are compared with a query.
N_PROBED = 64
# Rows per center that the k-means is fitted to, about the least that faiss accepts.
ROWS_PER_CENTER = 40
# Added rows are searched exactly, until there are more than these.
MAX_TAIL = 4096


def import_faiss() -> Any:
    """Import faiss, or say how to install it."""
    try:
        return import_module("faiss")
    except ImportError as error:
        raise ImportError(
            'search="approximate" needs faiss, which is not installed. On Linux, run: '
            'pip install "skxmc[ann]"'
        ) from error


def is_approximate(search: str, n_texts: int) -> bool:
    """Decide whether the search of the nearest of `n_texts` texts is approximate."""
    if search == "exact" or (search == "auto" and n_texts <= MAX_EXACT):
        return False
    try:
        import_faiss()
    except ImportError:
        if search == "approximate":
            raise
        warn_user(
            f"The search of the nearest of {n_texts:,} texts is exact, which takes long. For an "
            'approximate one on Linux, run: pip install "skxmc[ann]". Or set search="exact".'
        )
        return False
    return n_texts >= MIN_APPROXIMATE


class ApproximateKeys:
    """Vectors of length 1 in an index of faiss, and those added since as they are.

    An index never changes, so other threads and copies may use it. If there are many added
    vectors, a copy of the index takes them.

    Parameters
    ----------
    index : faiss.Index
        The index.
    tail : ExactKeys
        Vectors that follow those of the index.
    """

    def __init__(self, index: Any, tail: ExactKeys) -> None:
        self.index = index
        self.tail = tail

    @classmethod
    def of(cls, rows: np.ndarray) -> ApproximateKeys:
        """Build an index of rows of length 1: (n, d) float32, n at least `MIN_APPROXIMATE`."""
        faiss = import_faiss()
        n_clusters = round(2 * math.sqrt(len(rows)))
        centers = faiss.IndexFlatIP(rows.shape[1])
        index = faiss.IndexIVFScalarQuantizer(
            centers,
            rows.shape[1],
            n_clusters,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
        )
        index.set_direct_map_type(faiss.DirectMap.Array)  # for `vectors`
        sample = np.random.default_rng(0).permutation(len(rows))[: ROWS_PER_CENTER * n_clusters]
        with usable_threads():
            index.train(rows[sample])
            index.add(rows)
        return cls(index, ExactKeys(rows[:0].copy()))

    def extended(self, rows: np.ndarray) -> ApproximateKeys:
        """Return these vectors and more."""
        tail = self.tail.extended(rows)
        if len(tail.values) <= MAX_TAIL:
            return ApproximateKeys(self.index, tail)
        index = import_faiss().clone_index(self.index)
        with usable_threads():
            index.add(tail.values)
        return ApproximateKeys(index, ExactKeys(rows[:0].copy()))

    def nearest(self, queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Find n vectors with high products with each query, as `nearest` does."""
        n_indexed = min(n, self.index.ntotal)
        with usable_threads():
            rows, products = self._search(queries, n_indexed, N_PROBED)
            is_short = rows[:, -1] < 0  # the clusters have too few vectors
            if is_short.any():
                found = self._search(queries[is_short], n_indexed, self.index.nlist)
                rows[is_short], products[is_short] = found
        n_added = min(n, len(self.tail.values))
        if n_added:
            added, of_added = self.tail.nearest(queries, n_added)
            rows = np.hstack([rows, added + self.index.ntotal])
            products = np.hstack([products, of_added])
        best = np.lexsort((rows, -products), axis=1)[:, :n]
        return np.take_along_axis(rows, best, axis=1), np.take_along_axis(products, best, axis=1)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of `rows`, of any shape: float32 with one more axis."""
        flat, n_indexed = rows.ravel(), self.index.ntotal
        with usable_threads():
            vectors = self.index.reconstruct_batch(np.minimum(flat, n_indexed - 1))
        is_added = flat >= n_indexed
        vectors[is_added] = self.tail.values[flat[is_added] - n_indexed]
        return vectors.reshape(*rows.shape, -1)

    def _search(self, queries: np.ndarray, n: int, n_probed: int) -> tuple[np.ndarray, np.ndarray]:
        params = import_faiss().SearchParametersIVF(nprobe=n_probed)
        products, rows = self.index.search(queries, n, params=params)
        return rows, products

    def __getstate__(self) -> dict[str, Any]:
        return {"index": import_faiss().serialize_index(self.index), "tail": self.tail}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.index = import_faiss().deserialize_index(np.asarray(state["index"]))
        self.tail = state["tail"]
