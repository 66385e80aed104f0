"""HierarchicalClassifier: ancestors in training, consistent scores in prediction."""

import pickle

import numpy as np
import pandas as pd
import pytest
from classifier_fixtures import assert_same_predictions
from ensemble_members import Fixed, Proba
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxmc import (
    HierarchicalClassifier,
    OmikujiClassifier,
    TunedThresholdClassifier,
    from_pretrained,
    predict_topk,
)
from skxmc._hierarchical_classifier import TIE_SHARE, consistent
from skxmc.metrics import precision_at_k_scorer

# Two trees: 0 above 1 and 2, 1 above 3, and 4 above 5.
PARENTS = {1: 0, 2: [0], 3: 1, 5: 4}
ABOVE = np.zeros((6, 6), dtype=np.float32)
ABOVE[[1, 2, 3, 3, 5], [0, 0, 0, 1, 4]] = 1
SCORES = [
    [0.2, 0.4, 0.0, 0.8, 0.5, 0.1],  # 3 without its parents' agreement
    [0.9, 0.6, 0.3, 0.2, 0.0, 0.7],  # 4 is no candidate
]
TEXTS = ["0", "1"]
Y = np.eye(2, 6, k=3)


def hierarchical(scores=SCORES, parents=PARENTS, **params):
    return HierarchicalClassifier(Proba(scores), label_parents=parents, **params).fit(TEXTS, Y)


def reference(scores):
    """Apply the definition to one label after the other."""
    high, low = np.array(scores), np.array(scores)
    for row in range(len(scores)):
        for label in range(6):
            below = [label, *np.flatnonzero(ABOVE[:, label])]
            high[row, label] = max(scores[row][other] for other in below)
    own = np.where(np.array(scores) > 0, scores, high)
    for label in range(6):
        low[:, label] = own[:, [label, *np.flatnonzero(ABOVE[label])]].min(axis=1)
    return (high + low) / 2 * (1 - TIE_SHARE * ABOVE.sum(axis=1))


def test_decision_function_is_mean_of_both_consistent_scores():
    found = hierarchical().decision_function(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), reference(SCORES), rtol=1e-6)
    np.testing.assert_allclose(found.toarray()[0, [0, 1, 3]], [0.5, 0.5, 0.5], rtol=1e-5)


def test_consistent_random_forests_no_label_scores_as_high_as_its_ancestors():
    rng = np.random.default_rng(0)
    n_labels = 40
    parents = np.tril(rng.random((n_labels, n_labels)) < 0.08, -1)  # several parents each
    clf = HierarchicalClassifier(Proba(rng.random((9, n_labels))), label_parents=parents)
    above = clf.fit(["0"], np.eye(1, n_labels)).ancestors_
    scores = sparse.random(200, n_labels, density=0.2, format="csr", rng=rng, dtype=np.float32)
    found = consistent(sparse.csr_matrix(scores), above).toarray()
    label, ancestor = above.nonzero()
    has_score = found[:, label] > 0
    assert has_score.sum() > 1000
    assert (found[:, ancestor] > found[:, label])[has_score].all()
    assert (found[scores.toarray() > 0] > 0).all()


def test_predict_topk_equal_scores_broader_label_is_first():
    scores = [[0.0, 0.0, 0.0, 0.8, 0.0, 0.0]] * 2
    assert hierarchical(scores).predict_topk(TEXTS, 3).labels.tolist() == [[0, 1, 3]] * 2


@pytest.mark.parametrize("names", [("X_val", "y_val"), ("validation_data",)])
def test_fit_adds_ancestors_to_texts_and_held_out_texts(names):
    seen = {}

    class Watched(Fixed):
        def fit(self, X, y, **params):
            seen.update(y=y, **params)
            return super().fit(X, y, **params)

    clf = HierarchicalClassifier(Watched(SCORES), label_parents=PARENTS)
    pair = ["v"], [[5]]
    clf.fit(TEXTS, Y, **dict(zip(names, pair if len(names) > 1 else [pair], strict=True)))
    assert seen["y"].toarray().tolist() == [[1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]
    assert set(seen) == {"y", *names}
    texts, y_val = seen["validation_data"] if len(names) == 1 else map(seen.get, names)
    assert texts == ["v"]
    assert y_val.toarray().tolist() == [[0, 0, 0, 0, 1, 1]]
    np.testing.assert_array_equal(clf.ancestors_.toarray(), ABOVE)


def test_fit_label_collections_ancestors_become_labels():
    clf = HierarchicalClassifier(
        OmikujiClassifier(), label_parents={"cats": "pets", "pets": "animals", "owls": "birds"}
    ).fit(["a cat", "a bond", "cats"], [["cats"], ["bonds"], ["cats"]])
    assert clf.classes_.tolist() == ["bonds", "cats", "pets", "animals"]
    assert clf.predict_topk(["cat"], 3).labels.tolist() == [["animals", "pets", "cats"]]


def test_fit_matrix_parents_without_a_column_pass_on_their_own():
    parents = {"a": "missing", "missing": "b"}
    clf = HierarchicalClassifier(OmikujiClassifier(), label_parents=parents)
    clf.fit(["one", "two"], np.eye(2), label_names=["a", "b"])
    assert clf.classes_.tolist() == ["a", "b"]
    assert clf.ancestors_.toarray().tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array, sparse.coo_matrix])
