"""Features of labels from those of their texts, and the errors for all other input."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import sparse as sp

from skxmc import label_features


@pytest.mark.parametrize("as_y", [np.asarray, sp.csr_matrix, sp.coo_array, pd.DataFrame])
@pytest.mark.parametrize("as_x", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_label_features_any_form_gives_unit_sums_of_unit_rows(as_y, as_x):
    rng = np.random.default_rng(0)
    Y = rng.integers(2, size=(30, 6))
    Y[:, 2] = 0
    X = rng.random((30, 9)) * (rng.random((30, 9)) < 0.4)
    X[4] = 0
    features = label_features(as_y(Y), as_x(X))

    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-9)
    sums = Y.T @ unit
    expected = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    assert isinstance(features, np.ndarray if as_x is np.asarray else sp.csr_matrix)
    assert features.dtype == np.float32
    features = features if as_x is np.asarray else features.toarray()
    assert_allclose(features, expected, atol=1e-6)
    assert not features[2].any()


def test_label_features_leaves_input_unchanged():
    Y, X = sp.csr_matrix([[1, 0], [1, 1]]), sp.csr_matrix([[3.0, 4.0], [0.0, 2.0]])
    label_features(Y, X)
    assert Y.toarray().tolist() == [[1, 0], [1, 1]]
    assert X.toarray().tolist() == [[3.0, 4.0], [0.0, 2.0]]


@pytest.mark.parametrize(
    ("Y", "X", "error", "match"),
    [
        (np.eye(2), np.eye(3), ValueError, "Y has 2 rows, but there are 3 texts. Pass one row"),
        (-np.eye(2), np.eye(2), ValueError, "Y holds -1.0 at row 0, column 0"),
        (np.eye(2) * np.nan, np.eye(2), ValueError, "Y holds nan at row 0"),
        (np.eye(2) * 3, np.eye(2), ValueError, "counts or weighs labels, pass Y > 0"),
        (np.eye(2), [[np.nan], [1.0]], ValueError, "X contains NaN"),
        (np.eye(2), sp.csr_matrix([[np.inf], [1.0]]), ValueError, "X contains infinity"),
        (np.eye(2), sp.csr_matrix([[1j], [1.0]]), TypeError, "X has dtype complex128"),
        (sp.csr_matrix([[1j], [1.0]]), np.eye(2), TypeError, "Y has dtype complex128"),
        (np.eye(2), [1.0, 2.0], ValueError, "Expected 2D array"),
    ],
)
def test_label_features_bad_input_is_refused(Y, X, error, match):
    with pytest.raises(error, match=match):
        label_features(Y, X)
