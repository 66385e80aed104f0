"""Copies of texts that stand for their weights."""

import numpy as np
import pytest

from skxmc._input.weights import copies


@pytest.mark.parametrize(
    ("weights", "counts", "of_copy"),
    [
        ([1, 2, 1, 3], [1, 2, 1, 3], 1),
        ([2, 2], [1, 1], 2),
        ([1, 0.5], [2, 1], 0.5),
        ([1, 0.3], [10, 3], 0.1),
        ([0.7, 0.2], [7, 2], 0.1),
        ([1e300, 3e300], [1, 3], 1e300),
        ([1 / 3, 1 / 7], [7, 3], 1 / 21),
    ],
)
def test_copies_weights_of_copies_add_up_to_weights(weights, counts, of_copy):
    found, weight = copies(np.array(weights, dtype=float))
    assert found.tolist() == counts
    assert weight == pytest.approx(of_copy)


@pytest.mark.parametrize(
    "weights", [np.linspace(0.1, 1, 50) ** 0.5, [1] * 99 + [5000], [5e-324, 1, 1e308, 1e308]]
)
def test_copies_too_many_for_exact_weights_are_rounded(weights):
    weights = np.array(weights, dtype=float)
    counts, of_copy = copies(weights)
    assert counts.min() >= 1
    assert counts.sum() <= 11 * len(weights)
    heavy = counts > 1
    np.testing.assert_allclose(counts[heavy] * of_copy, weights[heavy], atol=0.51 * of_copy)
