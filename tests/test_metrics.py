"""Metrics by hand, against a reference in plain Python, against napkinXC, and within sklearn."""

import math
import pickle
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxmc import metrics
from skxmc._validation import check_labels, check_texts
from skxmc.metrics import (
    label_propensities,
    make_at_k_scorer,
    ndcg_at_k,
    precision_at_k,
    precision_at_k_scorer,
    psndcg_at_k,
    psp_at_k,
    recall_at_k,
)

TopK = namedtuple("TopK", ["labels", "scores"])
PLAIN = [precision_at_k, recall_at_k, ndcg_at_k]
SCORED = [psp_at_k, psndcg_at_k]
LOG3 = math.log2(3)

# Ranked 0 1 2 3, 3 2 1 0 and 1 0 2 3; hits at k=2 are 1, 2 and 0.
Y_TRUE = sparse.csr_array([[1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
Y_SCORE = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4], [0.3, 0.5, 0.3, 0.1]])
PROPENSITIES = np.array([1, 0.5, 0.5, 0.25])  # gains 1, 2, 2, 4
BY_HAND = {
    precision_at_k: (1 / 2 + 2 / 2 + 0) / 3,
    recall_at_k: (1 / 3 + 2 / 2 + 0) / 3,
    ndcg_at_k: (1 / (1 + 1 / LOG3) + 1 + 0) / 3,
    psp_at_k: (1 + (4 + 2)) / ((4 + 2) + (4 + 2)),
    psndcg_at_k: (1 + (4 + 2 / LOG3)) / (2 * (4 + 2 / LOG3)),
}


def evaluate(metric, y_true, y_score, *, propensities=PROPENSITIES, **options):
    if metric in SCORED:
        options["propensities"] = propensities
    return metric(y_true, y_score, **options)


@pytest.mark.parametrize("metric", BY_HAND)
def test_values_computed_by_hand(metric):
    value = evaluate(metric, Y_TRUE, Y_SCORE, k=2)
    assert type(value) is float
    assert value == pytest.approx(BY_HAND[metric], abs=1e-12)


def test_k_above_the_number_of_true_labels():
    # P@k still divides by k; the ideal ranking of nDCG ends with the true labels.
    y_true, y_score = [[1]], np.array([[0.1, 0.9, 0.5]])
    assert precision_at_k(y_true, y_score, k=3, classes=range(3)) == pytest.approx(1 / 3)
    assert recall_at_k(y_true, y_score, k=3, classes=range(3)) == 1
    assert ndcg_at_k(y_true, y_score, k=3, classes=range(3)) == 1


def test_discount_follows_the_rank():
    y_score = np.array([[4, 3, 2, 1]])
    for rank in range(4):
        y_true = sparse.csr_array(([1], ([0], [rank])), shape=(1, 4))
        assert ndcg_at_k(y_true, y_score, k=4) == pytest.approx(1 / math.log2(rank + 2))


# Against a reference


def reference(metric, true, ranked, k, gain):
    """`metric` from the sets of true labels and the ranked labels, with plain loops."""
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
def test_agrees_with_the_reference(metric, seed):
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
def test_agrees_with_napkinxc(seed, k):
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
def test_every_form_of_y_true_gives_the_same(metric):
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
def test_named_tuple_with_column_numbers(metric):
    y_score = TopK(np.argsort(-Y_SCORE, axis=1, kind="stable"), None)
    assert evaluate(metric, Y_TRUE, y_score, k=2) == pytest.approx(BY_HAND[metric])


@pytest.mark.parametrize("metric", PLAIN)
def test_named_tuple_with_named_labels_needs_no_classes(metric):
    # "new" is predicted and never true; it is wrong twice, which is not a repetition.
    y_score = TopK(np.array([["tax", "law", "new"], ["sea", "art", "law"], ["law", "new", "x"]]), 0)
    y_true = [["tax", "art", "sea"], ["art", "sea"], []]
    assert metric(y_true, y_score, k=2) == pytest.approx(BY_HAND[metric])
    frame = pd.DataFrame({"tax": [1, 0, 0], "art": [1, 1, 0], "sea": [1, 1, 0]})
    assert metric(frame, y_score, k=2) == pytest.approx(BY_HAND[metric])


