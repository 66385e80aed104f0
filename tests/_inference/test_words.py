"""explain_topk of all classifiers: words, members, nearest texts, pipelines."""

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skxmc
from skxmc import (
    LightXMLEnsemble,
    MemberScore,
    NeighborsClassifier,
    OmikujiClassifier,
    PropensityRanker,
)
from skxmc._inference import words
from skxmc._inference.words import parts_of

X, Y = dataset()
TEXT = X[3]


def neighbors(texts=X, y=Y, **params):
    return NeighborsClassifier(FrozenEstimator(fitted("direct")), **params).fit(texts, y)


def ensemble(**params):
    members = [
        ("words", OmikujiClassifier().fit(X, Y)),
        ("gone", "drop"),
        ("near", make_pipeline(FunctionTransformer(), FrozenEstimator(neighbors(keep_texts=True)))),
    ]
    return LightXMLEnsemble.from_fitted(members, **params)


MAKE = {
    "direct": lambda: fitted("direct"),
    "two-stage": fitted,
    "words": lambda: OmikujiClassifier().fit(X, Y),
    "neighbors": neighbors,
    "ensemble": ensemble,
    "ranker": lambda: PropensityRanker(FrozenEstimator(neighbors())).fit(X, Y),
}


# ---------------------------------------------------------------- words


def test_parts_of_text_leave_each_word_out_everywhere():
    text = "The cat-flap, the  dog's\nflap (I00-I99)"
    assert parts_of(text) == [
        ("The", "cat-flap, dog's flap (I00-I99)"),
        ("cat-flap", "The , the dog's flap (I00-I99)"),
        ("dog's", "The cat-flap, the flap (I00-I99)"),
        ("flap", "The cat-flap, the dog's (I00-I99)"),
        ("I00-I99", "The cat-flap, the dog's flap ()"),
    ]
    assert parts_of("") == parts_of(" ...\n") == []
    assert parts_of("word") == [("word", "")]


def test_parts_of_long_text_are_runs_of_words(monkeypatch):
    monkeypatch.setattr(words, "MAX_PARTS", 3)
    assert parts_of("a b c a") == [("a", "b c"), ("b", "a c a"), ("c", "a b a")]
    assert parts_of("a, b c d. e") == [("a, b", "c d. e"), ("c d", "a, b . e"), ("e", "a, b c d.")]


@pytest.mark.parametrize("kind", MAKE)
def test_explain_topk_effects_are_scores_minus_scores_without_word(kind):
    clf = MAKE[kind]()
    explanation = clf.explain_topk(TEXT, 3, n_words=100)
    best = clf.predict_topk([TEXT], 3)
    assert [label.label for label in explanation.labels] == best.labels[0].tolist()
    np.testing.assert_allclose([e.score for e in explanation.labels], best.scores[0], rtol=1e-6)
    without = dict(parts_of(TEXT))
    assert len(without) > 3
    scores = clf.decision_function([TEXT, *without.values()]).toarray()
    for label in explanation.labels:
        effects = dict(zip(without, scores[0, label.label] - scores[1:, label.label], strict=True))
        assert {word for word, _ in label.words} == set(effects)
        found = [effect for _, effect in label.words]
        assert found == sorted(found, reverse=True)
        assert found == [pytest.approx(effects[word], abs=1e-4) for word, _ in label.words]
    assert any(abs(word.effect) > 0.001 for e in explanation.labels for word in e.words)


def test_explain_topk_n_words_keeps_largest_effects():
    every = fitted().explain_topk(TEXT, 1, n_words=100).labels[0].words
    two = fitted().explain_topk(TEXT, 1, n_words=2).labels[0].words
    assert set(two) == set(sorted(every, key=lambda word: -abs(word.effect))[:2])
    assert fitted().explain_topk("", 2).labels[0].words == ()


# ---------------------------------------------------------------- members


def test_explain_topk_of_ensemble_has_scores_by_member():
    clf = ensemble(weights=[1, 1, 3])
    labels = clf.explain_topk(TEXT, 4).labels
    scores = {
        "words": clf.named_estimators_["words"].decision_function([TEXT], top_k=30),
        "near": neighbors().decision_function([TEXT]),
    }
    for label in labels:
        assert [name for name, _ in label.members] == ["words", "near"]
        for name, score in label.members:
            assert score == pytest.approx(scores[name][0, label.label], rel=1e-3)
        mean = sum(w * m.score for w, m in zip((0.25, 0.75), label.members, strict=True))
        assert label.score == pytest.approx(mean, rel=1e-5)
    assert fitted().explain_topk(TEXT, 1).labels[0].members == ()


def test_explain_topk_of_ensemble_member_without_weight_is_left_out():
    (label,) = ensemble(weights=[0, 1, 2]).explain_topk(TEXT, 1).labels
    assert label.members == (MemberScore("near", pytest.approx(label.score)),)


# ---------------------------------------------------------------- nearest texts


