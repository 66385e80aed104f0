"""explain_topk: scores split by head, nearest labels and texts, errors."""

import copy
import dataclasses
import functools
import tempfile

import numpy as np
import pytest
import torch
from classifier_fixtures import MODES, dataset, fitted, make_classifier
from scipy.spatial.distance import cdist
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skxmc
from skxmc import LightXMLClassifier, TopKExplanation
from skxmc._inference import explain

X, Y = dataset()
TEXT = X[3]
LONG = "ba " * 500


@functools.cache
def classifier(kind):
    """Return a shared fitted classifier of a kind with its own code path in prediction."""
    if kind in MODES:
        return fitted(kind)
    if kind == "narrow":
        return make_classifier(n_candidate_clusters=1).fit(X, Y)
    if kind == "narrow direct":
        return make_classifier("direct", n_candidate_clusters=2).fit(X, Y)
    if kind == "separate":
        return make_classifier(negative_sampling="static-separate").fit(X, Y)
    if kind == "int8":
        return copy.deepcopy(fitted()).set_params(precision="int8")
    with tempfile.TemporaryDirectory() as folder:
        fitted().save_pretrained(folder, dtype=kind)
        return LightXMLClassifier.from_pretrained(folder)


KINDS = ("direct", "two-stage", "narrow", "narrow direct", "separate", "int8", "float16")


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def recall_scores(clf, text):
    """Compute the scores of all clusters from the weights of the recall head."""
    network = clf.network_
    weight, bias = (p.detach().numpy() for p in network.recall_head.parameters())
    return sigmoid((clf.encode([text])[0] - network.feature_mean.numpy()) @ weight.T + bias)


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 5, 30])
def test_explain_topk_labels_and_scores_equal_predict_topk(kind, k):
    clf = classifier(kind)
    for text in (TEXT, "", LONG):
        best = clf.predict_topk([text], k)
        explanation = clf.explain_topk(text, k)
        assert isinstance(explanation, TopKExplanation)
        assert explanation.text == text
        assert [label.label for label in explanation.labels] == best.labels[0].tolist()
        found = [label.score for label in explanation.labels]
        np.testing.assert_allclose(found, best.scores[0], rtol=1e-6)


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"direct", "narrow direct"}))
def test_explain_topk_score_is_recall_times_rank(kind):
    clf = classifier(kind)
    best = clf.predict_topk([TEXT], 30)
    labels = clf.explain_topk(TEXT, 30).labels
    product = [label.recall_score * label.rank_score for label in labels]
    np.testing.assert_allclose(product, best.scores[0], rtol=1e-6)
    assert len({label.rank_score for label in labels}) > 20


@pytest.mark.parametrize("kind", ["two-stage", "narrow", "separate"])
def test_explain_topk_describes_clusters_of_labels(kind):
    clf = classifier(kind)
    clusters = clf.clusterer_.labels_
    expected = recall_scores(clf, TEXT)
    sizes = np.bincount(clusters)
    places = (expected[:, None] < expected).sum(axis=1) + 1
    explanation = clf.explain_topk(TEXT, 7)
    # One cluster of three or four labels does not hold 7 labels, but three clusters do.
    assert explanation.n_recalled == (3 if kind == "narrow" else 8)
    for label in explanation.labels:
        assert label.cluster == clusters[label.label]
        assert label.cluster_size == sizes[label.cluster]
        assert label.cluster_place == places[label.cluster]
        assert label.recall_score == pytest.approx(expected[label.cluster], abs=1e-6)
    assert len({label.cluster for label in explanation.labels}) > 1
    assert set(sizes) == {3, 4}


@pytest.mark.parametrize("kind", ["direct", "narrow direct"])
def test_explain_topk_direct_mode_has_rank_score_only(kind):
    clf = classifier(kind)
    expected = copy.deepcopy(clf).set_params(n_candidate_clusters=30).decision_function([TEXT])
    explanation = clf.explain_topk(TEXT, 4)
    assert explanation.n_recalled is None
    for label in explanation.labels:
        assert label.score == label.rank_score
        assert label.score == pytest.approx(expected[0, label.label], abs=1e-6)
        about_recall = (label.recall_score, label.cluster, label.cluster_place, label.cluster_size)
        assert about_recall == (None,) * 4


def test_explain_topk_uses_names_of_labels():
    names = [f"tag {i:02d}" for i in range(30)]
    clf = make_classifier(max_epochs=1).fit(X, Y, label_names=names)
    explanation = clf.explain_topk(TEXT, 3, texts=X, y=Y)
    assert [label.label for label in explanation.labels] == clf.predict_topk([TEXT], 3).labels[
        0
    ].tolist()
    near = [near.label for label in explanation.labels for near in label.neighbors]
    carried = [label for text in explanation.neighbors for label in text.labels]
    assert {*near, *carried} <= {*names}


