"""LightXMLClassifier: its predictions, and unusual but legal input."""

import numpy as np
import pytest
import torch
from classifier_fixtures import MODES, dataset, fitted, make_classifier
from scipy import sparse

from skxmc._input.tfidf import fit_tfidf

X, Y = dataset()


@pytest.fixture(params=MODES)
def clf(request):
    return fitted(request.param)


# ---------------------------------------------------------------- methods


def test_predict_any_threshold_matches_decision_function(clf):
    scores = clf.decision_function(X)
    default = clf.threshold
    try:
        middle = float(np.sort(scores.data)[scores.nnz // 2])  # a score itself
        for threshold in (0.5, middle, 0.0, 1.0):
            predicted = clf.set_params(threshold=threshold).predict(X)
            assert isinstance(predicted, sparse.csr_matrix)
            assert predicted.dtype == np.int64
            assert set(predicted.data) <= {1}
            expected = (scores.toarray() >= threshold) & (scores.toarray() > 0)
            np.testing.assert_array_equal(predicted.toarray(), expected)
            if threshold == middle:
                assert 0 < predicted.nnz < scores.nnz
    finally:
        clf.set_params(threshold=default)


def test_predict_proba_equals_decision_function(clf):
    assert (clf.predict_proba(X) != clf.decision_function(X)).nnz == 0


def test_score_is_precision_at_1(clf):
    best = clf.predict_topk(X, 1).labels[:, 0]
    expected = np.mean([Y[i, best[i]] == 1 for i in range(len(X))])
    assert clf.score(X, Y) == pytest.approx(expected)
    assert 0 < expected < 1
    lists = [Y[[row]].indices.tolist() for row in range(len(X))]
    assert clf.score(X, lists) == pytest.approx(expected)


def test_encode_returns_cls_states_from_last_layer_down(clf):
    features = clf.encode(X)
    assert features.shape == (64, 2 * 16)
    assert features.dtype == np.float32
    # The last hidden state comes first.
    tokens = clf.tokenizer_(X[3], return_tensors="pt", truncation=True, max_length=32)
    states = clf.network_.encoder(**tokens, output_hidden_states=True).hidden_states
    expected = np.concatenate([layer[0, 0].detach().numpy() for layer in (states[-1], states[-2])])
    np.testing.assert_allclose(features[3], expected, atol=1e-5)


def test_decision_function_is_product_of_recall_and_rank():
    clf = fitted()
    network = clf.network_
    features = clf.encode(X[:5]) - network.feature_mean.numpy()
    weight, bias = (p.detach().numpy() for p in network.recall_head.parameters())
    recalled = 1 / (1 + np.exp(-(features @ weight.T + bias)))
    weight, bias = (p.detach().numpy() for p in network.bottleneck.parameters())
    z = features @ weight.T + bias
    scores = np.zeros((5, 30))
    for label, cluster in enumerate(clf.clusterer_.labels_):
        slot = np.flatnonzero(np.flatnonzero(clf.clusterer_.labels_ == cluster) == label)[0]
        row = network.label_table.by_cluster()[cluster, slot].numpy()
        logits = z @ row + network.label_table.bias[cluster, slot].item()
        scores[:, label] = recalled[:, cluster] / (1 + np.exp(-logits))
    np.testing.assert_allclose(clf.decision_function(X[:5]).toarray(), scores, atol=1e-5)


def test_decision_function_direct_mode_is_rank_score():
    clf = fitted("direct")
    weight, bias = (p.numpy() for p in clf.network_.label_table.by_label())
    features = torch.from_numpy(clf.encode(X[:5])) - clf.network_.feature_mean
    z = clf.network_.bottleneck(features).detach().numpy()
    expected = 1 / (1 + np.exp(-(z @ weight.T + bias)))
    scores = clf.decision_function(X[:5]).toarray()
    np.testing.assert_allclose(scores[:, np.arange(30)], expected, atol=1e-5)


def test_predictions_no_texts_are_empty(clf):
    for none in ([], (), np.array([], dtype=object)):
        assert clf.predict_topk(none, 3).labels.shape == (0, 3)
        assert clf.predict_topk(none, 3).scores.shape == (0, 3)
        assert clf.decision_function(none).shape == (0, 30)
        assert clf.decision_function(none).dtype == np.float32
        assert clf.decision_function(none, top_k=2).shape == (0, 30)
        assert clf.predict(none).shape == (0, 30)
        assert clf.predict(none).dtype == np.int64
        assert clf.encode(none).shape == (0, 32)


# ---------------------------------------------------------------- unusual but legal


def check_ranks_all(clf, texts, n_labels):
    """Check that each text gets all labels once, with scores in 0 to 1."""
    best = clf.predict_topk(texts, n_labels)
    assert best.labels.shape == (len(texts), n_labels)
    assert all(set(row) == set(clf.classes_) for row in best.labels)
    assert np.isfinite(best.scores).all()
    assert (best.scores > 0).all()
    assert (best.scores <= 1).all()
    assert np.isfinite([epoch["loss"] for epoch in clf.history_]).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_labels", [1, 2, 3])
def test_fit_few_labels_ranks_all_labels(mode, n_labels):
    lists = [[i % n_labels] for i in range(12)]
    clf = make_classifier(mode).fit(X[:12], lists)
    check_ranks_all(clf, X[:4], n_labels)
    assert clf.predict(X[:4]).shape == (4, n_labels)


@pytest.mark.parametrize("mode", MODES)
def test_fit_one_text_ranks_all_labels(mode):
    clf = make_classifier(mode).fit(["only this"], [["a", "b", "c", "d", "e"]])
    check_ranks_all(clf, ["only this", "another"], 5)


@pytest.mark.parametrize("mode", MODES)
def test_predict_topk_k_of_all_labels_ranks_all_labels(mode):
    check_ranks_all(fitted(mode), X, 30)


@pytest.mark.parametrize("mode", MODES)
def test_fit_texts_without_labels_and_unused_labels_ranks_all_labels(mode):
    y = np.zeros((20, 11))
    y[3, [0, 7]] = y[9, 4] = 1
    clf = make_classifier(mode).fit(X[:20], y)
    check_ranks_all(clf, X[:3], 11)
    assert clf.clusterer_.labels_.shape == (11,)


ODD = [
    "",
    " \t\n",
    "same",
    "same",
    "same",
    "a" * 10_000,
    "ba " * 5_000,
    "\x00\x01\x7f",
    "naïve \uff26\uff35 \ufb01 \u202e abc \u200b",
    "漢字 العربية हिन्दी",
    "👩‍👩‍👧‍👦 🏳️‍🌈",
    "lone \ud800 and \udfff surrogates",
    "e" + "\u0301" * 500,
    "[CLS] [SEP] [PAD] [MASK] ##a",
]


@pytest.mark.filterwarnings("ignore:The tokenizer of encoder=.* does not know")
@pytest.mark.parametrize("mode", MODES)
def test_predict_topk_odd_texts_do_not_depend_on_batch(mode):
    clf = make_classifier(mode).fit(ODD, [[i % 5] for i in range(len(ODD))])
    check_ranks_all(clf, ODD, 5)
    best = clf.predict_topk(ODD, 5)
    np.testing.assert_array_equal(best.labels[2], best.labels[3])
    # The scores of a text do not depend on its batch, although the longest text is cut.
    for row, text in enumerate(ODD):
        alone = clf.predict_topk([text], 5)
        np.testing.assert_allclose(alone.scores[0], best.scores[row], atol=1e-5)
    cut = clf.predict_topk(["ba " * 40], 5)
    np.testing.assert_allclose(cut.scores[0], best.scores[6], atol=1e-5)


@pytest.mark.filterwarnings("ignore:The tokenizer of encoder=.* does not know")
@pytest.mark.parametrize("texts", [[""], ["", " "], ["?!"], ["a"] * 40], ids=repr)
def test_fit_texts_without_words_ranks_all_labels(texts):
    clf = make_classifier().fit(texts, [["a", "b", "c", "d", "e"]] * len(texts))
    check_ranks_all(clf, texts, 5)


def test_tfidf_texts_without_words_use_characters():
    assert fit_tfidf(["?!", "!-", ""])[1].shape == (3, 3)
    assert fit_tfidf(["?! word", "two words", ""])[1].shape == (3, 3)
    assert fit_tfidf(["", ""])[1].shape == (2, 1)


def test_fit_more_positive_than_candidate_clusters_ranks_all_labels():
    everything = np.ones((6, 30))
    clf = make_classifier(n_candidate_clusters=1).fit(X[:6], everything)
    check_ranks_all(clf, X[:6], 30)