def test_explain_topk_of_neighbors_shows_kept_texts():
    clf = neighbors(X[:40], Y[:40], keep_texts=True)
    clf.partial_fit(X[40:], Y[40:])
    assert clf.texts_ == X
    vectors = fitted("direct").transform(X)
    vectors = vectors - vectors[:40].mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors[50]
    explanation = clf.explain_topk(X[50], 8, n_neighbors=4)
    assert explanation.similarity == pytest.approx(1, abs=1e-5)
    rows = [near.row for near in explanation.neighbors]
    assert rows == np.argsort(-cosines)[:4].tolist()
    predicted = [label.label for label in explanation.labels]
    for near in explanation.neighbors:
        assert near.text == X[near.row]
        assert near.cosine == pytest.approx(cosines[near.row], abs=1e-5)
        true = set(Y[[near.row]].indices.tolist())
        assert near.labels == tuple(label for label in predicted if label in true)
    assert len(clf.explain_topk(TEXT, n_neighbors=99).neighbors) == 64


def test_explain_topk_of_neighbors_without_texts_shows_none():
    clf = neighbors().partial_fit(X[:1], Y[:1])
    assert clf.texts_ is None
    explanation = clf.explain_topk(TEXT, 2)
    assert explanation.neighbors == ()
    assert explanation.similarity == pytest.approx(1, abs=1e-5)
    assert explanation.usual_similarity is None  # too few texts


@pytest.mark.parametrize("kind", ["ensemble", "ranker"])
def test_explain_topk_reaches_neighbors_inside(kind):
    explanation = MAKE[kind]().explain_topk(TEXT, 2)
    assert explanation.similarity == pytest.approx(1, abs=1e-5)
    assert len(explanation.neighbors) == (3 if kind == "ensemble" else 0)
    assert MAKE["words"]().explain_topk(TEXT, 2).similarity is None


def test_explain_topk_of_neighbors_tells_unlike_text():
    class Lengths:  # vectors of two entries, so that similarities are known
        def fit(self, X, y=None):
            return self

        def transform(self, X):
            return np.array([[np.cos(len(x) / 99), np.sin(len(x) / 99)] for x in X])

        def get_params(self, deep=True):
            return {}

    lengths = [1] * 60 + [250] * 60
    clf = NeighborsClassifier(Lengths()).fit(["x" * n for n in lengths], [[0]] * 60 + [[1]] * 60)
    assert clf._usual_similarity == pytest.approx(1)
    assert clf.explain_topk("x", 1).is_unfamiliar is False
    assert clf.explain_topk("x" * 120, 1).is_unfamiliar is True
    mixed = NeighborsClassifier(Lengths()).fit(["x" * n for n in range(150)], [[0], [1]] * 75)
    vectors = Lengths().transform(["x" * n for n in range(150)])
    vectors = vectors - vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    assert mixed._usual_similarity == pytest.approx(np.percentile(cosines.max(axis=1), 1))


# ---------------------------------------------------------------- pipelines and errors


def test_explain_topk_function_reaches_classifier_in_pipeline():
    shorten = FunctionTransformer(lambda texts: [text[:20] for text in texts])
    model = make_pipeline(shorten, FrozenEstimator(fitted()))
    explained = skxmc.explain_topk(model, TEXT, 3, n_words=2, n_neighbors=1)
    assert explained == fitted().explain_topk(TEXT[:20], 3, n_words=2, n_neighbors=1)


def test_explain_topk_function_wrong_arguments_raise_type_error():
    with pytest.raises(TypeError, match="MultinomialNB has no explain_topk"):
        skxmc.explain_topk(MultinomialNB(), TEXT)
    with pytest.raises(TypeError, match="text must be one str, got list"):
        skxmc.explain_topk(fitted(), [TEXT])


@pytest.mark.parametrize("kind", ["words", "ensemble"])
def test_explain_topk_of_any_classifier_wrong_arguments_raise(kind):
    clf = MAKE[kind]()
    with pytest.raises(TypeError, match="text must be one str, got int"):
        clf.explain_topk(3)
    for name in ("k", "n_words", "n_neighbors"):
        with pytest.raises(ValueError, match=rf"^{name} is 0, but must be a whole number"):
            clf.explain_topk(TEXT, **{name: 0})


def test_explain_topk_of_saved_neighbors_is_the_same(tmp_path):
    clf = neighbors([*X, *X], np.vstack([Y.toarray()] * 2), keep_texts=True)
    expected = clf.explain_topk(TEXT, 2)
    assert expected.usual_similarity == pytest.approx(1, abs=1e-5)
    clf.save_pretrained(tmp_path / "model")
    loaded = skxmc.from_pretrained(tmp_path / "model")
    assert loaded.explain_topk(TEXT, 2) == expected
    assert loaded.partial_fit(X[:1], Y[:1]).texts_ == [*X, *X, X[0]]
