"""Builder of the label matrices of all data sets."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy import sparse

Integers = npt.NDArray[np.integer]


def flatten(rows: Iterable[Iterable[int]]) -> tuple[Integers, Integers]:
    """Compute indices and indptr of a CSR matrix from the columns of each row."""
    indices, indptr = array("i"), array("q", [0])
    for row in rows:
        indices.extend(row)
        indptr.append(len(indices))
    return np.array(indices), np.array(indptr)


def binary_csr(indices: Integers, indptr: Integers, n_labels: int) -> sparse.csr_array:
    """Build the float32 matrix with ones at `indices`. A repeated column in a row counts once."""
    # csr_array keeps int64 indices if it gets them, which take twice the memory.
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
