"""Helpers for the tests of texts and labels."""

import enum

import numpy as np
from scipy import sparse

from skxmc._input.validation import Labels


class Number(str, enum.Enum):  # str() of a member is not its text
    ONE = "one"


INDICATOR = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1]])


def assert_canonical(labels, expected):
    """Check that the indicator equals `expected`, in the form that the package relies on."""
    assert isinstance(labels, Labels)
    matrix = labels.matrix
    assert isinstance(matrix, sparse.csr_array)
    assert matrix.dtype == np.float32
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
    np.testing.assert_array_equal(matrix.toarray(), expected)
    # Rebuilt, so that the check does not trust flags of the matrix.
    rebuilt = sparse.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
    assert rebuilt.has_canonical_format
    assert (matrix.data == 1).all()
    assert labels.classes.shape == (matrix.shape[1],)
    assert labels.classes.dtype in (np.dtype(np.int64), np.dtype(object))
    assert labels.n_unknown.shape == (matrix.shape[0],)
    assert labels.n_unknown.dtype == np.int64
