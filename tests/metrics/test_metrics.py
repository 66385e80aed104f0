"""Metrics match values by hand, a reference in plain Python, and napkinXC."""

import math

import numpy as np
import pandas as pd
import pytest
from metric_examples import (
    BY_HAND,
    LOG3,
    PLAIN,
    PROPENSITIES,
    SCORED,
    Y_SCORE,
    Y_TRUE,
    TopK,
    evaluate,
)
from scipy import sparse

from skxmc import metrics
from skxmc.metrics import (
    label_propensities,
    ndcg_at_k,
    precision_at_k,
    psndcg_at_k,
    psp_at_k,
    recall_at_k,
)


@pytest.mark.parametrize("metric", BY_HAND)
def test_metrics_example_match_values_by_hand(metric):
    value = evaluate(metric, Y_TRUE, Y_SCORE, k=2)
    assert type(value) is float
    assert value == pytest.approx(BY_HAND[metric], abs=1e-12)


def test_metrics_k_above_true_labels_follow_their_divisors():
    # P@k still divides by k. The ideal ranking of nDCG ends with the true labels.
    y_true, y_score = [[1]], np.array([[0.1, 0.9, 0.5]])
    assert precision_at_k(y_true, y_score, k=3, classes=range(3)) == pytest.approx(1 / 3)
    assert recall_at_k(y_true, y_score, k=3, classes=range(3)) == 1
    assert ndcg_at_k(y_true, y_score, k=3, classes=range(3)) == 1


def test_ndcg_one_true_label_is_discount_of_its_rank():
    y_score = np.array([[4, 3, 2, 1]])
    for rank in range(4):
        y_true = sparse.csr_array(([1], ([0], [rank])), shape=(1, 4))
        assert ndcg_at_k(y_true, y_score, k=4) == pytest.approx(1 / math.log2(rank + 2))


# Against a reference


def reference(metric, true, ranked, k, gain):
    """Compute `metric` from sets of true labels and ranked labels, with plain loops."""
    total, best = 0.0, 0.0
    for labels, order in zip(true, ranked, strict=True):
        hits = [label in labels for label in order[:k]]
        ideal = sum(1 / math.log2(i + 2) for i in range(min(k, len(labels))))
        gains = [gain[label] * hit for label, hit in zip(order, hits, strict=False)]
        top = sorted((gain[label] for label in labels), reverse=True)[:k]
        if metric is precision_at_k:
            total += sum(hits) / k
        elif labels and metric is recall_at_k:
            total += sum(hits) / len(labels)
        elif labels and metric is ndcg_at_k:
            total += sum(hit / math.log2(i + 2) for i, hit in enumerate(hits)) / ideal
        elif metric is psp_at_k:
            total += sum(gains)
            best += sum(top)
        elif labels and metric is psndcg_at_k:
            total += sum(g / math.log2(i + 2) for i, g in enumerate(gains)) / ideal
            best += sum(g / math.log2(i + 2) for i, g in enumerate(top)) / ideal
    return total / (best if metric in SCORED else len(true))


@pytest.mark.parametrize("metric", PLAIN + SCORED)
@pytest.mark.parametrize("seed", range(8))
def test_metrics_random_data_match_plain_reference(metric, seed):
    rng = np.random.default_rng(seed)
    n, n_labels = 40, 9
    classes = [f"label{i}" for i in rng.permutation(n_labels)]
    everything = [*classes, "unknown1", "unknown2", "unknown3"]
    true = [
        set(rng.choice(everything, size=rng.integers(0, 7), replace=False).tolist())
        for _ in range(n)
    ]
    scores = rng.integers(0, 4, (n, n_labels)).astype(float)
    ranked = [
        [classes[c] for c in sorted(range(n_labels), key=lambda c, row=row: (-row[c], c))]
        for row in scores
    ]
    propensities = rng.uniform(0.1, 1, n_labels)
    gain = dict(zip(classes, 1 / propensities, strict=True))
    gain |= dict.fromkeys(everything[n_labels:], max(gain.values()))
    k = int(rng.integers(1, n_labels + 1))

    expected = pytest.approx(reference(metric, true, ranked, k, gain), abs=1e-12)
    top_k = TopK(np.array(ranked), None)
    for y_score in (scores, sparse.csr_array(scores), sparse.coo_matrix(scores), top_k):
        options = {"k": k, "classes": classes, "propensities": propensities}
        assert evaluate(metric, true, y_score, **options) == expected


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_random_data_match_napkinxc(seed, k):
    theirs = pytest.importorskip("napkinxc.metrics")
    rng = np.random.default_rng(seed)
    y_true = sparse.csr_matrix((rng.random((200, 60)) < 0.05).astype(float))
    y_score = sparse.csr_matrix(rng.random((200, 60)) * (rng.random((200, 60)) < 0.3))
    p = label_propensities(y_true)
    inverse = theirs.Jain_et_al_inverse_propensity(y_true)
    np.testing.assert_allclose(1 / p, inverse, rtol=1e-12)
    for ours, name in (
        (precision_at_k, "precision_at_k"),
        (recall_at_k, "recall_at_k"),
        (ndcg_at_k, "ndcg_at_k"),
        (psp_at_k, "psprecision_at_k"),
        (psndcg_at_k, "psndcg_at_k"),
    ):
        scored = (inverse,) if ours in SCORED else ()
        expected = getattr(theirs, name)(y_true, y_score, *scored, k=k)[-1]
        assert evaluate(ours, y_true, y_score, k=k, propensities=p) == pytest.approx(expected)


