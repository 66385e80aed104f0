"""scikit-learn's model selection works with raw texts and sparse y as docs/guide/searching.md says.

The failing rows of its table are tested too. If scikit-learn changes, correct the table.
"""

import numpy as np
import pytest
from classifier_fixtures import dataset, encoder_path, make_classifier, save_lively_encoder
from scipy import sparse
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    train_test_split,
)
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils import _safe_indexing

from skxmc.metrics import precision_at_k, precision_at_k_scorer

X, Y = dataset()
LISTS = [Y[[row]].indices.tolist() for row in range(len(X))]
FOLDS = KFold(2)
P_AT_3 = precision_at_k_scorer(k=3)


def quick():
    return make_classifier("direct", max_epochs=1)


def p_at_3_by_fold(labels, **params):
    """Compute the scores of cross-validation by hand."""
    found = []
    for train, test in FOLDS.split(X):
        y_train, truth = (_safe_indexing(labels, rows) for rows in (train, test))
        clf = quick().set_params(**params).fit([X[i] for i in train], y_train)
        best = clf.predict_topk([X[i] for i in test], 3)
        found.append(precision_at_k(truth, best, k=3, classes=clf.classes_))
    return found


# ---------------------------------------------------------------------- calls that work


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csr_matrix, sparse.csc_array])
def test_grid_search_any_sparse_y_finds_finite_scores(form):
    search = GridSearchCV(quick(), {"dropout": [0.1, 0.9]}, scoring=P_AT_3, cv=FOLDS)
    search.fit(X, form(Y))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.classes_) == Y.shape[1]


@pytest.mark.filterwarnings("ignore:bottleneck_dim=")  # some candidates are in the direct mode
def test_randomized_search_over_clusterer_sets_best_cluster_size():
    space = {"clusterer__max_cluster_size": [1, 4, 15], "bottleneck_dim": [4, 8]}
    search = RandomizedSearchCV(
        make_classifier(max_epochs=1), space, n_iter=3, scoring=P_AT_3, cv=FOLDS, random_state=0
    ).fit(X, Y)
    tried = {tuple(sorted(params.items())) for params in search.cv_results_["params"]}
    assert len(tried) == 3
    best = search.best_estimator_
    assert best.clusterer.max_cluster_size == search.best_params_["clusterer__max_cluster_size"]


def test_grid_search_number_of_folds_matches_kfold():
    """The folds are those of KFold, not of StratifiedKFold, which fails with sparse y."""
    found = [
        GridSearchCV(quick(), {"dropout": [0.1]}, scoring=P_AT_3, cv=cv, refit=False)
        .fit(X, Y)
        .cv_results_["mean_test_score"]
        for cv in (2, FOLDS)
    ]
    np.testing.assert_array_equal(*found)


def test_grid_search_label_lists_and_splitter_match_folds():
    search = GridSearchCV(quick(), {"dropout": [0.1]}, scoring=P_AT_3, cv=FOLDS).fit(X, LISTS)
    found = [search.cv_results_[f"split{number}_test_score"][0] for number in range(2)]
    np.testing.assert_allclose(found, p_at_3_by_fold(LISTS), atol=1e-6)


def test_grid_search_shuffle_split_of_sparse_y_matches_split():
    splits = ShuffleSplit(2, test_size=0.25, random_state=0)
    search = GridSearchCV(quick(), {"dropout": [0.1]}, scoring=P_AT_3, cv=splits, refit=False)
    found = search.fit(X, Y).cv_results_["split0_test_score"][0]
    train, test = next(splits.split(X, Y))
    clf = quick().fit([X[i] for i in train], Y[train])
    expected = precision_at_k(Y[test], clf.predict_topk([X[i] for i in test], 3), k=3)
    assert found == pytest.approx(expected)


def test_halving_search_better_half_gets_more_texts():
    search = HalvingGridSearchCV(
        quick(),
        {"dropout": [0.0, 0.3, 0.6, 0.9]},
        scoring=P_AT_3,
        cv=FOLDS,
        factor=2,
        min_resources=16,
        random_state=0,
    ).fit(X, Y)
    assert search.n_resources_ == [16, 32, 64]
    assert search.n_candidates_ == [4, 2, 1]
    results = search.cv_results_
    for round_, n_kept in enumerate(search.n_candidates_[1:]):
        of_round, of_next = (results["iter"] == number for number in (round_, round_ + 1))
        order = np.argsort(results["mean_test_score"][of_round])
        best = np.asarray(results["param_dropout"][of_round])[order[-n_kept:]]
        assert set(best) == set(results["param_dropout"][of_next])


def test_grid_search_over_encoders_trains_the_best_again(tmp_path):
    """Each encoder has its own score, and the search fits the best encoder again."""
    encoders = [encoder_path(), save_lively_encoder(tmp_path / "other", hidden=24)]
    search = GridSearchCV(quick(), {"encoder": encoders}, scoring=P_AT_3, cv=FOLDS).fit(X, Y)
    for number, encoder in enumerate(encoders):
        expected = np.mean(p_at_3_by_fold(Y, encoder=encoder))
        assert search.cv_results_["mean_test_score"][number] == pytest.approx(expected)
    best = search.best_estimator_
    assert best.encoder == search.best_params_["encoder"]
    hidden = {encoders[0]: 16, encoders[1]: 24}[best.encoder]
    assert best.encode(X[:1]).shape == (1, best.n_feature_layers * hidden)


