"""Top-k prediction: shape, order, the score matrix, batches, memory, and pipelines."""

import numpy as np
import pytest
import torch
from classifier_fixtures import MODES, dataset, fitted, make_classifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skxmc
from skxmc._inference import extractor, predictor
from skxmc._model.network import LightXMLNetwork
from skxmc._topk import TopK
from skxmc.metrics import precision_at_k_scorer

X, Y = dataset()


@pytest.fixture(params=MODES)
def clf(request):
    return fitted(request.param)


def narrow(mode):
    """Fit a classifier that recalls one cluster, so that most k need more."""
    return make_classifier(mode, n_candidate_clusters=1, max_epochs=1).fit(X, Y)


def with_batches_of(clf, size, function):
    default = clf.prediction_batch_size
    try:
        return function(clf.set_params(prediction_batch_size=size))
    finally:
        clf.set_params(prediction_batch_size=default)


# ---------------------------------------------------------------- predict_topk


def test_predict_topk_any_k_returns_named_tuple(clf):
    best = clf.predict_topk(X)
    assert isinstance(best, TopK)
    assert isinstance(best, tuple)
    labels, scores = best
    assert labels is best.labels
    assert labels.shape == scores.shape == (64, 5)
    assert scores.dtype == np.float32
    assert labels.dtype == clf.classes_.dtype
    for k in (1, np.int64(7), 30):
        assert clf.predict_topk(X, k=k).scores.shape == (64, k)


def test_predict_topk_any_k_ranks_distinct_labels_best_first(clf):
    for k in (1, 5, 30):
        labels, scores = clf.predict_topk(X, k)
        assert (np.diff(scores, axis=1) <= 0).all()
        assert (scores > 0).all()
        assert (scores <= 1).all()
        assert all(len(set(row)) == k for row in labels.tolist())
        assert set(labels.ravel().tolist()) <= set(range(30))


@pytest.mark.parametrize("k", [1, 5, 30])
def test_predict_topk_any_k_matches_decision_function(clf, k):
    best = clf.predict_topk(X, k)
    scores = clf.decision_function(X).toarray()
    rows = np.arange(len(X))[:, None]
    np.testing.assert_array_equal(scores[rows, best.labels], best.scores)
    np.testing.assert_array_equal(np.sort(-scores, axis=1)[:, :k], -best.scores)
    assert len(np.unique(best.labels[:, 0])) > 1  # texts differ, or this would be too easy


def test_best_first_equal_scores_are_in_order_of_labels():
    labels = torch.tensor([[5, 2, -1, 9, 4], [3, -1, 8, 1, 0]])
    scores = torch.tensor([[0.5, 0.5, 0.0, 0.9, 0.5], [1.0, 0.0, 1.0, 1.0, 1.0]])
    best, values = predictor.best_first(labels, scores, 3)
    assert best.tolist() == [[9, 2, 4], [0, 1, 3]]
    torch.testing.assert_close(values, torch.tensor([[0.9, 0.5, 0.5], [1.0, 1.0, 1.0]]))


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FC00000 - 2**31])
def test_best_first_nan_of_either_sign_comes_first(bits):
    """NaN is then seen, whichever sign the processor gives it."""
    scores = torch.tensor([[0.5, 0.0, 1.0]])
    scores.view(torch.int32)[0, 1] = bits
    best, values = predictor.best_first(torch.tensor([[5, 2, 9]]), scores, 2)
    assert best.tolist() == [[2, 9]]
    assert values[0].isnan().tolist() == [True, False]


@pytest.mark.parametrize("mode", MODES)
def test_predict_topk_large_k_recalls_more_clusters(mode):
    clf = narrow(mode)
    recalled = np.diff(clf.decision_function(X).indptr)
    assert recalled.max() == (1 if mode == "direct" else 4)
    for k in (1, 3, 4, 5, 17, 30):
        best = clf.predict_topk(X, k)
        assert all(len(set(row)) == k for row in best.labels.tolist())
        assert (best.scores > 0).all()
        stored = clf.decision_function(X, top_k=k)
        assert set(np.diff(stored.indptr)) == {k}


# ---------------------------------------------------------------- the score matrix


def test_decision_function_all_clusters_recalled_is_full_canonical_csr(clf):
    scores = clf.decision_function(X)
    assert scores.format == "csr"
    assert scores.shape == (64, 30)
    assert scores.dtype == np.float32
    assert (scores.data > 0).all()
    assert (scores.data <= 1).all()
    assert scores.nnz == 64 * 30  # "auto" recalls all of these few clusters
    scores.check_format(full_check=True)
    assert scores.has_canonical_format