@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_absent_scores_rank_last_and_by_column(metric):
    dense = np.array([[0, 0.5, 0, 0.2], [0, 0, 0, 0]])
    y_true = sparse.csr_array([[1, 1, 0, 0], [0, 1, 0, 0]])
    for k in (1, 2, 3, 4):
        expected = evaluate(metric, y_true, dense, k=k)
        assert evaluate(metric, y_true, sparse.csr_array(dense), k=k) == expected


def test_last_column_of_one_row_is_not_the_minus_first_of_the_next():
    y_true = [["b"], ["a"]]
    y_score = TopK(np.array([["new"], ["new"]]), None)
    assert precision_at_k(y_true, y_score, k=1) == 0


def test_unknown_true_labels_count_as_missed():
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
def test_no_true_label_at_all(metric):
    assert evaluate(metric, sparse.csr_array((2, 4)), np.ones((2, 4)), k=2) == 0


@pytest.mark.parametrize("n_labels", [1, 2])
@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_one_and_two_labels(metric, n_labels):
    y = sparse.csr_array(np.eye(3, n_labels))
    p = np.full(n_labels, 0.5)
    value = evaluate(metric, y, y * 0.5, k=1, propensities=p)
    assert value == pytest.approx(1 if metric in SCORED else n_labels / 3)


def test_inputs_are_not_modified():
    y_true, y_score = Y_TRUE.copy(), sparse.csr_array(Y_SCORE)
    psp_at_k(y_true, y_score, propensities=PROPENSITIES, k=2)
    np.testing.assert_array_equal(y_true.toarray(), Y_TRUE.toarray())
    np.testing.assert_array_equal(y_score.toarray(), Y_SCORE)


def test_many_labels_take_no_dense_memory():
    n_labels = 10**7
    y = sparse.csr_array((np.ones(2), ([0, 999], [n_labels - 1, 3])), shape=(1_000, n_labels))
    assert precision_at_k(y, y * 0.5, k=1) == pytest.approx(2 / 1_000)


# Errors


@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_k_must_be_a_positive_integer_within_the_labels(metric):
    for k in (True, 2.0, "2", None, np.bool_(True)):
        with pytest.raises(TypeError, match=r"^k must be an integer, got "):
            evaluate(metric, Y_TRUE, Y_SCORE, k=k)
    for k in (0, -1):
        with pytest.raises(ValueError, match=rf"^k must be at least 1, got {k}"):
            evaluate(metric, Y_TRUE, Y_SCORE, k=k)
    with pytest.raises(ValueError, match=r"^k is 5, but there are only 4 labels"):
        evaluate(metric, Y_TRUE, Y_SCORE)
    assert evaluate(metric, Y_TRUE, Y_SCORE, k=np.int64(4)) > 0


@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_classes_are_needed_where_labels_have_names(metric):
    for y_true in ([["a"]], [[0]], pd.DataFrame({"a": [1]})):
        with pytest.raises(ValueError, match=r"^y_true names its labels, .*Pass classes=estimator"):
            evaluate(metric, y_true, np.eye(1), k=1, propensities=[1])


@pytest.mark.parametrize("metric", SCORED)
def test_propensities_need_classes_also_with_the_named_tuple(metric):
    with pytest.raises(ValueError, match=r"^y_true names its labels, but which propensities"):
        metric([["a"]], TopK(np.array([["a"]]), None), propensities=[1], k=1)


