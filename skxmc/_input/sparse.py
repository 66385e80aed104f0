"""Sparse matrices and arrays of users, checked before compiled code reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skxmc._utils.quoting import MAX_ERROR, quoted_type, shortened


def checked_csr(matrix: Any, name: str) -> sparse.csr_array:
    """Return a canonical CSR copy of a sparse matrix, after a check that it is not broken."""
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be two-dimensional, got a {matrix.ndim}-D sparse array.")
    if matrix.dtype.kind not in "buif":
        raise TypeError(
            f"{name} has dtype {quoted_type(matrix.dtype)}, but must be bool, int or float. "
            f"Convert it with {name}.astype(np.float32)."
        )
    wide = matrix.dtype
    if wide.kind in "iu":  # sums of many duplicates would overflow small types
        wide = np.result_type(wide, np.int64)
    csr = _to_csr(matrix, wide) if _is_sound(matrix) else None
    # Checked again, because the conversion of a lil matrix keeps any column numbers.
    if csr is None or not _is_sound(csr):
        raise ValueError(
            f"{name} is a broken {matrix.format} matrix: its indices do not fit its shape "
            f"{matrix.shape}. Build it again. For csr and csc, check_format() finds the error."
        )
    # Built from its arrays, so that flags such as has_canonical_format are not trusted.
    arrays = csr.data.astype(wide, copy=False), csr.indices, csr.indptr
    csr = sparse.csr_array(arrays, shape=csr.shape, copy=True)
    csr.sum_duplicates()
    narrow_indices(csr)
    return csr


def narrow_indices(csr: sparse.csr_array) -> None:
    """Make indices int32 if they fit, because SciPy's constructors and operations keep int64."""
    if max(csr.nnz, csr.shape[1]) <= np.iinfo(np.int32).max:
        csr.indices = csr.indices.astype(np.int32, copy=False)
        csr.indptr = csr.indptr.astype(np.int32, copy=False)


def row_of_entry(csr: sparse.csr_array | sparse.csr_matrix) -> NDArray[np.int64]:
    """Return the row of each stored entry, in the order of `csr.indices`."""
    return np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))


def has_entries(
    csr: sparse.csr_array, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Check which places of a canonical matrix have an entry. Column -1 never has one."""
    n_rows, n_columns = csr.shape
    # Each entry has one number, in ascending order. The sentinel stands for "beyond the last".
    entries = np.append(row_of_entry(csr) * n_columns + csr.indices, n_rows * n_columns)
    wanted = rows * n_columns + columns
    return (entries[np.searchsorted(entries, wanted)] == wanted) & (columns >= 0)


def ranges(starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Concatenate the ranges of `lengths[i]` consecutive integers from `starts[i]` on."""
    return np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Convert values to an array, and refuse those that are masked or not rectangular."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked entries. Fill them with {name}.filled(0).")
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array or lists of equal length, but numpy says: "
            f"{shortened(str(error), MAX_ERROR)}"
        ) from error
    except (TypeError, RuntimeError) as error:  # tensors of a GPU, sparse ones, bfloat16
        raise TypeError(
            f"{name} cannot be converted to a NumPy array ({error}). Convert a tensor by "
            f"{name}.detach().cpu().to_dense().float().numpy()."
        ) from error


def _to_csr(matrix: Any, dtype: np.dtype[Any]) -> Any:
    """Convert a sound matrix to CSR. If this adds up duplicates, it does so in `dtype`."""
    if matrix.format in ("coo", "bsr"):
        coo = matrix.tocoo(copy=False)
        entries = coo.data.astype(dtype, copy=False), (coo.row, coo.col)
        matrix = sparse.coo_array(entries, shape=coo.shape)
    return matrix.tocsr()


def _is_sound(matrix: Any) -> bool:
    """Return whether indices fit the shape. Constructors of other formats check it themselves."""
    n_rows, n_columns = matrix.shape
    if matrix.format == "coo":
        return (
            len(matrix.row) == len(matrix.col) == len(matrix.data)
            and _within(matrix.row, n_rows)
            and _within(matrix.col, n_columns)
        )
    if matrix.format == "lil":
        return list(map(len, matrix.rows)) == list(map(len, matrix.data))
    if matrix.format == "dia":
        return matrix.offsets.shape == matrix.data.shape[:1] and matrix.offsets.dtype.kind == "i"
    if matrix.format not in ("csr", "csc", "bsr"):
        return True
    n_major, n_minor = (n_columns, n_rows) if matrix.format == "csc" else (n_rows, n_columns)
    if matrix.format == "bsr":
        n_major, n_minor = n_rows // matrix.blocksize[0], n_columns // matrix.blocksize[1]
    starts, indices = np.asarray(matrix.indptr), np.asarray(matrix.indices)
    return bool(
        starts.shape == (n_major + 1,)
        and starts.dtype.kind in "iu"
        and starts[0] == 0
        and (starts[:-1] <= starts[1:]).all()
        and starts[-1] <= min(len(indices), len(matrix.data))
        and _within(indices[: starts[-1]], n_minor)
    )


def _within(indices: NDArray[Any], bound: int) -> bool:
    if indices.dtype.kind not in "iu":
        return False
    return indices.size == 0 or bool(indices.min() >= 0 and indices.max() < bound)
