"""OmikujiClassifier: unusual input must never abort the interpreter."""

import copy
import pickle
import sys

import numpy as np
import pytest
from omikuji_examples import X, Y, assert_same
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer

from skxmc import OmikujiClassifier

omikuji = pytest.importorskip("omikuji")


@pytest.fixture(scope="module")
def clf():
    """Fit a model several layers deep. It is shared: copy it before changing it."""
    return OmikujiClassifier(min_branch_size=4, beam_size=2).fit(X, Y)


@pytest.mark.parametrize(
    ("texts", "y"),
    [
        (["a text"], [["x"]]),
        (["a text"], [["x", "y"]]),
        (["one two", "three four"], [["x"], ["y"]]),
        (["", ""], [["x"], ["y"]]),
        (["?!", "-"], [["x"], ["y"]]),
        (["", "a text", " "], [["x"], ["y"], ["z"]]),
        (["a text", "a text", "other"], [[], ["y"], []]),
        (["same text"] * 30, [[f"l{i}"] for i in range(30)]),
        (["naïve 日本語 🎉", "\x00\ud800 bell\x07"], [["x"], ["y"]]),
    ],
    ids=["L1", "L2 n1", "L2", "empty", "marks", "some empty", "unlabeled", "same", "unicode"],
)
@pytest.mark.parametrize("min_branch_size", [2, 100])
def test_fit_odd_data_trains_and_ranks_all_labels(texts, y, min_branch_size):
    clf = OmikujiClassifier(min_branch_size=min_branch_size).fit(texts, y)
    n = clf.n_labels_
    labels, scores = clf.predict_topk([*texts, "", "unheard-of"], n)
    assert all(sorted(row) == clf.classes_.tolist() for row in labels.tolist())
    assert (scores > 0).all()
    assert np.isfinite(scores).all()
    assert_same(pickle.loads(pickle.dumps(clf)), clf, texts)