# ---------------------------------------------------------------- nearest labels


@pytest.mark.parametrize("kind", KINDS)
def test_explain_topk_finds_nearest_labels_by_embedding(kind):
    clf = classifier(kind)
    network, clusters = clf.network_, clf.clusterer_.labels_
    if network.direct:
        vectors = network.label_table.by_label()[0].numpy()[clusters]
        others = np.zeros_like(clusters)
    else:
        slots = network.layout.slot_of.numpy()
        vectors = network.label_table.by_cluster().float().numpy()[clusters, slots]
        others = clusters
    cosines = 1 - cdist(vectors, vectors, "cosine")
    wide = copy.deepcopy(clf).set_params(n_candidate_clusters=30)
    scores = wide.decision_function([TEXT]).toarray()[0]
    for label in clf.explain_topk(TEXT, 5, n_neighbors=2).labels:
        mates = np.flatnonzero((others == others[label.label]) & (np.arange(30) != label.label))
        mates = mates[np.argsort(-cosines[label.label, mates])][:2]
        assert [near.label for near in label.neighbors] == mates.tolist()
        found = [near.cosine for near in label.neighbors]
        np.testing.assert_allclose(found, cosines[label.label, mates], atol=1e-5)
        found = [near.score for near in label.neighbors]
        np.testing.assert_allclose(found, scores[mates], rtol=1e-5)


def test_explain_topk_small_cluster_has_fewer_nearest_labels():
    for label in fitted().explain_topk(TEXT, 30, n_neighbors=10).labels:
        assert len(label.neighbors) == label.cluster_size - 1
        assert label.label not in {near.label for near in label.neighbors}
    for label in fitted("direct").explain_topk(TEXT, 3, n_neighbors=100).labels:
        assert len(label.neighbors) == 29


def test_explain_topk_zero_embedding_is_near_no_label():
    clf = copy.deepcopy(fitted())
    label = clf.predict_topk([TEXT], 1).labels[0, 0]
    layout = clf.network_.layout
    cluster, slot = layout.cluster_of[label], layout.slot_of[label]
    clf.network_.label_table.by_cluster()[cluster, slot] = 0.0
    for explained in clf.explain_topk(TEXT, 30).labels:
        near = {neighbor.label for neighbor in explained.neighbors}
        assert label not in near
        assert bool(near) == (explained.label != label)


# ---------------------------------------------------------------- nearest texts


@pytest.mark.parametrize("kind", KINDS)
def test_explain_topk_finds_nearest_texts_by_representation(kind):
    clf = classifier(kind)
    mean = clf.network_.feature_mean.numpy()
    assert mean.any()
    expected = 1 - cdist(clf.encode([TEXT]) - mean, clf.encode(X) - mean, "cosine")[0]
    rows = np.argsort(-expected)[:4]
    explanation = clf.explain_topk(TEXT, 15, n_neighbors=4, texts=X, y=Y)
    assert [near.row for near in explanation.neighbors] == rows.tolist()
    assert rows[0] == 3  # itself
    assert [near.text for near in explanation.neighbors] == [X[row] for row in rows]
    found = [near.cosine for near in explanation.neighbors]
    np.testing.assert_allclose(found, expected[rows], atol=1e-4)
    for near in explanation.neighbors:
        true = set(Y[[near.row]].indices.tolist())
        predicted = [label.label for label in explanation.labels]
        assert near.labels == tuple(label for label in predicted if label in true)
    assert explanation.neighbors[0].labels


def test_explain_topk_accepts_labels_of_texts_in_any_form():
    lists = [Y[[row]].indices.tolist() for row in range(len(X))]
    expected = fitted().explain_topk(TEXT, 5, texts=X, y=Y)
    for y in (lists, Y.toarray(), Y.tocsc()):
        assert fitted().explain_topk(TEXT, 5, texts=np.array(X), y=y) == expected
    without = fitted().explain_topk(TEXT, 5, texts=X)
    assert without.labels == expected.labels
    assert [near[:3] for near in without.neighbors] == [near[:3] for near in expected.neighbors]
    assert {near.labels for near in without.neighbors} == {None}
    assert fitted().explain_topk(TEXT, 5) == dataclasses.replace(
        expected, neighbors=(), similarity=None
    )


