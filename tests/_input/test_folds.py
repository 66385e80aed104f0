"""Values per label that scikit-learn cuts for a fold, because they are as long as X."""

import numpy as np
import pandas as pd
import pytest
from classifier_fixtures import dataset, make_classifier
from scipy import sparse
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxmc import LightXMLEnsemble, OmikujiClassifier, PropensityRanker
from skxmc._input.folds import warn_if_cut

X = dataset()[0]
LABELS = [f"tag {i:02d}" for i in range(len(X))]
Y = np.eye(len(X))  # as many labels as texts
HINT = "cuts arguments that are as long as X .* pass {}=lambda labels: "
PER_LABEL = {
    "label_names": {"list": LABELS, "array": np.array(LABELS)},
    "label_texts": {
        "list": LABELS,
        "tuple": tuple(LABELS),
        "array": np.array(LABELS),
        "series": pd.Series(LABELS),
        "series by label": pd.Series(LABELS, index=range(64)),
        "dict": dict(enumerate(LABELS)),
    },
    "label_features": {
        "array": np.eye(64),
        "csr": sparse.csr_array(np.eye(64)),
        "frame": pd.DataFrame(np.eye(64)),
        "list": np.eye(64).tolist(),
    },
}
CASES = [(name, form) for name, forms in PER_LABEL.items() for form in forms]


def searched(estimator, y, **fit_params):
    search = GridSearchCV(estimator, {}, cv=KFold(2), refit=False, error_score="raise")
    return search.fit(X, y, **fit_params)


def validated(estimator, y, **fit_params):
    return cross_validate(
        estimator,
        X,
        y,
        cv=KFold(2),
        params=fit_params,
        scoring=lambda *_: 0.0,
        error_score="raise",
    )


def language():
    return make_classifier(max_epochs=1)


@pytest.mark.parametrize("run", [searched, validated])
@pytest.mark.parametrize(("name", "form"), CASES)
def test_fit_values_per_label_cut_for_a_fold_are_an_error_with_remedy(name, form, run):
    with pytest.raises(ValueError, match=HINT.format(name)):
        run(language(), Y, **{name: PER_LABEL[name][form]})


@pytest.mark.parametrize("name", ["label_names", "label_texts"])
@pytest.mark.parametrize(
    "make",
    [
        OmikujiClassifier,
        lambda: PropensityRanker(OmikujiClassifier()),
        lambda: LightXMLEnsemble([("words", OmikujiClassifier())]),
        lambda: LightXMLEnsemble([("words", OmikujiClassifier())], fusion="learned"),
    ],
    ids=["omikuji", "ranker", "mean", "learned"],
)
def test_fit_values_cut_for_a_fold_of_other_estimators_are_an_error_with_remedy(name, make):
    pytest.importorskip("omikuji")
    with pytest.raises(ValueError, match=HINT.format(name)):
        searched(make(), Y, **{name: LABELS})


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search_functions_of_labels_are_not_cut(n_jobs):
    names = {
        "label_names": lambda columns: [LABELS[column] for column in columns],
        "label_texts": lambda labels: [f"about {label}" for label in labels],
        "label_features": lambda labels: np.eye(len(labels)),
    }
    search = GridSearchCV(language(), {}, cv=KFold(2), error_score="raise", n_jobs=n_jobs)
    assert search.fit(X, Y, **names).best_estimator_.classes_.tolist() == LABELS


def test_fit_functions_of_labels_give_the_same_model_as_their_values():
    y = dataset()[1]
    texts, features = [f"word{i}" for i in range(30)], np.random.default_rng(0).random((30, 4))
    given = {"label_names": LABELS[:30], "label_texts": texts, "label_features": features}
    number = {name: column for column, name in enumerate(LABELS)}
    expected = language().fit(X, y, **given)
    found = language().fit(
        X,
        y,
        label_names=lambda columns: np.array(LABELS)[columns],
        label_texts=lambda labels: [texts[number[label]] for label in labels],
        label_features=lambda labels: features[[number[label] for label in labels]],
    )
    assert (found.decision_function(X) != expected.decision_function(X)).nnz == 0
    assert found.classes_.tolist() == LABELS[:30]


def test_cross_validate_function_of_labels_gets_labels_of_each_fold():
    pytest.importorskip("omikuji")
    lists, got = [[label] for label in reversed(LABELS)], []

    def about(labels):
        got.append(labels.tolist())
        return [f"about {label}" for label in labels]

    validated(OmikujiClassifier(), lists, label_texts=about)
    assert got == [LABELS[:32], LABELS[32:]]


@pytest.mark.parametrize("name", ["label_texts", "label_features"])
def test_cross_validate_values_cut_to_right_number_warn(name):
    """Each of the 32 texts of a fold has a label of its own, so 32 of 64 entries seem right."""
    lists = [[label] for label in reversed(LABELS)]
    given = {"label_texts": LABELS, "label_features": np.eye(64)}[name]
    steps = make_pipeline(FunctionTransformer(list), language())
    with pytest.warns(UserWarning, match=f"{name} has as many entries as this fold has texts"):
        validated(steps, lists, **{f"lightxmlclassifier__{name}": given})


def test_fit_as_many_labels_as_texts_outside_folds_does_not_warn(recwarn):
    language().fit(X, [[label] for label in LABELS], label_texts=LABELS, label_features=np.eye(64))
    assert not [warning for warning in recwarn if "as many entries" in str(warning.message)]


@pytest.mark.parametrize(
    "given", [None, dict.fromkeys(LABELS), LABELS[:3], np.array("text"), iter(LABELS), np.eye(3)]
)
def test_warn_if_cut_values_of_other_number_or_kind_do_not_warn(given, recwarn, monkeypatch):
    monkeypatch.setattr("skxmc._input.folds._in_fold", lambda: True)
    warn_if_cut({"label_texts": given}, 64, 64)
    assert not recwarn.list


def test_fit_wrong_number_of_label_texts_says_nothing_of_folds():
    with pytest.raises(ValueError, match=r"without a text\.$"):
        language().fit(X, Y, label_texts=LABELS[:5])
