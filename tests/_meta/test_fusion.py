"""LearnedFusion, and LightXMLEnsemble(fusion="learned")."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from classifier_fixtures import assert_same_predictions, dataset, make_classifier
from ensemble_members import Fixed, Proba
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxmc import LightXMLEnsemble, OmikujiClassifier
from skxmc._input.split import hold_out
from skxmc._input.validation import check_labels
from skxmc._meta import rescoring
from skxmc._meta.fusion import LearnedFusion
from skxmc._meta.held_out import auto_validation_fraction
from skxmc.metrics import label_propensities, precision_at_k

X, Y = dataset()
N, L = 400, 20
RNG = np.random.default_rng(0)
TRUE = RNG.random((N, L)) < 0.2
COUNTS = np.where(np.arange(L) < 10, 3, 300)  # ten rare labels and ten frequent ones


def labels_of_texts(counts):
    """Make labels of 300 training texts, with so many texts per label."""
    return sparse.csr_array((np.arange(300)[:, None] < counts).astype(int))


Y_TRAIN = labels_of_texts(COUNTS)


def noisy(quality):
    """Make scores that separate true labels from others better for labels of higher quality."""
    logits = quality * (2 * TRUE - 1) + RNG.normal(size=TRUE.shape)
    return sparse.csr_matrix((1 / (1 + np.exp(-logits))).astype(np.float32))


def p_at_3(scores, rows=slice(200, None)):
    return precision_at_k(TRUE[rows].astype(int), scores.tocsr()[rows].toarray(), k=3)


# ---------------------------------------------------------------- the fusion


def test_fusion_good_and_bad_member_trusts_the_good_one():
    good, bad = noisy(np.full(L, 1.5)), noisy(np.zeros(L))
    fusion = LearnedFusion(Y_TRAIN, 0).fit([good[:200], bad[:200]], sparse.csr_array(TRUE[:200]))
    fused = fusion([good, bad])
    assert p_at_3(fused) > p_at_3(good + bad) + 0.05
    assert p_at_3(fused) > p_at_3(good) - 0.03


def test_fusion_with_label_counts_trusts_member_that_knows_rare():
    """One member knows the rare labels, the other one knows the frequent labels."""
    rare = noisy(np.where(COUNTS < 10, 2.0, 0.0))
    frequent = noisy(np.where(COUNTS < 10, 0.0, 2.0))
    parts = [rare[:200], frequent[:200]]
    y = sparse.csr_array(TRUE[:200])
    fused = LearnedFusion(Y_TRAIN, 0).fit(parts, y)([rare, frequent])
    blind = LearnedFusion(labels_of_texts(np.full(L, 9)), 0).fit(parts, y)([rare, frequent])
    assert p_at_3(fused) > p_at_3(blind) + 0.02


def test_fusion_is_the_mean_of_calibrated_probabilities_and_the_mean_score():
    scores = [noisy(np.full(L, 1.0)), noisy(np.full(L, 0.5))]
    fusion = LearnedFusion(Y_TRAIN, 0).fit(scores, sparse.csr_array(TRUE))
    fusion.odds_factors = np.ones(L)
    fused = fusion(scores)
    learned = (2 * fused - (scores[0] + scores[1]) / 2).toarray()
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1)):
        part = (learned >= low) & (learned < high)
        assert part.any()
        assert TRUE[part].mean() == pytest.approx(learned[part].mean(), abs=0.05)


def test_fusion_divides_the_odds_by_a_power_of_the_propensity():
    fusion, scores = fitted_fusion()
    fused = fusion(scores).toarray().astype(float)
    fusion.odds_factors = np.ones(L)
    plain = fusion(scores).toarray().astype(float)
    factors = (fused / (1 - fused)) / (plain / (1 - plain))
    expected = np.tile(label_propensities(Y_TRAIN) ** -0.4, (N, 1))
    np.testing.assert_allclose(factors, expected, rtol=1e-4)
    assert expected.max() > 1.5


def test_fusion_state_of_earlier_versions_leaves_the_odds():
    fusion, scores = fitted_fusion()
    state = fusion.state()
    del state["odds_factors"]
    fusion.odds_factors = np.ones(L)
    assert (LearnedFusion.from_state(state)(scores) != fusion(scores)).nnz == 0


def test_fusion_higher_score_never_lowers_the_result():
    scores = [noisy(np.full(L, 1.0)), noisy(np.zeros(L))]
    fusion = LearnedFusion(Y_TRAIN, 0).fit(scores, sparse.csr_array(TRUE))
    grid = np.linspace(0.001, 0.999, 200, dtype=np.float32)
    for fixed in (0.1, 0.9):
        for column in (0, 19):
            one, other = np.zeros((200, L), np.float32), np.zeros((200, L), np.float32)
            one[:, column], other[:, column] = grid, fixed
            for pair in ([one, other], [other, one]):
                found = fusion([sparse.csr_matrix(m) for m in pair]).toarray()[:, column]
                assert (np.diff(found) > 0).all()  # although trees are steps


def test_fusion_candidates_are_those_of_any_member():
    left = sparse.csr_matrix(np.array([[0.5, 0, 0.2, 0]], dtype=np.float32))
    right = sparse.csr_matrix(np.array([[0, 0, 0.3, 0.1]], dtype=np.float32))
    scores = [sparse.vstack([m] * 200, format="csr") for m in (left, right)]
    y = sparse.csr_array((np.arange(800).reshape(200, 4) % 3 == 0).astype(int))
    fusion = LearnedFusion(labels_of_texts(np.ones(4)), 0).fit(scores, y)
    fused = fusion(scores)
    assert fused[[0]].toarray().astype(bool).tolist() == [[True, False, True, True]]
    assert fused.dtype == np.float32
    nothing = sparse.csr_matrix((2, 4), dtype=np.float32)
    assert fusion([nothing, nothing]).nnz == 0


@pytest.mark.parametrize("n_true", [0, 19, 81, 100])
def test_fusion_too_few_examples_warns_and_returns_mean(n_true):
    scores = [sparse.csr_matrix(np.full((50, 2), s, dtype=np.float32)) for s in (0.2, 0.6)]
    y = sparse.csr_array((np.arange(100) < n_true).astype(int).reshape(50, 2))
    fusion = LearnedFusion(labels_of_texts(np.ones(2)), 0)
    with pytest.warns(RuntimeWarning, match="Too few held-out texts .* mean of the members'"):
        fusion.fit(scores, y)
    np.testing.assert_allclose(fusion(scores).toarray(), 0.4, rtol=1e-6)


def test_fusion_20_true_and_20_false_examples_are_enough():
    scores = [sparse.csr_matrix(np.full((20, 2), s, dtype=np.float32)) for s in (0.2, 0.6)]
    one_text = sparse.csr_array(np.ones((1, 2)))  # propensities are 1
    fusion = LearnedFusion(one_text, 0).fit(scores, sparse.csr_array(np.eye(2)[[0] * 20]))
    np.testing.assert_allclose(fusion(scores).toarray(), (0.5 + 0.4) / 2, rtol=1e-3)


def test_fusion_trees_have_the_seed_and_no_early_stopping():
    scores = [noisy(np.full(L, 1.0)), noisy(np.full(L, 0.5))]
    trees = LearnedFusion(Y_TRAIN, 7).fit(scores, sparse.csr_array(TRUE)).model
    assert trees.random_state == 7
    assert trees.early_stopping is False


def fitted_fusion():
    scores = [noisy(np.full(L, 1.0)), noisy(np.full(L, 0.5))]
    return LearnedFusion(Y_TRAIN, 7).fit(scores, sparse.csr_array(TRUE)), scores


def test_fusion_from_state_scores_the_same_bit_for_bit():
    fusion, scores = fitted_fusion()
    again = LearnedFusion.from_state(fusion.state())
    assert (again(scores) != fusion(scores)).nnz == 0
    assert again.random_state == again.model.random_state == 7
    assert all(
        np.array_equal(again.state()["trees"][name], value)
        for name, value in fusion.state()["trees"].items()
    )


def test_fusion_without_trees_from_state_takes_the_mean():
    scores = [noisy(np.full(L, 1.0)), noisy(np.full(L, 0.5))]
    again = LearnedFusion.from_state(LearnedFusion(Y_TRAIN, 0).state())
    np.testing.assert_array_equal(again.log_counts, np.log1p(COUNTS).astype(np.float32))
    np.testing.assert_allclose(again(scores).toarray(), sum(scores).toarray() / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("left", 0), ("left", 99), ("right", 0), ("right", 99)],
        *[("feature_idx", -1), ("feature_idx", 3), ("sizes", 0)],
    ],
)
def test_fusion_state_with_a_broken_tree_raises_value_error(field, value):
    """The compiled prediction would read other memory, or never end."""
    state = fitted_fusion()[0].state()
    state["trees"][field][0] = value
    with pytest.raises(ValueError, match=r"leads out of its tree: the model is damaged\. Save it"):
        LearnedFusion.from_state(state)


# ---------------------------------------------------------------- in the ensemble


def ensemble(**params):
    members = [("language", make_classifier(max_epochs=1)), ("words", OmikujiClassifier())]
    return LightXMLEnsemble(members, fusion="learned", random_state=0, **params)


@pytest.mark.parametrize("fusion", ["mean", "learned"])
def test_ensemble_failed_fit_leaves_it_unchanged(fusion, monkeypatch):
    texts = [str(i) for i in range(len(X))]
    member = Fixed(np.tile(np.linspace(0.1, 0.9, 30, dtype=np.float32), (N, 1)))
    members = [("a", member), ("b", member)]
    clf = LightXMLEnsemble(members, fusion="learned", validation_fraction=0.25)
    clf.fit(texts, Y).set_params(fusion=fusion)
    before = vars(clf).copy()

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(*{"mean": (Fixed, "fit"), "learned": (LearnedFusion, "fit")}[fusion], fail)
    with pytest.raises(MemoryError):
        clf.fit(texts, Y)
    assert before.keys() == vars(clf).keys()
    assert all(value is before[name] for name, value in vars(clf).items())


def test_ensemble_members_are_not_fitted_to_held_out_texts():
    member = Fixed(np.tile(np.linspace(0.1, 0.9, 30, dtype=np.float32), (N, 1)))
    seen = {}

    class Noting(Fixed):
        def fit(self, X, y, **params):
            seen.update(texts=X, y=y, params=params)
            return super().fit(X, y)

        def decision_function(self, X, *, top_k=None):
            seen.setdefault("scored", X)
            return super().decision_function(X, top_k=top_k)

    member = Noting(member.scores)
    texts = [str(i) for i in range(len(X))]
    members = [("a", member), ("b", Fixed(member.scores))]
    LightXMLEnsemble(members, fusion="learned", validation_fraction=0.25).fit(texts, Y)
    assert len(seen["scored"]) == 16
    assert set(seen["scored"]) | set(seen["texts"]) == set(texts)
    assert len(seen["texts"]) == 48
    order = [int(text) for text in seen["texts"]]
    assert (seen["y"] != Y.tocsr()[order]).nnz == 0
    assert "label_names" not in seen["params"]


@pytest.fixture
def noted():
    """Return an ensemble whose first member notes its texts and `top_k`, and the notes."""
    notes = {}

    class Noting(Fixed):
        def fit(self, X, y, **params):
            notes["train"] = [int(text) for text in X]
            return super().fit(X, y)

        def decision_function(self, X, *, top_k=None):
            notes["scored"], notes["top_k"] = list(X), top_k
            return super().decision_function(X, top_k=top_k)

    scores = np.tile(np.linspace(0.1, 0.9, 30, dtype=np.float32), (N, 1))
    members = [("a", Noting(scores)), ("b", Fixed(scores))]
    return LightXMLEnsemble(members, fusion="learned", validation_fraction=0.25), notes


def test_ensemble_random_state_chooses_held_out_texts(noted):
    model, notes = noted
    held_out = []
    for seed in (0, 0, 1):
        model.set_params(random_state=seed).fit([str(i) for i in range(len(X))], Y)
        held_out.append(set(notes["scored"]))
    assert held_out[0] == held_out[1] != held_out[2]


@pytest.mark.filterwarnings("ignore:Too few held-out texts")
def test_ensemble_fusion_gets_n_candidates_and_training_counts(noted):
    model, notes = noted
    model.set_params(n_candidates=2).fit([str(i) for i in range(len(X))], Y)
    assert notes["top_k"] == 2
    n_texts = np.asarray(Y.tocsr()[notes["train"]].sum(axis=0)).ravel()
    assert (n_texts != np.asarray(Y.sum(axis=0)).ravel()).any()
    np.testing.assert_allclose(model._fusion.log_counts, np.log1p(n_texts))


def test_ensemble_labels_only_on_held_out_texts_stay_known():
    tags = [[f"tag {i}"] for i in range(20)]
    texts = [f"text {i}" for i in range(20)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # too few held-out texts
        model = ensemble(validation_fraction=0.5).fit(texts, tags)
    assert model.classes_.tolist() == sorted(f"tag {i}" for i in range(20))
    assert model.predict_topk(texts, 20).labels.shape == (20, 20)


def test_ensemble_warning_of_few_texts_points_to_line_of_fit():
    with pytest.warns(RuntimeWarning, match="Too few held-out texts") as warned:
        ensemble(validation_fraction=0.1).fit(X[:12], Y[:12])
    assert [Path(warning.filename).name for warning in warned] == [Path(__file__).name]


def test_ensemble_numbers_of_texts_and_labels_differ_is_an_error():
    with pytest.raises(ValueError, match=r"^y has 40 rows, but there are 64 texts"):
        ensemble().fit(X, Y[:40])


def test_ensemble_unfitted_frozen_member_is_an_error():
    members = [(name, FrozenEstimator(member)) for name, member in ensemble().estimators]
    with pytest.raises(NotFittedError):
        LightXMLEnsemble(members, fusion="learned").fit(X, Y)


def test_hold_out_texts_keep_their_labels():
    labels = check_labels(np.eye(40), n_texts=40)
    (texts, y), _, (held_out, of_held_out) = hold_out(
        list(map(str, range(40))), labels, None, 0.3, 0
    )
    assert y.indices.tolist() == [int(text) for text in texts]
    assert of_held_out.matrix.indices.tolist() == [int(text) for text in held_out]
    assert sorted(texts + held_out, key=int) == list(map(str, range(40)))


def test_ensemble_predict_proba_members_score_in_blocks(monkeypatch):
    """Scores of `predict_proba` are dense."""
    monkeypatch.setattr(rescoring, "TEXT_BLOCK", 10)
    asked = []

    class Noting(Proba):
        def predict_proba(self, X):
            asked.append(len(X))
            return super().predict_proba(X)

    scores = np.random.default_rng(0).random((N, 30))
    members = [("a", Noting(scores)), ("b", Proba(scores))]
    texts = [str(i) for i in range(len(X))]
    model = LightXMLEnsemble(members, fusion="learned", random_state=0)
    model.fit(texts, Y, validation_data=(texts[:25], Y[:25]))
    assert asked == [10, 10, 5]
    monkeypatch.setattr(rescoring, "TEXT_BLOCK", 64)
    whole = clone(model).fit(texts, Y, validation_data=(texts[:25], Y[:25]))
    assert (whole.decision_function(texts) != model.decision_function(texts)).nnz == 0


def test_ensemble_numbered_labels_keep_their_numbers():
    tags = [(10 + 7 * Y[[row]].indices).tolist() for row in range(Y.shape[0])]
    known = LightXMLEnsemble([("words", OmikujiClassifier())]).fit(X, tags).classes_
    assert known.max() > 30
    model = ensemble(validation_fraction=0.3).fit(X, tags)
    np.testing.assert_array_equal(model.classes_, known)


def test_ensemble_validation_data_is_used_to_learn_fusion():
    fitted = [
        (name, FrozenEstimator(clone(member).fit(X, Y))) for name, member in ensemble().estimators
    ]
    model = LightXMLEnsemble(fitted, fusion="learned", random_state=0)
    model.fit(X, Y, validation_data=(X[:40], Y[:40]))
    scores = [m.decision_function(X, top_k=30) for _, m in fitted]
    by_hand = LearnedFusion(sparse.csr_array(Y), model._fusion.random_state)
    by_hand.fit([s[:40] for s in scores], Y.tocsr()[:40])
    np.testing.assert_array_equal(model.decision_function(X).toarray(), by_hand(scores).toarray())


def test_ensemble_label_names_match_columns_of_frozen_members():
    names = np.array([f"n{i:02d}" for i in range(30)])
    members = [
        (name, FrozenEstimator(clone(member).fit(X, Y, label_names=names)))
        for name, member in ensemble().estimators
    ]
    model = LightXMLEnsemble(members, fusion="learned", random_state=0).fit(X, Y, label_names=names)
    order = np.random.default_rng(0).permutation(30)
    other = clone(model).fit(X, Y.tocsc()[:, order], label_names=names[order])
    assert (other.decision_function(X) != model.decision_function(X)).nnz == 0


@pytest.mark.parametrize("names", ["the same", "one of another name", "only some", "none of them"])
def test_ensemble_collections_match_labels_of_frozen_members(names):
    """The learned fusion does not depend on which of the known labels the texts have."""
    tags = [[f"n{label:02d}" for label in Y[[row]].indices] for row in range(Y.shape[0])]
    members = [
        (name, FrozenEstimator(clone(member).fit(X, tags)))
        for name, member in ensemble().estimators
    ]
    members[0] = (members[0][0], make_pipeline(FunctionTransformer(list), members[0][1]))
    model = LightXMLEnsemble(members, fusion="learned", random_state=0)
    given = {
        "the same": tags,
        "one of another name": [["zz" if tag == "n00" else tag for tag in row] for row in tags],
        "only some": [[tag for tag in row if tag < "n20"] for row in tags],
        "none of them": [["other"]] * len(tags),
    }[names]
    if names == "none of them":
        with pytest.raises(ValueError, match=r"^Members and y differ in their labels: 25 and 1 "):
            model.fit(X, given)
        return
    model.fit(X, given, validation_data=(X[:40], tags[:40]))
    if names == "one of another name":  # counts differ, but examples are the same
        same = clone(model).fit(X, tags, validation_data=(X[:40], tags[:40]))
        found, expected = (m.decision_function(X).toarray() for m in (model, same))
        assert np.abs(found - expected).mean() < 0.01
    assert model.classes_.tolist() == sorted({tag for row in tags for tag in row})
    assert model.score(X[40:], tags[40:]) > 0.5
    with pytest.raises(ValueError, match=r"^Members and y differ in their labels: 25 and 30 "):
        model.fit(X, Y)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_ensemble_members_that_ignore_label_names_are_an_error():
    """Otherwise their columns would be read as labels of those numbers."""
    tags = [(1 + Y[[row]].indices).tolist() for row in range(Y.shape[0])]
    words = make_pipeline(TfidfVectorizer(), MLPClassifier(4, max_iter=1))
    model = LightXMLEnsemble([("a", words), ("b", clone(words))], fusion="learned", random_state=0)
    with pytest.raises(ValueError, match=r"^Members and y differ in their labels: at position 0 "):
        model.fit(X, tags)


def test_ensemble_learned_fusion_keeps_conventions():
    model = ensemble(validation_fraction=0.3).fit(X, Y, label_names=[f"l{i}" for i in range(30)])
    assert_same_predictions(pickle.loads(pickle.dumps(model)), model)
    top = model.predict_topk(X, 30)
    assert all(len(set(row)) == 30 for row in top.labels)
    assert (np.diff(top.scores) <= 0).all()
    assert (top.scores > 0).all()
    assert (top.scores <= 1).all()
    scores = model.decision_function(X)
    np.testing.assert_allclose(-np.sort(-scores.toarray(), axis=1)[:, :5], top.scores[:, :5])
    again = ensemble(validation_fraction=0.3).set_params(words="drop").fit(X, Y)
    assert_same_predictions(
        again.estimators_[0], clone(dict(again.estimators)["language"]).fit(X, Y)
    )
    np.testing.assert_array_equal(
        again.decision_function(X).toarray(),
        again.estimators_[0].decision_function(X, top_k=30).toarray(),
    )
    assert_same_predictions(again, clone(again).fit(X, Y))
    model.set_params(fusion="mean").fit(X, Y)
    language, words = (m.decision_function(X, top_k=30) for m in model.estimators_)
    np.testing.assert_allclose(
        model.decision_function(X).toarray(), (language + words).toarray() / 2, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("n_texts", "n_held_out"),
    [(500, 100), (1_000, 200), (3_000, 200), (4_000, 200), (20_000, 1_000), (40_024, 2_000)],
)
def test_auto_validation_fraction_by_size_holds_out_n_texts(n_texts, n_held_out):
    """40,024 * (2,000 / 40,024) is 2,000.0000000000002, which must not become 2,001."""
    labels = check_labels(np.ones((n_texts, 1)), n_texts=n_texts)
    fraction = auto_validation_fraction(n_texts)
    *_, (texts, of_texts) = hold_out(["a text"] * n_texts, labels, None, fraction, 0)
    assert len(texts) == of_texts.matrix.shape[0] == n_held_out


@pytest.mark.parametrize(("fraction", "n_held_out"), [("auto", 13), (0.5, 32)])
def test_ensemble_validation_fraction_sets_training_size(fraction, n_held_out):
    model = ensemble(validation_fraction=fraction)
    model.set_params(language__batch_size=1).fit(X, Y)
    assert model.estimators_[0].history_[0]["n_steps"] == 64 - n_held_out