def test_explain_topk_given_representations_does_not_encode(monkeypatch):
    clf = copy.deepcopy(fitted())
    expected = clf.explain_topk(TEXT, 2, texts=X, y=Y)
    representations = clf.encode(X)
    monkeypatch.setattr(explain, "VECTORS_BLOCK", 10)
    monkeypatch.delattr(LightXMLClassifier, "encode")
    again = clf.explain_topk(TEXT, 2, texts=X, y=Y, representations=representations)
    assert [near.row for near in again.neighbors] == [near.row for near in expected.neighbors]
    # Other representations of the same shape show that they are used.
    shifted = np.roll(representations, 1, axis=0)
    other = clf.explain_topk(TEXT, 2, texts=X, representations=shifted)
    assert [near.row for near in other.neighbors] == [
        (near.row + 1) % len(X) for near in expected.neighbors
    ]
    half = clf.explain_topk(TEXT, 2, texts=X, y=Y, representations=representations.astype("f2"))
    assert half.neighbors[0].cosine == pytest.approx(1.0, abs=1e-3)


def test_explain_topk_few_texts_has_fewer_nearest_texts():
    explanation = fitted().explain_topk(TEXT, n_neighbors=100, texts=X[:4])
    assert sorted(near.row for near in explanation.neighbors) == [0, 1, 2, 3]


def test_explain_topk_tells_similarity_of_unlike_texts():
    texts = [*X, *(text[::-1] for text in X)]
    vectors = fitted().encode(texts) - fitted().network_.feature_mean.numpy()
    cosines = 1 - cdist(vectors, vectors, "cosine")
    np.fill_diagonal(cosines, -1)
    usual = np.percentile(cosines.max(axis=1), 1)
    explanation = fitted().explain_topk(TEXT, 2, texts=texts)
    assert explanation.similarity == pytest.approx(1, abs=1e-5)
    assert explanation.usual_similarity == pytest.approx(usual, abs=1e-5)
    assert explanation.is_unfamiliar is False
    # 64 texts are too few to tell.
    few = fitted().explain_topk(TEXT, 2, texts=X)
    assert (few.usual_similarity, few.is_unfamiliar) == (None, None)


def test_explain_topk_sample_of_many_texts_gives_same_usual_similarity(monkeypatch):
    texts = [*X, *(text[::-1] for text in X)]
    exact = fitted().explain_topk(TEXT, 2, texts=texts).usual_similarity
    monkeypatch.setattr(explain, "VECTORS_BLOCK", 10)
    assert fitted().explain_topk(TEXT, 2, texts=texts).usual_similarity == pytest.approx(exact)
    monkeypatch.setattr(explain, "MAX_SAMPLE", 64)
    sampled = fitted().explain_topk(TEXT, 2, texts=texts).usual_similarity
    assert sampled == pytest.approx(exact, abs=0.1)
    assert sampled != exact


# ---------------------------------------------------------------- the part that was read


@pytest.mark.parametrize(
    ("text", "n_tokens", "read"),
    [
        ("", 2, ""),
        ("abc", 5, "abc"),
        ("a" * 30, 32, "a" * 30),
        ("a" * 31, 33, "a" * 30),
        (LONG, 1002, " ".join(["ba"] * 15)),
    ],
)
def test_explain_topk_reports_tokens_read(text, n_tokens, read):
    explanation = fitted().explain_topk(text, 1)
    assert explanation.text_read.replace(" ##", "") == read
    assert explanation.n_tokens == n_tokens
    assert explanation.n_tokens_read == min(n_tokens, 32)
    line = str(explanation).split("\n")[1]
    if n_tokens <= 32:
        assert "tokens" not in str(explanation)
    else:
        assert line.startswith(f"The model read 32 of its {n_tokens} tokens, up to '...")
        assert line.endswith(f"{explanation.text_read[-20:]}'. The tokenizer cut the rest.")


def test_explain_topk_truncation_on_the_left_reports_end_read():
    clf = copy.deepcopy(fitted())
    clf.tokenizer_.truncation_side = "left"
    explanation = clf.explain_topk("bife " + "bido " * 60, 1)
    line = str(explanation).split("\n")[1]
    start = explanation.text_read[:20]
    assert line.startswith(f"The model read 32 of its {explanation.n_tokens} tokens, from '{start}")
    assert line.endswith("...' on. The tokenizer cut the rest.")


# ---------------------------------------------------------------- pipelines