def test_numbers_of_rows_must_agree():
    for y_score in (Y_SCORE[:2], sparse.csr_array(Y_SCORE[:2]), TopK(np.zeros((2, 1), int), None)):
        with pytest.raises(ValueError, match=r"^y_true has 3 rows, but y_score has 2\."):
            precision_at_k(Y_TRUE, y_score, k=1)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([[0, 1]], ValueError, r"^k is 3, but y_score has 2 labels a text\. Call predict_topk"),
        ([0, 1, 2], ValueError, r"^y_score.labels must be of shape \(n, k\), got \(3,\)"),
        ([[0, 1, 4]], ValueError, r"^y_score.labels holds .*4.* in row 0, which is not among the"),
        ([[0, 1, -1]], ValueError, r"^position 2 of y_score.labels holds the label -1; integer"),
        ([[0, 1, 0]], ValueError, r"^y_score.labels holds a label twice in row 0"),
        ([["a", "b", "c"]], ValueError, r"^y_score.labels has labels of type str, .* of type int"),
        ([[0.0, 1.0, 2.0]], TypeError, r"^position 0 of y_score.labels holds 0.0 of type float"),
    ],
)
def test_labels_of_the_named_tuple_must_fit(labels, error, message):
    with pytest.raises(error, match=message):
        precision_at_k(sparse.csr_array([[1, 0, 0, 1]]), TopK(np.array(labels), None), k=3)


def test_predicted_label_outside_the_classes():
    with pytest.raises(ValueError, match=r"^y_score.labels holds .*'x'.* in row 1, which is not"):
        precision_at_k([["a"], []], TopK(np.array([["a"], ["x"]]), None), k=1, classes=["a", "b"])


def test_faults_of_y_true_and_y_score_are_named():
    with pytest.raises(ValueError, match=r"^y_true holds 2.0 at row 0, column 0"):
        precision_at_k(np.array([[2, 0]]), np.eye(2)[:1], k=1)
    with pytest.raises(ValueError, match=r"^y_score holds NaN"):
        precision_at_k(Y_TRUE, np.full((3, 4), np.nan), k=1)
    with pytest.raises(ValueError, match=r"^y_true has 4 columns, but there are 3 classes"):
        precision_at_k(Y_TRUE, Y_SCORE, k=1, classes=["a", "b", "c"])
    with pytest.raises(TypeError, match=r"^y_score must be a matrix .* got tuple"):
        precision_at_k(Y_TRUE, (Y_SCORE, Y_SCORE), k=1)


@pytest.mark.parametrize(
    ("propensities", "message"),
    [
        ([1, 1, 1], r"^propensities must hold one value for each of 4 labels, got shape \(3,\)"),
        ([[1], [1], [1], [1]], r"^propensities must hold .* got shape \(4, 1\)"),
        ([1, 1, 1, 0], r"^propensities must lie in \(0, 1\]; .* not its inverse"),
        ([1, 1, 1, 4], r"^propensities must lie in \(0, 1\]"),
        ([1, 1, 1, np.nan], r"^propensities must lie in \(0, 1\]"),
    ],
)
def test_propensities_must_fit(propensities, message):
    with pytest.raises(ValueError, match=message):
        psp_at_k(Y_TRUE, Y_SCORE, propensities=propensities, k=1)


# Propensities


@pytest.mark.parametrize(("a", "b"), [(0.55, 1.5), (0.5, 0.4), (0.6, 2.6)])
def test_propensities_follow_the_formula(a, b):
    n, counts = 100, [100, 10, 1, 0]
    y_train = np.array([[i < count for count in counts] for i in range(n)])
    c = (math.log(n) - 1) * (b + 1) ** a
    expected = [1 / (1 + c * math.exp(-a * math.log(count + b))) for count in counts]
    np.testing.assert_allclose(label_propensities(y_train, a=a, b=b), expected, rtol=1e-12)


def test_propensities_by_hand():
    # C = (log 8 - 1) * 2 and N_l + b = 2, so p = 1 / (1 + (log 8 - 1)).
    y_train = np.array([[1]] + [[0]] * 7)
    assert label_propensities(y_train, a=1, b=1) == pytest.approx([1 / math.log(8)])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 1000])
def test_propensities_lie_in_the_unit_interval(n):
    p = label_propensities(np.eye(n, 3, dtype=int))
    assert p.dtype == np.float64
    assert p.shape == (3,)
    assert ((p > 0) & (p <= 1)).all()
    if n <= 2:
        assert (p == 1).all()


def test_propensities_of_collections_follow_sorted_labels():
    p = label_propensities([["b"], ["b"], ["b"], ["a", "b"]])
    assert p[0] < p[1]