def test_fit_matrix_of_parents_is_the_same_as_names(convert):
    matrix = np.zeros((6, 6), dtype=int)
    matrix[[1, 2, 3, 5], [0, 0, 1, 4]] = 1
    assert_same_predictions(hierarchical(parents=convert(matrix)), hierarchical(), TEXTS)


def test_predict_most_specific_is_broader_only_when_unsure():
    clf = hierarchical(threshold=0.45)
    assert clf.predict(TEXTS).toarray().tolist() == [[1, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1, 1]]
    clf.set_params(most_specific=True)
    assert clf.predict(TEXTS).toarray().tolist() == [[0, 0, 0, 1, 1, 0], [0, 1, 0, 0, 0, 1]]
    clf.set_params(threshold=0.65)  # too high for 1, so that the broader label 0 is returned
    assert clf.predict(TEXTS).toarray().tolist() == [[0] * 6, [1, 0, 0, 0, 0, 1]]


def test_predict_topk_exclude_and_allow():
    clf = hierarchical()
    assert 0 not in clf.predict_topk(TEXTS, 5, exclude=[0]).labels
    assert clf.predict_topk(TEXTS, 2, allow=[4, 5]).labels.tolist() == [[4, 5], [4, 5]]


def test_search_over_pipeline_with_tuned_thresholds():
    texts = ["a cat", "a bond", "cats", "bonds fell"] * 5
    names = ["animals", "bonds", "cats", "finance"]
    y = np.array([[0, 0, 1, 0], [0, 1, 0, 0]] * 10)  # no text has the broader labels
    clf = HierarchicalClassifier(OmikujiClassifier(), label_parents={2: 0, 1: [3]})
    piped = make_pipeline(FunctionTransformer(), TunedThresholdClassifier(clf, random_state=0))
    grid = {"tunedthresholdclassifier__estimator__estimator__n_trees": [1, 2]}
    search = GridSearchCV(
        piped, grid, scoring=precision_at_k_scorer(k=1), error_score="raise", cv=2
    ).fit(texts, y)
    found = predict_topk(search, ["cat", "bonds"], 2).labels
    assert [[names[label] for label in row] for row in found] == [
        ["animals", "cats"],
        ["finance", "bonds"],
    ]


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), pd.NA], ids=str)
def test_fit_missing_parent_is_no_parent(missing):
    clf = HierarchicalClassifier(OmikujiClassifier(), label_parents={1: missing, 2: 0})
    clf.fit(["a cat", "a bond", "an animal"], [[0], [1], [2]])
    assert clf.ancestors_.toarray().tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_predict_estimator_that_numbers_labels_predicts_names():
    parents = {"b": "a", "c": "a", "d": "b", "f": "e"}
    clf = HierarchicalClassifier(Proba(SCORES), label_parents=parents)
    clf.fit(TEXTS, Y, label_names=list("abcdef"))
    found, expected = clf.predict_topk(TEXTS, 3), hierarchical().predict_topk(TEXTS, 3)
    assert found.labels.tolist() == np.array(list("abcdef"))[expected.labels].tolist()
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("parents", [{2: 0}, {2: [0, 1]}, sparse.coo_array(np.eye(3, k=-1))])
def test_pickles_and_folders_predict_the_same(tmp_path, parents):
    texts, tags = ["a cat", "a bond", "an animal"], [[0], [1], [2]]
    clf = HierarchicalClassifier(OmikujiClassifier(), label_parents=parents).fit(texts, tags)
    assert_same_predictions(pickle.loads(pickle.dumps(clf)), clf, texts)
    clf.save_pretrained(tmp_path / "model")
    loaded = from_pretrained(tmp_path / "model")
    assert_same_predictions(loaded, clf, texts)
    assert (loaded.fit(texts, tags).ancestors_ != clf.ancestors_).nnz == 0


@pytest.mark.parametrize(
    ("parents", "error", "message"),
    [
        ({1: 0, 0: 1}, ValueError, "makes 0 an ancestor of itself. Leave one of the parents"),
        ({1: 1}, ValueError, "makes 1 an ancestor of itself"),
        ({1: 2.5}, TypeError, r"has 2\.5 of type float for the label 1. Pass a label, a list"),
        ({"one": "two"}, ValueError, "label_parents has labels of type str, such as 'one'"),
        (np.zeros((5, 6)), ValueError, r"has shape \(5, 6\), but there are 6 labels. Pass a row"),
        ([1, 2], TypeError, r"label_parents is \[1, 2\]. Pass a dict from labels to their parents"),
        (np.full((6, 6), "a"), TypeError, r"label_parents is .* Pass a dict from labels to their"),
        ({9: 7}, ValueError, "has a parent for 9, but no label of y has one. Map labels of y to"),
        (3, ValueError, "label_parents"),
    ],
    ids=str,
)
def test_fit_bad_label_parents_is_an_error(parents, error, message):
    with pytest.raises(error, match=message):
        hierarchical(parents=parents)


def test_fit_frozen_estimator_with_other_labels_is_an_error():
    frozen = FrozenEstimator(Fixed(SCORES, classes=range(1, 7)).fit(TEXTS, Y))
    with pytest.raises(ValueError, match="has other labels than y and those above them"):
        HierarchicalClassifier(frozen, label_parents=PARENTS).fit(TEXTS, Y)
