"""Properties of metrics and rankings: any labels and scores give the values of plain loops."""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from metric_examples import PLAIN, SCORED, TopK
from property_checks import refused, unmodified
from scipy import sparse
from sklearn.base import BaseEstimator
from strategies import (
    DTYPES,
    JUNK,
    as_collections,
    as_dense,
    as_frame,
    as_sparse,
    broken_sparse,
    cases,
    indicators,
    label_names,
    no_labels,
    stored_as,
    wrong_k,
)

from skxmc import predict_topk
from skxmc.metrics import (
    label_propensities,
    make_at_k_scorer,
    ndcg_at_k,
    precision_at_k,
    psp_at_k,
    recall_at_k,
)

# These are few, so that many scores are equal.
SCORES = st.sampled_from([-2.0, -1e-30, 0.0, 0.25, 0.5, 3.0])


# ---------------------------------------------------------------- a plain reference


def rank(row):
    """Return the columns, best first. None in `row` means that nothing is stored."""
    key = [(score is None, 0 if score is None else -score, j) for j, score in enumerate(row)]
    return sorted(range(len(row)), key=key.__getitem__)


def reference(metric, true, n_unknown, ranked, k, propensities):
    """Apply the formulas of the docstrings per text. Unknown labels weigh as much as the rarest."""
    gain = [1 / p for p in propensities]
    sums, best_sums, means = 0.0, 0.0, []
    for positives, unknown, order in zip(true, n_unknown, ranked, strict=True):
        hits = [bool(positives[j]) for j in order[:k]]
        n_true = sum(map(bool, positives)) + int(unknown)
        discount = [1 / math.log2(i + 2) for i in range(k)]
        ideal = sum(discount[: max(n_true, 1)])
        gains = [gain[j] * hit for j, hit in zip(order[:k], hits, strict=True)]
        best = sorted([gain[j] for j, yes in enumerate(positives) if yes], reverse=True)
        best = ([max(gain)] * int(unknown) + best)[:k]
        if metric is precision_at_k:
            means.append(sum(hits) / k)
        elif metric is recall_at_k:
            means.append(sum(hits) / max(n_true, 1))
        elif metric is ndcg_at_k:
            means.append(sum(d * hit for d, hit in zip(discount, hits, strict=True)) / ideal)
        elif metric is psp_at_k:
            sums += sum(gains)
            best_sums += sum(best)
        else:
            sums += sum(map(math.prod, zip(gains, discount, strict=True))) / ideal
            best_sums += sum(map(math.prod, zip(best, discount, strict=False))) / ideal
    return sum(means) / len(means) if means else (sums / best_sums if best_sums else 0.0)


@st.composite
def score_matrices(draw, shape):
    """Draw a score matrix of any form, and its rows as lists with None for absent entries."""
    form = draw(st.sampled_from(["dense", "lists", "csr", "csc", "coo", "bsr"]))
    if form in ("dense", "lists"):
        dtype = draw(st.sampled_from([*DTYPES, np.float16, np.int16]))
        scores = draw(hnp.arrays(float, shape, elements=SCORES))
        scores = (scores if np.dtype(dtype).kind in "if" else np.abs(scores)).astype(dtype)
        rows = [[float(score) for score in row] for row in scores]
        return (scores.tolist() if form == "lists" else np.asfortranarray(scores)), rows
    stored = draw(hnp.arrays(float, shape, elements=SCORES | st.just(np.nan)))
    rows = [[None if math.isnan(score) else float(score) for score in row] for row in stored]
    entries = [(i, j, x) for i, row in enumerate(rows) for j, x in enumerate(row) if x is not None]
    dtype = draw(st.sampled_from([np.float64, np.longdouble]))
    return stored_as(draw(st.permutations(entries)), shape, dtype, form), rows