@pytest.mark.parametrize("k", [1, 4, 30])
def test_decision_function_top_k_holds_k_labels_of_predict_topk(clf, k):
    stored = clf.decision_function(X, top_k=k)
    best = clf.predict_topk(X, k)
    assert set(np.diff(stored.indptr)) == {k}
    assert stored.has_canonical_format
    expected = np.zeros((64, 30), dtype=np.float32)
    np.put_along_axis(expected, best.labels, best.scores, axis=1)
    np.testing.assert_array_equal(stored.toarray(), expected)


def test_decision_function_tiny_scores_stay_positive():
    clf = make_classifier(max_epochs=1).fit(X, Y)
    with torch.no_grad():
        clf.network_.recall_head.bias.fill_(-1e4)
    scores = clf.decision_function(X)
    assert scores.nnz == 64 * 30
    assert (scores.data > 0).all()


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("size", [1, 7])
def test_predictions_any_batch_size_are_the_same(clf, size):
    whole = with_batches_of(clf, 64, lambda c: c.predict_topk(X, 5))
    parts = with_batches_of(clf, size, lambda c: c.predict_topk(X, 5))
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-5)
    left, right = (
        with_batches_of(clf, n, lambda c: c.decision_function(X).toarray()) for n in (64, size)
    )
    np.testing.assert_allclose(left, right, atol=1e-5)


def test_predict_topk_other_order_or_neighbors_returns_the_same(clf):
    whole = clf.predict_topk(X, 5)
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = clf.predict_topk([X[i] for i in order], 5)
    np.testing.assert_array_equal(shuffled.labels, whole.labels[order])
    np.testing.assert_allclose(shuffled.scores, whole.scores[order], atol=1e-5)
    company = clf.predict_topk([X[0], "ba " * 500, "", X[1]], 5)
    np.testing.assert_array_equal(company.labels[[0, 3]], whole.labels[:2])
    np.testing.assert_allclose(company.scores[[0, 3]], whole.scores[:2], atol=1e-5)


def test_predictions_in_small_chunks_are_the_same(clf, monkeypatch):
    whole = clf.predict_topk(X, 5), clf.decision_function(X), clf.encode(X)
    sizes = []
    tokenize = extractor.tokenize_long

    def counting(tokenizer, texts, *args):
        sizes.append(len(texts))
        return tokenize(tokenizer, texts, *args)

    monkeypatch.setattr(extractor, "TEXTS_BLOCK", 10)
    monkeypatch.setattr(extractor, "tokenize_long", counting)
    best = clf.predict_topk(X, 5)
    assert sizes == [10] * 6 + [4]
    np.testing.assert_array_equal(best.labels, whole[0].labels)
    np.testing.assert_allclose(best.scores, whole[0].scores, atol=1e-5)
    scores = clf.decision_function(X)
    np.testing.assert_allclose(scores.toarray(), whole[1].toarray(), atol=1e-5)
    assert scores.shape == (64, 30)
    np.testing.assert_allclose(clf.encode(X), whole[2], atol=1e-5)


def limit_memory(monkeypatch, most):
    """Let the network run out of memory above `most` texts, and return the sizes tried."""
    sizes = []
    represent = LightXMLNetwork.represent

    def limited(network, batch):
        sizes.append(len(batch.input_ids))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("simulated")
        return represent(network, batch)

    monkeypatch.setattr(LightXMLNetwork, "represent", limited)
    return sizes


def test_predictions_out_of_memory_halve_the_batch(clf, monkeypatch):
    whole = clf.predict_topk(X, 5), clf.decision_function(X)
    sizes = limit_memory(monkeypatch, 20)
    with pytest.warns(RuntimeWarning, match="ran out of memory") as found:
        best = clf.predict_topk(X, 5)
    assert [str(w.message).split("Set ")[1][:24] for w in found] == [
        "prediction_batch_size=32",
        "prediction_batch_size=16",
    ]
    assert sizes == [64, 32, 16, 16, 16, 16]
    assert clf.prediction_batch_size == "auto"
    np.testing.assert_array_equal(best.labels, whole[0].labels)
    np.testing.assert_allclose(best.scores, whole[0].scores, atol=1e-5)
    with pytest.warns(RuntimeWarning, match="ran out of memory"):
        scores = clf.decision_function(X)
    np.testing.assert_allclose(scores.toarray(), whole[1].toarray(), atol=1e-5)