@pytest.mark.parametrize(("a", "b"), [(-1, 1), (0.5, 0), (np.nan, 1), (np.inf, 1), (1, np.inf)])
def test_parameters_of_propensities(a, b):
    with pytest.raises(
        ValueError, match=r"^a must be at least 0 and b above 0, both finite; got a="
    ):
        label_propensities(np.eye(3), a=a, b=b)


def test_faults_of_y_train_are_named():
    with pytest.raises(ValueError, match=r"^row 0 of y_train is 'a', not a collection"):
        label_propensities(["a"])


# Scorers


class WordVotes(ClassifierMixin, BaseEstimator):
    """A label's score is how often it came with the words of the text, to a power."""

    def __init__(self, power=1.0):
        self.power = power

    def fit(self, X, y):
        labels = check_labels(y, n_texts=len(X))
        self.vectorizer_ = CountVectorizer(token_pattern=r"\w+")
        self.votes_ = self.vectorizer_.fit_transform(check_texts(X)).T @ labels.matrix
        self.classes_ = labels.classes
        return self

    def decision_function(self, X):
        scores = sparse.csr_array(self.vectorizer_.transform(check_texts(X)) @ self.votes_)
        scores.data = np.abs(scores.data) ** self.power
        return scores if self.power >= 0 else sparse.csr_array(scores.shape)


class WordVotesTopK(WordVotes):
    """Takes top_k, as LightXMLClassifier does, and keeps what it was asked for."""

    def decision_function(self, X, *, top_k=None):
        self.asked_ = top_k
        return super().decision_function(X)


NAMES = np.array(["art", "law", "sea", "tax"])
COLLECTIONS = [[NAMES[i % 4], NAMES[(i + 1) % 4]] if i % 5 else [NAMES[i % 4]] for i in range(24)]
TEXTS = [" ".join(f"about_{label}" for label in labels) for labels in COLLECTIONS]
Y = check_labels(COLLECTIONS).matrix


def test_scorer_is_the_metric_of_the_decision_function():
    model = WordVotes().fit(TEXTS, COLLECTIONS)
    scorer = precision_at_k_scorer(k=2)
    scores = model.decision_function(TEXTS)
    value = scorer(model, TEXTS, COLLECTIONS)
    assert value == precision_at_k(COLLECTIONS, scores, k=2, classes=model.classes_) > 0.5
    assert scorer(model, TEXTS, Y) == value
    with pytest.raises(ValueError, match=r"^k is 5, but there are only 4 labels"):
        precision_at_k_scorer()(model, TEXTS, Y)


@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_scorers_of_all_metrics(metric):
    model = WordVotes().fit(TEXTS, COLLECTIONS)
    p = label_propensities(COLLECTIONS)
    options = {"propensities": p} if metric in SCORED else {}
    value = make_at_k_scorer(metric, k=2, **options)(model, TEXTS, COLLECTIONS)
    assert value == evaluate(metric, Y, model.decision_function(TEXTS), k=2, propensities=p)


def test_scorer_bounds_memory_where_it_can():
    model = WordVotesTopK().fit(TEXTS, COLLECTIONS)
    expected = precision_at_k_scorer(k=2)(WordVotes().fit(TEXTS, COLLECTIONS), TEXTS, Y)
    assert precision_at_k_scorer(k=2)(model, TEXTS, Y) == expected
    assert model.asked_ == 2


def test_scorer_through_pipeline_and_search():
    scorer = precision_at_k_scorer(k=2)
    pipeline = make_pipeline(FunctionTransformer(check_texts), WordVotesTopK())
    search = GridSearchCV(pipeline, {"wordvotestopk__power": [1]}, scoring=scorer, cv=KFold(2))
    search.fit(TEXTS, COLLECTIONS)
    expected = scorer(WordVotes().fit(TEXTS, COLLECTIONS), TEXTS, COLLECTIONS)
    assert scorer(search, TEXTS, COLLECTIONS) == expected
    assert scorer(search.best_estimator_, TEXTS, COLLECTIONS) == expected
    assert search.score(TEXTS, COLLECTIONS) == expected


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("y", [Y, sparse.csr_matrix(Y), Y.astype(bool)])
def test_grid_search_with_sparse_labels(y, routing):
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            WordVotes(), {"power": [-1, 1]}, scoring=precision_at_k_scorer(k=1), cv=3
        ).fit(TEXTS, y)
    assert search.best_params_ == {"power": 1}
    assert search.best_score_ > search.cv_results_["mean_test_score"].min()
    assert "precision_at_k, k=1" in repr(search)
    assert clone(search).scoring.k == 1


