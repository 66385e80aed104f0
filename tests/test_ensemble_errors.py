"""LightXMLEnsemble: errors for wrong members, parameters and data."""

import re

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted
from ensemble_members import LABELS, LEFT, PAIR, RIGHT, TEXTS, Fixed, Proba, fit
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skxmc import LightXMLEnsemble, OmikujiClassifier

pytest.importorskip("omikuji")

X, Y = dataset()
SHAPE = (64, 30)


@pytest.fixture(scope="module")
def both():
    """Return a fitted, shared ensemble of language and words. Copy it before changing it."""
    members = [("language", fitted()), ("words", OmikujiClassifier().fit(X, Y))]
    return LightXMLEnsemble.from_fitted(members)


@pytest.mark.parametrize(
    ("estimators", "params", "error", "message"),
    [
        ([], {}, ValueError, "estimators is empty. Pass a list of (name, estimator) pairs"),
        ([LEFT], {}, ValueError, "estimators holds Fixed("),
        ([("a", LEFT, 1)], {}, ValueError, "estimators holds ('a', "),
        ([(1, LEFT)], {}, ValueError, "estimators holds (1, "),
        ((("a", LEFT),), {}, ValueError, "'estimators' parameter of LightXMLEnsemble must be"),
        ([("a", "drop")], {}, ValueError, "All estimators are dropped. Keep at least"),
        ([("a", LEFT), ("a", RIGHT)], {}, ValueError, "Names provided are not unique"),
        ([("a__b", LEFT)], {}, ValueError, "Estimator names must not contain __"),
        ([("weights", LEFT)], {}, ValueError, "Estimator names conflict with constructor"),
        ([("a", Fixed)], {}, TypeError, "the member 'a' is a class. Pass an instance: Fixed()."),
        (
            [("a", LEFT), ("svm", LinearSVC())],
            {},
            TypeError,
            "estimators: the member 'svm', LinearSVC, cannot",
        ),
        ([("a", None)], {}, TypeError, "estimators: the member 'a', NoneType, cannot score labels"),
        (PAIR, {"weights": [1]}, ValueError, "weights is of shape (1,), but there are 2 estim"),
        (PAIR, {"weights": [[1, 2]]}, ValueError, "weights is of shape (1, 2), but there are 2"),
        (PAIR, {"weights": [1, -1]}, ValueError, "weights is [1, -1], but weights must not"),
        (PAIR, {"weights": [1, np.nan]}, ValueError, "Pass finite numbers from 0"),
        (PAIR, {"weights": [0, 0]}, ValueError, "weights is [0, 0], which is 0 for all"),
        ([*PAIR, ("a", "drop")], {"weights": [0, 0, 1]}, ValueError, "0 for all members that are"),
        (PAIR, {"weights": 2}, ValueError, "'weights' parameter of LightXMLEnsemble"),
        (PAIR, {"n_candidates": 0}, ValueError, "'n_candidates' parameter of LightXMLEnsemble"),
        (PAIR, {"threshold": -0.1}, ValueError, "'threshold' parameter of LightXMLEnsemble"),
        (PAIR, {"n_jobs": "all"}, ValueError, "'n_jobs' parameter of LightXMLEnsemble"),
        (PAIR, {"verbose": "yes"}, ValueError, "'verbose' parameter of LightXMLEnsemble"),
    ],
    ids=lambda value: "" if isinstance(value, type | list | tuple | dict) else value[:30],
)
def test_fit_bad_parameter_is_an_error_that_names_it(estimators, params, error, message):
    ensemble = LightXMLEnsemble(estimators, **params)
    with pytest.raises(error, match=re.escape(message)):
        ensemble.fit(TEXTS, LABELS)
    assert not hasattr(ensemble, "estimators_")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0, 1, 3, 2], "at position 2 are 2 and 3. Fit them to the same y"),
        (list("abcd"), "at position 0 are 0 and 'a'"),
        ([0, 1, 2], "4 and 3 labels"),
    ],
)
def test_fit_members_with_different_labels_is_an_error(classes, message):
    other = Fixed(np.ones((2, len(classes))), np.array(classes, dtype=object))
    estimators = [*PAIR, ("other", other)]
    message = re.escape(f"The members 'left' and 'other' differ in classes_: {message}")
    with pytest.raises(ValueError, match=message):
        fit(estimators)
    members = [(name, member.fit(TEXTS, LABELS)) for name, member in clone_all(estimators)]
    with pytest.raises(ValueError, match=message):
        LightXMLEnsemble.from_fitted(members)


def clone_all(estimators):
    return [(name, clone(member)) for name, member in estimators]


def test_fit_or_predict_members_of_other_interfaces_is_an_error():
    y = Y.toarray()[:, Y.sum(axis=0) > 1]
    neighbors = make_pipeline(TfidfVectorizer(), KNeighborsClassifier())
    with pytest.raises(
        ValueError, match=r"The member 'near', \w+, has no one-dimensional array classes_"
    ):
        LightXMLEnsemble([("near", neighbors)]).fit(X, y)
    for convert, message in (
        (lambda scores: scores[:, :3], r"returns ndarray of shape \(2, 3\), but there are 2 texts"),
        (list, "returns list of shape None"),
        (lambda scores: scores * np.nan, "returns NaN or infinite scores"),
        (lambda scores: sparse.coo_array(np.where(scores == 1, np.inf, 0)), "returns NaN or inf"),
    ):
        with pytest.raises(
            ValueError, match=f"The member 'odd' has a predict_proba that {message}"
        ):
            fit([("odd", Proba(LEFT.scores, convert))]).decision_function(TEXTS)


@pytest.mark.parametrize("k", [0, -1, 31, True, 2.0, None])
def test_predict_topk_k_out_of_range_is_an_error(both, k):
    with pytest.raises(ValueError, match=r"k is .*(must be a whole number|only 30 labels)"):
        both.predict_topk(X, k)
    if k is not None:
        with pytest.raises(ValueError, match=r"top_k is .*(must be a whole|only 30 labels)"):
            both.decision_function(X, top_k=k)


def test_fit_and_predict_bad_texts_are_an_error(both):
    for call in (both.predict, both.predict_topk, lambda X: LightXMLEnsemble(PAIR).fit(X, LABELS)):
        with pytest.raises(ValueError, match="Iterable over raw text documents expected"):
            call("a text")
        with pytest.raises(ValueError, match=r"missing value .* at row 1"):
            call(["a", None])


@pytest.mark.parametrize("held_out", [{"validation_data": (TEXTS, LABELS)}, {"X_val": TEXTS}])
def test_fit_mean_of_held_out_texts_warns(held_out):
    ensemble = LightXMLEnsemble(PAIR)
    with pytest.warns(UserWarning, match=r"no effect, because fusion='mean'.*Set fusion='learned'"):
        ensemble.fit(TEXTS, LABELS, **held_out)


def test_predict_unfitted_ensemble_is_an_error():
    for method in ("predict", "predict_topk", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(LightXMLEnsemble(PAIR), method)(TEXTS)
