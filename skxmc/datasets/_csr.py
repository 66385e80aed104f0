"""The one way in which the data sets build their label matrices."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy import sparse

Integers = npt.NDArray[np.integer]


def flatten(rows: Iterable[Iterable[int]]) -> tuple[Integers, Integers]:
    """Indices and indptr of a CSR matrix from the columns of its rows, which may be a generator."""
    indices, indptr = array("i"), array("q", [0])
    for row in rows:
        indices.extend(row)
        indptr.append(len(indices))
    return np.array(indices), np.array(indptr)


def binary_csr(indices: Integers, indptr: Integers, n_labels: int) -> sparse.csr_array:
    """The float32 matrix with ones at `indices`; a column named twice in a row counts once."""
    # csr_array keeps the int64 that it gets, at twice the memory.
    small = max(len(indices), n_labels) <= np.iinfo(np.int32).max
    index_dtype = np.int32 if small else np.int64
    matrix = sparse.csr_array(
        (
            np.ones(len(indices), dtype=np.float32),
            indices.astype(index_dtype),
            indptr.astype(index_dtype),
        ),
        shape=(len(indptr) - 1, n_labels),
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