def test_cross_validation_with_collections():
    scorer = precision_at_k_scorer(k=1)
    folds = KFold(4, shuffle=True, random_state=0)
    values = cross_val_score(WordVotes(), TEXTS, COLLECTIONS, scoring=scorer, cv=folds)
    expected = []
    for train, test in folds.split(TEXTS):
        model = WordVotes().fit([TEXTS[i] for i in train], [COLLECTIONS[i] for i in train])
        expected.append(scorer(model, [TEXTS[i] for i in test], [COLLECTIONS[i] for i in test]))
    assert values.tolist() == expected
    scoring = {"p1": scorer, "r2": make_at_k_scorer(recall_at_k, k=2)}
    results = cross_validate(WordVotes(), TEXTS, COLLECTIONS, scoring=scoring, cv=folds)
    assert results["test_p1"].tolist() == expected
    assert results["test_r2"].shape == (4,)


def test_label_that_occurs_in_no_training_fold_counts_as_missed():
    model = WordVotes().fit(["a b", "b"], [["x"], ["y"]])
    assert make_at_k_scorer(recall_at_k, k=1)(model, ["a"], [["x", "new"]]) == 0.5


@pytest.mark.parametrize("n_labels", [1, 2, 3])
def test_scorer_with_few_labels(n_labels):
    # Two labels are a binary problem to sklearn's own scorers, one is an error. (One column of
    # sparse labels also fails with cv=2, which sklearn turns into a StratifiedKFold.)
    y = sparse.csr_array([[int(i % n_labels == j) for j in range(n_labels)] for i in range(12)])
    texts = [f"w{i % n_labels}" for i in range(12)]
    search = GridSearchCV(
        WordVotes(), {"power": [1]}, scoring=precision_at_k_scorer(k=1), cv=KFold(2)
    )
    assert search.fit(texts, y).best_score_ == 1


def test_scorer_with_an_estimator_of_sklearn():
    pipeline = make_pipeline(CountVectorizer(), OneVsRestClassifier(LogisticRegression()))
    pipeline.fit(TEXTS, Y.toarray().astype(int))
    assert precision_at_k_scorer(k=1)(pipeline, TEXTS, Y) == 1


def test_scorer_pickles_and_shows_how_it_was_made():
    scorer = make_at_k_scorer(psp_at_k, k=np.int64(3), propensities=np.ones(4))
    assert repr(scorer) == "make_at_k_scorer(psp_at_k, k=3, propensities=...)"
    model = WordVotes().fit(TEXTS, COLLECTIONS)
    copy = pickle.loads(pickle.dumps(scorer))
    assert repr(copy) == repr(scorer)
    assert copy(model, TEXTS, Y) == scorer(model, TEXTS, Y)
    assert repr(precision_at_k_scorer()) == "make_at_k_scorer(precision_at_k, k=5)"


def test_scorer_of_a_metric_without_a_name():
    class Metric:
        def __call__(self, y_true, y_score, *, k, classes):
            return 7.0

        def __repr__(self):
            return "Metric()"

    scorer = make_at_k_scorer(Metric(), k=1)
    assert repr(scorer) == "make_at_k_scorer(Metric(), k=1)"
    assert scorer(WordVotes().fit(TEXTS, Y), TEXTS, Y) == 7


def test_scorers_check_k_at_once():
    with pytest.raises(TypeError, match=r"^k must be an integer, got 1.0 of type float"):
        precision_at_k_scorer(k=1.0)
    with pytest.raises(ValueError, match=r"^k must be at least 1, got 0"):
        make_at_k_scorer(ndcg_at_k, k=0)


def test_public_names():
    public = {
        name for name in vars(metrics) if name.endswith(("_at_k", "_scorer", "_propensities"))
    }
    assert public - {"AtKScorer"} == set(metrics.__all__)