def test_predict_topk_one_text_out_of_memory_raises_error(clf, monkeypatch):
    sizes = limit_memory(monkeypatch, 0)
    with (
        pytest.warns(RuntimeWarning, match="ran out of memory"),
        pytest.raises(torch.OutOfMemoryError),
    ):
        with_batches_of(clf, 3, lambda c: c.predict_topk(X, 5))
    assert sizes == [3, 1]


# ---------------------------------------------------------------- skxmc.predict_topk


def test_predict_topk_function_of_classifier_is_its_method(clf):
    best = skxmc.predict_topk(clf, X, k=3)
    np.testing.assert_array_equal(best.labels, clf.predict_topk(X, 3).labels)
    assert skxmc.predict_topk(clf, X).labels.shape == (64, 5)


def test_predict_topk_function_reaches_through_pipelines_and_searches():
    # k is above the number of recalled labels, so a score matrix would leave some at 0.
    clf, k = narrow("two-stage"), 30
    shorten = FunctionTransformer(lambda texts: [text[:9] for text in texts])
    expected = clf.predict_topk([text[:9] for text in X], k)
    pipeline = Pipeline([("shorten", shorten), ("nothing", "passthrough"), ("clf", clf)])
    search = GridSearchCV(pipeline, {"clf__threshold": [0.5]})
    search.best_estimator_ = pipeline
    for model in (
        pipeline,
        search,
        make_pipeline(shorten, pipeline),
        make_pipeline(shorten, search),
    ):
        best = skxmc.predict_topk(model, X, k=k)
        assert isinstance(best, TopK)
        np.testing.assert_array_equal(best.labels, expected.labels)
        np.testing.assert_array_equal(best.scores, expected.scores)


def test_predict_topk_function_search_without_refit_raises_error():
    search = GridSearchCV(make_classifier(max_epochs=1), {"dropout": [0.1]}, cv=2, refit=False)
    with pytest.raises(TypeError, match=r"^This GridSearchCV has refit=False"):
        skxmc.predict_topk(search.fit(X, Y), X)


def test_predict_topk_function_estimator_with_cv_results_is_ranked(clf):
    """TunedThresholdClassifierCV keeps such results, but is no search."""
    keeper = LogisticRegression()
    keeper.cv_results_, keeper.classes_ = {}, clf.classes_
    keeper.decision_function = clf.decision_function
    np.testing.assert_array_equal(
        skxmc.predict_topk(keeper, X, 3).labels, clf.predict_topk(X, 3).labels
    )


@pytest.mark.parametrize("search", [False, True])
def test_predict_topk_function_linear_model_ranks_its_scores(search):
    used = np.flatnonzero(Y.sum(axis=0) >= 10)
    model = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(LogisticRegression()))
    if search:
        grid = {"onevsrestclassifier__estimator__C": [1.0]}
        model = GridSearchCV(model, grid, cv=2, scoring=precision_at_k_scorer(k=2))
    model.fit(X, Y[:, used].toarray())
    best = skxmc.predict_topk(model, X, k=2)
    scores = model.decision_function(X)
    np.testing.assert_array_equal(best.labels, np.argsort(-scores, axis=1)[:, :2])
    np.testing.assert_array_equal(best.scores, -np.sort(-scores, axis=1)[:, :2])
    for k in (len(used) + 1, 0):
        with pytest.raises(ValueError, match="k is"):
            skxmc.predict_topk(model, X, k=k)


def test_predict_topk_function_sparse_scores_are_ranked():
    class Scores:
        classes_ = np.array([f"tag {i:02d}" for i in range(30)])

        def predict_proba(self, texts):
            return fitted().decision_function(texts, top_k=3)

    best = skxmc.predict_topk(Scores(), X, k=3)
    expected = fitted().predict_topk(X, 3)
    np.testing.assert_array_equal(best.labels, Scores.classes_[expected.labels])
    np.testing.assert_array_equal(best.scores, expected.scores)


def test_predict_topk_function_estimator_without_scores_raises_error():
    with pytest.raises(TypeError, match="TfidfVectorizer does not score labels"):
        skxmc.predict_topk(TfidfVectorizer().fit(X), X)
    with pytest.raises(TypeError, match="Pipeline does not score labels"):
        skxmc.predict_topk(make_pipeline(TfidfVectorizer()).fit(X), X)