class Factor(BaseEstimator):
    """Vectorizer that counts a and b, stores zeros, and multiplies by a factor."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit_transform(self, texts):
        return self.transform(texts)

    def transform(self, texts):
        counts = np.array([text.count(letter) for text in texts for letter in "ab"])
        columns, starts = np.tile([0, 1], len(texts)), np.arange(0, 2 * len(texts) + 1, 2)
        return sparse.csr_array((counts * self.factor, columns, starts), shape=(len(texts), 2))


@pytest.mark.parametrize("factor", [-1.0, 0.0, 1e-40, 1e38])
def test_fit_and_predict_extreme_features_give_valid_scores(factor):
    texts = ["a b", "b b a", ""]
    clf = OmikujiClassifier(vectorizer=Factor(), min_branch_size=2)
    clf.fit(texts, [["x"], ["y"], ["y", "z"]])
    expected = clf.decision_function(texts[-1:] * 3 if factor == 0 else texts).toarray()
    clf.vectorizer_.factor = factor
    scores = clf.decision_function(texts).toarray()
    if factor != -1:
        np.testing.assert_allclose(scores, expected, rtol=1e-3)
        assert (scores < 1).all()  # they would be 1 if omikuji divided by a length of 0
    clf.set_params(vectorizer__factor=factor).fit(texts, [["x"], ["y"], ["y", "z"]])
    scores = clf.predict_topk(texts, 3).scores
    assert ((scores > 0) & (scores <= 1)).all()


def test_features_with_duplicate_entries_are_summed():
    class InParts(Factor):
        def transform(self, texts):
            features = super().transform(texts)
            data, columns = (np.repeat(a, 2) for a in (features.data / 2, features.indices))
            return sparse.csr_array((data, columns, 2 * features.indptr), shape=features.shape)

    texts, y = ["a b", "b b a", ""], [["x"], ["y"], ["y", "z"]]
    whole, parts = (
        OmikujiClassifier(vectorizer=vectorizer, min_branch_size=2, n_trees=1).fit(texts, y)
        for vectorizer in (Factor(), InParts())
    )
    parts.model_ = whole.model_
    np.testing.assert_array_equal(
        parts.decision_function(texts).toarray(), whole.decision_function(texts).toarray()
    )


@pytest.mark.parametrize("factor", [np.nan, np.inf])
def test_features_not_finite_are_refused(factor):
    fitted = OmikujiClassifier(vectorizer=Factor()).fit(["a", "b"], [["x"], ["y"]])
    fitted.vectorizer_.factor = factor
    for call in (
        lambda: fitted.predict_topk(["a b"], 1),
        lambda: OmikujiClassifier(vectorizer=Factor(factor)).fit(["a b"], [["x"]]),
    ):
        with pytest.raises(ValueError, match="vectorizer gives features that are NaN or infinite"):
            call()


def test_predict_other_number_of_features_is_refused():
    fitted = OmikujiClassifier(vectorizer=Factor()).fit(["a", "b"], [["x"], ["y"]])
    fitted.vectorizer_ = TfidfVectorizer(token_pattern=r"\w").fit(["a b c"])
    with pytest.raises(ValueError, match=r"^vectorizer makes 3 features now, and made 2 in fit"):
        fitted.predict_topk(["a b"], 1)


@pytest.mark.parametrize(
    ("texts", "y", "error", "message"),
    [
        ("a text", Y[:1], ValueError, r"Iterable over raw text documents expected.*X=\[text\]"),
        (["a", None], Y[:2], ValueError, r"X holds a missing value \(None\) at row 1"),
        ([], Y[:0], ValueError, "X holds no text"),
        (X[:3], Y[:2], ValueError, "y has 2 rows, but there are 3 texts"),
        (X[:2], Y[:2] * 0, ValueError, "y holds no positive label at all"),
        (X[:2], ["a", "b"], ValueError, "row 0 of y is 'a', not a collection of labels"),
    ],
)
def test_fit_bad_texts_and_labels_are_refused(texts, y, error, message):
    clf = OmikujiClassifier()
    with pytest.raises(error, match=message):
        clf.fit(texts, y)
    assert not hasattr(clf, "model_")


def test_fit_failure_leaves_fitted_model_unchanged(clf):
    same = copy.deepcopy(clf)
    with pytest.raises(ValueError, match="y has"):
        same.fit(X[:3], Y[:2])
    assert_same(same, clf)


@pytest.mark.parametrize(
    "params",
    [
        {"n_trees": 0},
        {"C": 0},
        {"loss": "squared"},
        {"min_branch_size": 1},
        {"collapse_every_n_layers": -1},
        {"weight_threshold": -1},
        {"beam_size": 0},
        {"threshold": 1.5},
        {"vectorizer": "tfidf"},
        {"n_jobs": "all"},
        {"verbose": -1},
    ],
    ids=str,
)
def test_fit_bad_parameters_are_refused(params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter of OmikujiClassifier"):
        OmikujiClassifier(**params).fit(X, Y)


@pytest.mark.parametrize("k", [0, -1, 61, True, 2.0, None])
def test_predict_k_out_of_range_is_refused(clf, k):
    with pytest.raises(ValueError, match=r"k is .*(must be a whole number|only 60 labels)"):
        clf.predict_topk(X, k)
    if k is not None:
        with pytest.raises(ValueError, match=r"top_k is .*(must be a whole|only 60 labels)"):
            clf.decision_function(X, top_k=k)


def test_unfitted_methods_raise_not_fitted_error():
    for method in ("predict", "predict_topk", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(OmikujiClassifier(), method)(["a"])


def test_missing_omikuji_raises_import_error_with_remedy(monkeypatch, clf):
    stored = pickle.dumps(clf)
    monkeypatch.setitem(sys.modules, "omikuji", None)
    for call in (lambda: OmikujiClassifier().fit(X, Y), lambda: pickle.loads(stored)):
        with pytest.raises(ImportError, match="pip install omikuji"):
            call()