@pytest.mark.filterwarnings("ignore:None of the labels of y_true")
@cases(25)
@given(st.data(), indicators(min_rows=2))
def test_metrics_any_input_match_plain_loops(data, dense):
    n_texts, n_labels = dense.shape
    k = data.draw(st.integers(1, n_labels))
    y_score, rows = data.draw(score_matrices(dense.shape))
    ranked = [rank(row) for row in rows]
    propensities = data.draw(st.lists(st.floats(0, 1, exclude_min=True), min_size=2, max_size=3))
    propensities = [propensities[i % len(propensities)] for i in range(n_labels)]
    assume(min(propensities) > 1e-290)  # the reference overflows with smaller ones
    names = data.draw(label_names(n_labels))
    form = data.draw(st.sampled_from([as_frame, as_collections, as_sparse, as_dense]))
    true, n_unknown, options = dense, np.zeros(n_texts), {"k": k}
    if form in (as_sparse, as_dense):
        y_true, classes = data.draw(form(dense)), list(range(n_labels))
    else:
        y_true = data.draw(form(dense, names))
        classes = data.draw(st.permutations(names))
        if data.draw(st.sampled_from([True, True, False])):  # a label that the model does not know
            stranger = classes.index(names[dense.sum(axis=0).argmax()])
            classes = [*classes]
            classes[stranger] = 2**62 + 1 if isinstance(names[0], int) else "a stranger"
            assume(classes.count(classes[stranger]) == 1)
        true = np.array(
            [dense[:, names.index(c)] if c in names else dense[:, 0] & False for c in classes]
        ).T
        n_unknown = dense.sum(axis=1) - true.sum(axis=1)
        options["classes"] = classes
    if data.draw(st.booleans()):
        best = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
        y_score = TopK(best[np.array([order[:k] for order in ranked])], None)
    for metric in [*PLAIN, *SCORED]:
        if metric in SCORED:
            options["propensities"] = propensities
        with unmodified(y_true, *([] if isinstance(y_score, TopK) else [y_score])):
            value = metric(y_true, y_score, **options)
        assert type(value) is float
        assert 0 <= value <= 1 + 1e-12
        expected = reference(metric, true, n_unknown, ranked, k, propensities)
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_propensity_metrics_least_propensities_do_not_overflow():
    y_true, y_score = np.array([[1, 1], [0, 1]]), np.array([[2, 1], [1, 2]])
    for least in (5e-324, 1e-308, 1e-300):
        for metric in SCORED:
            value = metric(y_true, y_score, propensities=[least, 1.0], k=1)
            assert value == pytest.approx(1)
        missed = psp_at_k(y_true, y_score[:, ::-1], propensities=[least, 1.0], k=1)
        assert missed == pytest.approx(0)


class Table(BaseEstimator):
    """Estimator that scores any texts by the rows of a matrix."""

    def __init__(self, scores, classes):
        self.scores = scores
        self.classes_ = classes

    def decision_function(self, X):
        return self.scores


@cases(8)
@given(st.data(), st.integers(1, 4), st.integers(1, 6))
def test_predict_topk_any_score_matrix_matches_sorting(data, n_texts, n_labels):
    scores, rows = data.draw(score_matrices((n_texts, n_labels)))
    assume(not isinstance(scores, list))
    classes = np.array(data.draw(label_names(n_labels)), dtype=object)
    k = data.draw(st.integers(1, n_labels))
    with unmodified(scores):
        top = predict_topk(Table(scores, classes), ["text"] * n_texts, k)
    expected = [rank(row)[:k] for row in rows]
    assert top.labels.tolist() == [[classes[j] for j in order] for order in expected]
    stored = [[rows[i][j] or 0 for j in order] for i, order in enumerate(expected)]
    np.testing.assert_array_equal(top.scores, stored)


@cases(6)
@given(wrong_k(3))
@example(0)
@example(4)
def test_metrics_k_out_of_range_raise_error(k):
    for metric in PLAIN:
        with refused("k", "k is "):
            metric(np.eye(3), np.eye(3), k=k)
    with refused("k", "k is "):
        psp_at_k(np.eye(3), np.eye(3), k=k, propensities=[1, 1, 1])
    with refused("k", "k is "):
        predict_topk(Table(np.eye(3), np.arange(3)), ["text"] * 3, k)
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        with refused("k", "k is "):
            make_at_k_scorer(precision_at_k, k=k)


