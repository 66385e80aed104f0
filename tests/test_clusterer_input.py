"""Every form of features that the clusterer takes, and the errors for all other forms."""

import numpy as np
import pandas as pd
import pytest
from label_rows import topical
from numpy.testing import assert_array_equal
from scipy import sparse as sp
from sklearn.base import clone

from skxmc import BalancedLabelClusterer, label_features

# SciPy before 1.13 has no 1-D sparse arrays.
HAS_1D = pytest.mark.skipif(sp.coo_array(np.ones(2)).ndim == 2, reason="needs SciPy 1.13")


@pytest.mark.parametrize(
    "convert",
    [
        sp.csr_matrix,
        sp.csc_matrix,
        sp.coo_matrix,
        sp.lil_matrix,
        sp.csr_array,
        sp.coo_array,
        lambda X: X.toarray(),
        lambda X: np.asfortranarray(X.toarray()),
        lambda X: X.toarray().tolist(),
        lambda X: pd.DataFrame(X.toarray()),
        lambda X: X.astype(np.float64),
        lambda X: X.toarray().astype(np.float64),
        lambda X: sp.diags(np.full(X.shape[0], 0.5, dtype=np.float32)) @ X,
    ],
)
def test_fit_any_form_of_features_gives_same_clusters(convert):
    X = topical(150)
    clusterer = BalancedLabelClusterer(8, random_state=0).fit(X)
    converted = convert(X)
    labels = clone(clusterer).fit_predict(converted)
    assert_array_equal(labels, clusterer.labels_)
    assert_array_equal(clusterer.predict(converted), clusterer.labels_)


def with_wide_indices(X):
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def with_unsorted_indices(X):
    for start, end in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        X.indices[start:end] = X.indices[start:end][::-1].copy()
        X.data[start:end] = X.data[start:end][::-1].copy()
    X.has_sorted_indices = False
    return X


def with_duplicates(X):
    X = X.tocoo()
    entries = (np.tile(X.data / 2, 2), (np.tile(X.row, 2), np.tile(X.col, 2)))
    return sp.coo_matrix(entries, shape=X.shape)


def with_stored_zeros(X):
    absent = X.toarray() == 0
    dense = sp.csr_matrix(X.toarray() + absent)
    dense.data[absent.ravel()] = 0
    return dense


def with_stored_rows_of_zeros(X):
    X.data[: X.indptr[60]] = 0
    return X


@pytest.mark.parametrize(
    "make_unusual",
    [
        with_wide_indices,
        with_unsorted_indices,
        with_duplicates,
        with_stored_zeros,
        with_stored_rows_of_zeros,
    ],
)
def test_fit_unusual_sparse_features_give_clusters_of_dense_ones(make_unusual):
    unusual = make_unusual(topical(150))
    expected = BalancedLabelClusterer(8, random_state=0).fit_predict(unusual.toarray())
    assert_array_equal(BalancedLabelClusterer(8, random_state=0).fit_predict(unusual), expected)


def test_fit_and_transform_leave_features_unchanged():
    for X in (topical(100), topical(100).toarray(), sp.csr_array(topical(100))):
        kept = X.copy()
        BalancedLabelClusterer(8).fit(X).transform(X)
        assert abs(X - kept).max() == 0


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        ([[1.0, np.nan]], ValueError, "X contains NaN"),
        (sp.csr_matrix([[1.0, np.inf]]), ValueError, "X contains infinity"),
        (np.zeros((0, 2)), ValueError, "minimum of 1 is required"),
        (sp.csr_matrix((2, 0)), ValueError, "minimum of 1 is required"),
        ([1.0, 2.0], ValueError, "Expected 2D array"),
        pytest.param(
            sp.coo_array([1.0, 2.0]), ValueError, "X must be two-dimensional", marks=HAS_1D
        ),
        (sp.csr_matrix([[1j]]), TypeError, r"X\.astype\(np\.float32\)"),
        ([["a"]], ValueError, "could not convert string to float"),
    ],
)
def test_fit_bad_features_are_refused(X, error, match):
    with pytest.raises(error, match=match):
        BalancedLabelClusterer(4).fit(X)


def broken_matrix():
    X = sp.csr_matrix(np.eye(3, dtype=np.float32))
    X.indices[1] = 1_000_000
    return X


def test_broken_sparse_features_are_refused():
    with pytest.raises(ValueError, match="X is a broken csr matrix"):
        BalancedLabelClusterer(2).fit(broken_matrix())
    with pytest.raises(ValueError, match="X is a broken csr matrix"):
        BalancedLabelClusterer(2).fit(np.eye(3)).predict(broken_matrix())
    with pytest.raises(ValueError, match="X is a broken csr matrix"):
        label_features(np.eye(3), broken_matrix())


def test_transform_other_number_of_features_is_refused():
    clusterer = BalancedLabelClusterer(2).fit(np.eye(4))
    with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 4"):
        clusterer.transform(np.eye(3))