def test_explain_topk_of_search_equals_its_predict_topk():
    shorten = FunctionTransformer(lambda texts: [text[:9] for text in texts])
    pipeline = make_pipeline(shorten, make_classifier(max_epochs=1))
    search = GridSearchCV(
        pipeline, {"lightxmlclassifier__threshold": [0.5]}, cv=KFold(2), refit=True
    ).fit(X, Y)
    explanation = skxmc.explain_topk(search, TEXT, 3)
    expected = skxmc.predict_topk(search, [TEXT], 3)
    assert [label.label for label in explanation.labels] == expected.labels[0].tolist()
    assert explanation.text == TEXT[:9]


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("text", [[TEXT], (TEXT,), None, 3, np.array([TEXT]), b"bytes"])
def test_explain_topk_not_one_str_raises_type_error(text):
    kind = type(text).__name__
    with pytest.raises(TypeError, match=f"text must be one str, got {kind}.*one text at a time"):
        fitted().explain_topk(text)


def test_explain_topk_replaces_lone_surrogates():
    assert fitted().explain_topk("ab\ud800").text == "ab\ufffd"
    assert fitted().explain_topk(np.str_("ab")).text == "ab"


@pytest.mark.parametrize("k", [0, -1, 31, 2.0, "3", None, True])
def test_explain_topk_k_out_of_range_raises_value_error(k):
    with pytest.raises(ValueError, match=rf"^k is {k!r}, but"):
        fitted().explain_topk(TEXT, k)


@pytest.mark.parametrize("name", ["n_neighbors", "n_words"])
@pytest.mark.parametrize("n", [0, -1, 1.5, None])
def test_explain_topk_invalid_numbers_raise_value_error(n, name):
    with pytest.raises(ValueError, match=rf"^{name} is {n}, but must be a whole number"):
        fitted().explain_topk(TEXT, **{name: n})


REPRESENTATIONS = np.ones((64, 32), dtype=np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"texts": []}, ValueError, "texts holds no text. Pass at least one"),
        ({"texts": "abc"}, ValueError, r"Pass a list: texts=\[text\]"),
        ({"texts": ["a", None]}, ValueError, r"texts holds a missing value \(None\) at row 1"),
        ({"texts": {"a"}}, TypeError, "texts must be a list"),
        ({"y": Y}, ValueError, "y was given without texts. Pass its texts"),
        ({"representations": REPRESENTATIONS}, ValueError, "representations was given without"),
        ({"texts": X[:5], "y": Y}, ValueError, "y has 64 rows, but there are 5 texts"),
        ({"texts": X, "y": Y[:, :9]}, ValueError, "y has 9 columns, but there are 30 classes"),
        ({"texts": X, "y": [["a"]] * 64}, ValueError, "y has labels of type str"),
        (
            {"texts": X[:5], "representations": REPRESENTATIONS},
            ValueError,
            r"representations must be floats of shape \(5, 32\).*shape \(64, 32\).*encode\(texts\)",
        ),
        (
            {"texts": X, "representations": REPRESENTATIONS[:, :16]},
            ValueError,
            r"representations must be floats of shape \(64, 32\).*shape \(64, 16\)",
        ),
        (
            {"texts": X, "representations": REPRESENTATIONS.astype(int)},
            ValueError,
            "representations must be floats .* has dtype int64",
        ),
        (
            {"texts": X, "representations": REPRESENTATIONS * np.nan},
            ValueError,
            r"representations holds NaN or infinite numbers. Pass encode\(texts\)",
        ),
    ],
)
def test_explain_topk_invalid_texts_or_labels_raise(arguments, error, message):
    with pytest.raises(error, match=message):
        fitted().explain_topk(TEXT, **arguments)


def test_explain_topk_checks_arguments_before_prediction(monkeypatch):
    clf = copy.deepcopy(fitted())
    monkeypatch.setattr(LightXMLClassifier, "_predictor", None)
    for wrong in ({"k": 0}, {"n_neighbors": 0}, {"texts": X, "y": Y[:5]}, {"y": Y}):
        with pytest.raises(ValueError, match=r"(is 0|rows|without)"):
            clf.explain_topk(TEXT, **wrong)


def test_explain_topk_unfitted_raises_not_fitted_error():
    with pytest.raises(NotFittedError):
        make_classifier().explain_topk(TEXT)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
def test_explain_topk_on_gpu_equals_predict_topk(mode):
    clf = make_classifier(mode, device="cuda").fit(X, Y)
    found = clf.explain_topk(TEXT, 5, texts=X, y=Y)
    best = clf.predict_topk([TEXT], 5)
    np.testing.assert_allclose([label.score for label in found.labels], best.scores[0], rtol=1e-6)
    assert found.neighbors[0].row == 3