# Forms of y_true and y_score


@pytest.mark.parametrize("metric", BY_HAND)
def test_metrics_any_form_of_y_true_give_same_value(metric):
    names = np.array(["tax", "law", "art", "sea"])
    dense = Y_TRUE.toarray()
    collections = [names[row.astype(bool)].tolist() for row in dense]
    frame = pd.DataFrame(dense, columns=names)[["sea", "art", "law", "tax"]]
    forms = [
        dense,
        dense.astype(bool),
        Y_TRUE.tocsc(),
        sparse.lil_matrix(Y_TRUE),
        frame,
        collections,
    ]
    for y_true in forms:
        value = evaluate(metric, y_true, Y_SCORE, k=2, classes=names)
        assert value == pytest.approx(BY_HAND[metric])


@pytest.mark.parametrize("metric", BY_HAND)
def test_metrics_topk_of_column_numbers_match_values_by_hand(metric):
    y_score = TopK(np.argsort(-Y_SCORE, axis=1, kind="stable"), None)
    assert evaluate(metric, Y_TRUE, y_score, k=2) == pytest.approx(BY_HAND[metric])


@pytest.mark.parametrize("metric", PLAIN)
def test_metrics_topk_of_named_labels_need_no_classes(metric):
    # "new" is predicted for two texts and never true, which is not a repetition.
    y_score = TopK(np.array([["tax", "law", "new"], ["sea", "art", "law"], ["law", "new", "x"]]), 0)
    y_true = [["tax", "art", "sea"], ["art", "sea"], []]
    assert metric(y_true, y_score, k=2) == pytest.approx(BY_HAND[metric])
    frame = pd.DataFrame({"tax": [1, 0, 0], "art": [1, 1, 0], "sea": [1, 1, 0]})
    assert metric(frame, y_score, k=2) == pytest.approx(BY_HAND[metric])


@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_metrics_absent_scores_rank_last_by_column(metric):
    dense = np.array([[0, 0.5, 0, 0.2], [0, 0, 0, 0]])
    y_true = sparse.csr_array([[1, 1, 0, 0], [0, 1, 0, 0]])
    for k in (1, 2, 3, 4):
        expected = evaluate(metric, y_true, dense, k=k)
        assert evaluate(metric, y_true, sparse.csr_array(dense), k=k) == expected


def test_precision_unknown_labels_only_is_0():
    # Column -1 of row 1 must not be taken for the last column of row 0.
    y_true = [["b"], ["a"]]
    y_score = TopK(np.array([["new"], ["new"]]), None)
    assert precision_at_k(y_true, y_score, k=1) == 0