@pytest.mark.parametrize("score", [cross_val_score, cross_validate])
def test_cross_validation_label_lists_and_splitter_match_folds(score):
    found = score(quick(), X, LISTS, cv=FOLDS, scoring=P_AT_3)
    found = found["test_score"] if isinstance(found, dict) else found
    np.testing.assert_allclose(found, p_at_3_by_fold(LISTS), atol=1e-6)


def test_learning_curve_and_permutation_test_label_lists_match_folds():
    sizes, train_scores, test_scores = learning_curve(
        quick(), X, LISTS, cv=FOLDS, train_sizes=[16, 32], scoring=P_AT_3
    )
    assert sizes.tolist() == [16, 32]
    assert np.isfinite(train_scores).all()
    np.testing.assert_allclose(test_scores[1], p_at_3_by_fold(LISTS), atol=1e-6)
    score, permuted, _ = permutation_test_score(
        quick(), X, LISTS, cv=FOLDS, scoring=P_AT_3, n_permutations=1, random_state=0
    )
    assert score == pytest.approx(np.mean(p_at_3_by_fold(LISTS)), abs=1e-6)
    assert permuted.shape == (1,)


def test_cross_val_predict_of_labels_returns_sparse_matrix():
    found = cross_val_predict(quick().set_params(threshold=0.01), X, Y, cv=FOLDS, method="predict")
    assert sparse.issparse(found)
    assert found.format == "csr"
    for train, test in FOLDS.split(X):
        clf = quick().set_params(threshold=0.01).fit([X[i] for i in train], Y[train])
        expected = clf.predict([X[i] for i in test])
        assert expected.nnz > 0
        np.testing.assert_array_equal(found[test].toarray(), expected.toarray())


def test_multilabel_binarizer_names_come_back_in_predictions():
    binarizer = MultiLabelBinarizer(sparse_output=True)
    y = binarizer.fit_transform([[f"tag {label}" for label in labels] for labels in LISTS])
    clf = quick().fit(X, y, label_names=binarizer.classes_)
    predicted = binarizer.inverse_transform(clf.set_params(threshold=0.01).predict(X))
    best = clf.predict_topk(X, 1).labels[:, 0]
    has_any = [row for row, labels in enumerate(predicted) if labels]
    assert has_any
    assert all(best[row] in predicted[row] for row in has_any)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_fit_column_of_strings_matches_list(library):
    module = pytest.importorskip(library)
    column = {
        "pandas": lambda: module.DataFrame({"text": X})["text"],
        "polars": lambda: module.DataFrame({"text": X})["text"],
        "pyarrow": lambda: module.table({"text": X})["text"],
    }[library]()
    expected = quick().fit(X, Y).predict_topk(X, 3)
    clf = quick().fit(column, Y)
    np.testing.assert_array_equal(clf.predict_topk(column, 3).scores, expected.scores)
    X_train, X_test, y_train, _ = train_test_split(column, Y, random_state=0)
    if isinstance(X_train, list):
        pytest.skip("this scikit-learn turns PyArrow columns into lists of scalars")
    assert quick().fit(X_train, y_train).predict_topk(X_test, 3).labels.shape == (16, 3)


# ---------------------------------------------------------------------- calls that fail


@pytest.mark.parametrize("call", [cross_val_score, cross_validate, permutation_test_score])
def test_cross_validation_sparse_y_raises_error(call):
    with pytest.raises(ValueError, match=r"The 'y' parameter of .* must be an array-like"):
        call(quick(), X, Y, cv=FOLDS, scoring=P_AT_3)


def test_learning_curve_sparse_y_raises_error():
    with pytest.raises(ValueError, match="The 'y' parameter of learning_curve must be"):
        learning_curve(quick(), X, Y, cv=FOLDS, scoring=P_AT_3)


def test_cross_validation_label_lists_and_number_of_folds_raise_error():
    with pytest.raises(ValueError, match="legacy multi-label data representation"):
        cross_val_score(quick(), X, LISTS, cv=2, scoring=P_AT_3)
    search = GridSearchCV(quick(), {"dropout": [0.1]}, scoring=P_AT_3, cv=2)
    with pytest.raises(ValueError, match="legacy multi-label data representation"):
        search.fit(X, LISTS)


def test_stratified_splits_several_labels_raise_error():
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        next(StratifiedKFold(2).split(X, Y))
    with pytest.raises(ValueError, match="'stratify' parameter of train_test_split must be"):
        train_test_split(X, Y, stratify=Y)


def test_make_scorer_response_method_predict_topk_raises_error():
    with pytest.raises(ValueError, match="response_method"):
        make_scorer(precision_at_k, response_method="predict_topk")(quick().fit(X, Y), X, Y)


def test_cross_val_predict_of_scores_raises_error():
    with pytest.raises(IndexError):
        cross_val_predict(quick(), X, Y, cv=FOLDS, method="decision_function")
