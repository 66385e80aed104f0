"""Propensities of labels match the formula and values by hand."""

import math

import numpy as np
import pytest

from skxmc.metrics import label_propensities


@pytest.mark.parametrize(("a", "b"), [(0.55, 1.5), (0.5, 0.4), (0.6, 2.6)])
def test_label_propensities_published_constants_follow_formula(a, b):
    n, counts = 100, [100, 10, 1, 0]
    y_train = np.array([[i < count for count in counts] for i in range(n)])
    c = (math.log(n) - 1) * (b + 1) ** a
    expected = [1 / (1 + c * math.exp(-a * math.log(count + b))) for count in counts]
    np.testing.assert_allclose(label_propensities(y_train, a=a, b=b), expected, rtol=1e-12)


def test_label_propensities_example_match_value_by_hand():
    # C = (log 8 - 1) * 2 and N_l + b = 2, so p = 1 / (1 + (log 8 - 1)).
    y_train = np.array([[1]] + [[0]] * 7)
    assert label_propensities(y_train, a=1, b=1) == pytest.approx([1 / math.log(8)])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 1000])
def test_label_propensities_any_number_of_texts_lie_in_0_to_1(n):
    p = label_propensities(np.eye(n, 3, dtype=int))
    assert p.dtype == np.float64
    assert p.shape == (3,)
    assert ((p > 0) & (p <= 1)).all()
    if n <= 2:
        assert (p == 1).all()


def test_label_propensities_collections_are_in_sorted_label_order():
    p = label_propensities([["b"], ["b"], ["b"], ["a", "b"]])
    assert p[0] < p[1]


@pytest.mark.parametrize(("a", "b"), [(-1, 1), (0.5, 0), (np.nan, 1), (np.inf, 1), (1, np.inf)])
def test_label_propensities_constants_out_of_range_raise_error(a, b):
    with pytest.raises(
        ValueError, match=r"^a must be at least 0 and b above 0, both finite, got a="
    ):
        label_propensities(np.eye(3), a=a, b=b)


def test_label_propensities_wrong_y_train_error_names_it():
    with pytest.raises(ValueError, match=r"^row 0 of y_train is 'a', not a collection"):
        label_propensities(["a"])