def test_metrics_unknown_true_labels_count_as_missed():
    y_true = [["a", "x", "y"], ["z"]]
    y_score = np.array([[2.0, 1.0], [2.0, 1.0]])
    options = {"k": 2, "classes": ["a", "b"]}
    assert precision_at_k(y_true, y_score, **options) == pytest.approx(1 / 4)
    assert recall_at_k(y_true, y_score, **options) == pytest.approx((1 / 3 + 0) / 2)
    assert ndcg_at_k(y_true, y_score, **options) == pytest.approx(1 / (1 + 1 / LOG3) / 2)
    # Unknown labels weigh as much as the rarest known one, 4, and lead the best ranking.
    p = [0.5, 0.25]
    assert psp_at_k(y_true, y_score, propensities=p, **options) == pytest.approx(2 / (4 + 4 + 4))
    ideal = 1 + 1 / LOG3
    expected = (2 / ideal) / ((4 + 4 / LOG3) / ideal + 4)
    assert psndcg_at_k(y_true, y_score, propensities=p, **options) == pytest.approx(expected)


@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_metrics_no_true_labels_are_0(metric):
    assert evaluate(metric, sparse.csr_array((2, 4)), np.ones((2, 4)), k=2) == 0


@pytest.mark.parametrize("n_labels", [1, 2])
@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_metrics_one_or_two_labels_are_computed(metric, n_labels):
    y = sparse.csr_array(np.eye(3, n_labels))
    p = np.full(n_labels, 0.5)
    value = evaluate(metric, y, y * 0.5, k=1, propensities=p)
    assert value == pytest.approx(1 if metric in SCORED else n_labels / 3)


def test_psp_inputs_stay_unmodified():
    y_true, y_score = Y_TRUE.copy(), sparse.csr_array(Y_SCORE)
    psp_at_k(y_true, y_score, propensities=PROPENSITIES, k=2)
    np.testing.assert_array_equal(y_true.toarray(), Y_TRUE.toarray())
    np.testing.assert_array_equal(y_score.toarray(), Y_SCORE)


def test_precision_10_million_labels_needs_no_dense_matrix():
    n_labels = 10**7
    y = sparse.csr_array((np.ones(2), ([0, 999], [n_labels - 1, 3])), shape=(1_000, n_labels))
    assert precision_at_k(y, y * 0.5, k=1) == pytest.approx(2 / 1_000)


def test_metrics_public_names_are_all_exported():
    public = {
        name for name in vars(metrics) if name.endswith(("_at_k", "_scorer", "_propensities"))
    }
    assert public - {"AtKScorer"} == set(metrics.__all__)


# ---------------------------------------------------------------- names of columns


LABELS = [f"label {i}" for i in range(np.shape(Y_SCORE)[1])]
PERMUTED = np.random.default_rng(0).permutation(len(LABELS))


def named(values, order=None):
    """A frame whose columns are named, in another order."""
    dense = values.toarray() if sparse.issparse(values) else values
    frame = pd.DataFrame(dense, columns=LABELS)
    return frame.iloc[:, PERMUTED if order is None else order]


@pytest.mark.parametrize("metric", BY_HAND)
def test_metrics_frame_of_scores_goes_by_name(metric):
    classes = np.array(LABELS, dtype=object)
    for y_true in (named(Y_TRUE, PERMUTED[::-1]), Y_TRUE):
        value = evaluate(metric, y_true, named(Y_SCORE), k=2, classes=classes)
        assert value == pytest.approx(BY_HAND[metric], abs=1e-12)


def test_precision_two_frames_need_no_classes():
    value = precision_at_k(named(Y_TRUE, PERMUTED[::-1]), named(Y_SCORE), k=2)
    assert value == pytest.approx(BY_HAND[precision_at_k], abs=1e-12)


def test_precision_frame_of_other_columns_is_refused():
    with pytest.raises(ValueError, match=r"the header of y_score holds 'label 0', which is not a"):
        precision_at_k(Y_TRUE, named(Y_SCORE, range(len(LABELS))), classes=range(len(LABELS)))


def test_precision_frame_with_a_column_called_labels_is_a_frame():
    names = ["labels", "scores", *LABELS[2:]]
    value = precision_at_k(Y_TRUE, pd.DataFrame(np.asarray(Y_SCORE), columns=names), k=2)
    assert value == pytest.approx(BY_HAND[precision_at_k], abs=1e-12)


def test_psp_series_of_propensities_goes_by_label():
    classes = np.array(LABELS, dtype=object)
    series = pd.Series(PROPENSITIES, index=LABELS).iloc[PERMUTED]
    value = psp_at_k(Y_TRUE, Y_SCORE, k=2, propensities=series, classes=classes)
    assert value == psp_at_k(Y_TRUE, Y_SCORE, k=2, propensities=PROPENSITIES)