@cases(8)
@given(
    st.one_of(
        st.sampled_from([None, "scores", 1.0, b"b", {}, [[1], [1, 2]], [["a", "b"]], np.ones(2)]),
        st.sampled_from([np.eye(2) * 1j, np.full((2, 2), None), np.ones((1, 2, 2)), np.eye(3)]),
        st.sampled_from(
            [sparse.csr_array(np.eye(3)), sparse.csr_array(np.eye(2) * 1j), (np.eye(2), np.eye(2))]
        ),
        st.sampled_from([np.inf, -np.inf, np.nan]).map(lambda x: np.array([[x, 0], [0, 0]])),
        st.sampled_from([np.inf, np.nan]).map(lambda x: sparse.csr_array([[x, 0], [0, 1]])),
        st.sampled_from(
            [[0, 1], [[0], [0, 1]], [["a"], ["b"]], [[0.5], [1.0]], [[None], [0.5]]]
        ).map(lambda labels: TopK(labels, None)),
        st.just(TopK([[1, 1], [0, 1]], None)),
        broken_sparse(),
    )
)
@example([[1], [1, 2]])
@example(np.ma.masked_less(np.eye(2), 1))
def test_precision_y_score_without_scores_raises_error(wrong):
    k = 2 if isinstance(wrong, TopK) and np.shape(wrong.labels[0]) == (2,) else 1
    with refused("y_score"):
        precision_at_k(np.eye(2), wrong, k=k)


@cases(8)
@given(no_labels())
def test_precision_y_true_without_labels_raises_error(wrong):
    with refused("y_true|y_score"):
        precision_at_k(wrong, np.eye(2), k=1, classes=None)


@cases(5)
@given(
    st.sampled_from([None, "ab", ["a", "b"], [1j, 1], np.array([1j, 1]), [[1], [1, 2]], {}, [0.5]])
    | st.tuples(st.floats().filter(lambda p: not 0 < p <= 1), st.floats(0.1, 1)).map(list)
    | st.sampled_from(
        [sparse.csr_array(np.eye(2)), np.ones((2, 1)), [None, 1], np.ones(3), object()]
    )
)
def test_propensity_metrics_wrong_propensities_raise_error(wrong):
    for metric in SCORED:
        with refused("propensities"):
            metric(np.eye(2), np.eye(2), propensities=wrong, k=1)


POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False) | st.integers(1, 10**40)


@cases(8)
@given(st.data(), indicators(), POSITIVE | st.just(0), POSITIVE)
def test_label_propensities_more_texts_are_higher_within_0_to_1(data, dense, a, b):
    dense = np.repeat(dense, data.draw(st.integers(1, 4)), axis=0)
    p = label_propensities(data.draw(as_sparse(dense)), a=a, b=b)
    assert p.shape == (dense.shape[1],)
    assert p.dtype == np.float64
    assert ((p > 0) & (p <= 1)).all()
    by_count = p[np.argsort(dense.sum(axis=0), kind="stable")]
    assert (np.diff(by_count) >= 0).all()
    if a < 9 and 1e-3 < b < 1e6:
        factor = max(0, math.log(len(dense)) - 1) * (b + 1) ** a
        expected = [1 / (1 + factor * (n + b) ** -a) for n in dense.sum(axis=0).tolist()]
        np.testing.assert_allclose(p, expected, rtol=1e-9)


@cases(4)
@given(
    st.sampled_from(JUNK) | st.floats(max_value=0, exclude_max=True),
    st.sampled_from(JUNK) | st.floats(max_value=0),
)
@example("x", np.ones(2))
@example(math.inf, math.inf)
def test_label_propensities_wrong_constants_raise_error(a, b):
    with refused("a must"):
        label_propensities(np.eye(2), a=a)
    with refused("b (must|above)"):
        label_propensities(np.eye(2), b=b)
