"""OmikujiClassifier: training, labels and scores, and the conventions of scikit-learn."""

import copy

import numpy as np
import pandas as pd
import pytest
from omikuji_examples import WITHOUT_TEXT, X, Y, assert_same
from scipy import sparse
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_param_validation

import skxmc
from skxmc import OmikujiClassifier, _omikuji
from skxmc._storage import cache
from skxmc.metrics import precision_at_k, precision_at_k_scorer

omikuji = pytest.importorskip("omikuji")


@pytest.fixture(scope="module")
def clf():
    """Fit a model several layers deep. It is shared: copy it before changing it."""
    return OmikujiClassifier(min_branch_size=4, beam_size=2).fit(X, Y)


# ---------------------------------------------------------------- fit


def test_predict_in_blocks_gives_same_scores(clf, monkeypatch):
    whole, best = clf.decision_function(X), clf.predict_topk(X, 5)
    monkeypatch.setattr(_omikuji, "TEXT_BLOCK", 7)
    chunked = clf.decision_function(X)
    assert (whole != chunked).nnz == 0
    np.testing.assert_array_equal(clf.predict_topk(X, 5).labels, best.labels)


def test_fit_learns_the_best_label_of_most_texts(clf):
    best = clf.predict_topk(X, 1)
    assert precision_at_k(Y, best, k=1) > 0.9
    assert clf.score(X, Y) == precision_at_k(Y, best, k=1)


def test_fit_sets_fitted_attributes(clf):
    np.testing.assert_array_equal(clf.classes_, np.arange(60))
    assert clf.n_labels_ == 60
    assert isinstance(clf.model_, omikuji.Model)
    assert clf.model_.n_trees == 3
    assert isinstance(clf.vectorizer_, TfidfVectorizer)
    assert clf.model_.n_features == len(clf.vectorizer_.vocabulary_)


@pytest.mark.parametrize("loss", ["hinge", "log"])
def test_fit_passes_parameters_to_omikuji(monkeypatch, loss):
    seen = {}

    def train(path, settings, n_threads):
        seen.update({name: getattr(settings, name) for name in dir(settings)}, threads=n_threads)
        raise KeyboardInterrupt

    monkeypatch.setattr(omikuji.Model, "train_on_data", train)
    with pytest.raises(KeyboardInterrupt):
        OmikujiClassifier(
            n_trees=2,
            C=0.5,
            loss=loss,
            min_branch_size=7,
            collapse_every_n_layers=3,
            weight_threshold=0.25,
            n_jobs=2,
        ).fit(X, Y)
    expected = {
        "n_trees": 2,
        "linear_c": 0.5,
        "linear_loss_type": {"hinge": 0, "log": 1}[loss],
        "min_branch_size": 7,
        "collapse_every_n_layers": 3,
        "linear_weight_threshold": 0.25,
        "threads": 2,
    }
    assert {name: seen[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("weights", "counts", "C"), [([0, 1, 2], [0, 1, 2], 1.5), ([0.5, 1, 0], [1, 2, 0], 0.75)]
)
def test_fit_weights_are_copies_of_texts(monkeypatch, weights, counts, C):
    """Label texts have weight 1."""
    seen = []

    def train(features, y, settings, *rest):
        seen.append([features.toarray(), y.toarray(), settings.linear_c])
        raise KeyboardInterrupt

    monkeypatch.setattr(_omikuji, "train_model", train)
    rows = np.repeat(np.arange(300), np.tile(counts, 100))
    about = {5: "zyzzyva"}
    n_about = round(1.5 / C)
    copied = [X[i] for i in rows] + ["zyzzyva"] * n_about
    y = sparse.vstack([Y[rows], sparse.csr_array(np.tile(np.arange(60) == 5, (n_about, 1)))])
    for texts, labels, given in (
        (X, Y, {"sample_weight": np.tile(weights, 100), "label_texts": about}),
        (copied, y, {}),
    ):
        with pytest.raises(KeyboardInterrupt):
            OmikujiClassifier(C=1.5).fit(texts, labels, **given)
    (features, labels, found), (expected, of_copies, _) = seen
    np.testing.assert_array_equal(features, expected)
    np.testing.assert_array_equal(labels, of_copies)
    assert found == pytest.approx(C)


def test_fit_heavy_texts_do_not_exceed_largest_C(monkeypatch):
    seen = []
    monkeypatch.setattr(_omikuji, "train_model", lambda *data: seen.append(data[2].linear_c))
    OmikujiClassifier(C=2).fit(X, Y, sample_weight=[1e30] * 300)
    assert seen == [1e6]


def test_default_parameters_equal_those_of_omikuji_except_collapsed_layers():
    defaults, params = omikuji.Model.default_hyper_param(), OmikujiClassifier().get_params()
    for ours, theirs in {
        "n_trees": "n_trees",
        "C": "linear_c",
        "min_branch_size": "min_branch_size",
        "weight_threshold": "linear_weight_threshold",
    }.items():
        assert params[ours] == pytest.approx(getattr(defaults, theirs))
    assert omikuji.LossType[params["loss"].upper()].value == defaults.linear_loss_type
    assert params["collapse_every_n_layers"] == 5
    assert defaults.collapse_every_n_layers == 0


def test_fit_learns_from_label_texts():
    names = ["cat", "dog", "zebra"]
    y = [["cat"], ["dog"], ["cat", "zebra"]] * 5
    texts = ["meow purr", "bark growl", "purr hoof"] * 5
    clf = OmikujiClassifier().fit(texts, y, label_texts=[None, "", "stripes"])
    assert "stripes" in clf.vectorizer_.vocabulary_
    assert clf.classes_.tolist() == names
    assert clf.predict_topk(["stripes"], 1).labels.tolist() == [["zebra"]]
    with pytest.raises(ValueError, match="label_texts has 2 entries, but there are 3 labels"):
        OmikujiClassifier().fit(texts, y, label_texts=["a", "b"])


def test_fit_takes_all_forms_of_texts_and_labels():
    lists = [[f"tag {column}" for column in row.indices] for row in Y]
    frame = pd.DataFrame(Y.toarray(), columns=[f"tag {i}" for i in range(60)])
    for texts, y, names in (
        (tuple(X), lists, None),
        (np.array(X), Y.toarray(), list(frame.columns)),
        (pd.Series(X), frame, None),
        (X, sparse.lil_matrix(Y), np.array(frame.columns)),
    ):
        clf = OmikujiClassifier(n_trees=1).fit(texts, y, label_names=names)
        assert set(clf.classes_) <= set(frame.columns)
        assert clf.predict_topk(texts, 1).labels[0, 0] in frame.columns


def test_fit_clones_the_given_vectorizer():
    vectorizer = CountVectorizer(ngram_range=(1, 2))
    clf = OmikujiClassifier(vectorizer=vectorizer).fit(X, Y)
    assert not hasattr(vectorizer, "vocabulary_")
    assert max(len(word.split()) for word in clf.vectorizer_.vocabulary_) == 2
    clf.set_params(vectorizer=HashingVectorizer(n_features=1000)).fit(X, Y)
    assert clf.model_.n_features == 1000
    assert clf.score(X, Y) > 0.8


def test_fit_tfidf_returns_the_vectorizer_of_its_features():
    for texts, shape in ((["?!", "!-", ""], (3, 3)), (["?! word", ""], (2, 1)), (["", ""], (2, 1))):
        vectorizer, features = cache.fit_tfidf(texts)
        assert features.shape == shape
        assert features.dtype == np.float32
        assert (vectorizer.transform(texts) != features).nnz == 0


# ---------------------------------------------------------------- predict_topk


@pytest.mark.parametrize("k", [1, 5, 57, 60, np.int64(3)])
def test_predict_topk_returns_exactly_k_labels_best_first(clf, k):
    labels, scores = clf.predict_topk([*X, "", "unheard-of"], k)
    assert labels.shape == scores.shape == (302, k)
    assert scores.dtype == np.float32
    assert (scores > 0).all()
    assert (scores <= 1).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == k for row in labels.tolist())


def test_predict_topk_narrow_beam_is_widened(clf):
    n_recalled = np.diff(clf.decision_function(X).indptr)
    k = int(n_recalled.min()) + 5
    scores = clf.predict_topk(X, k).scores
    assert (scores > _omikuji.MIN_SCORE).all()


def test_predict_topk_labels_without_texts_come_last(clf):
    assert WITHOUT_TEXT[:3] == [0, 1, 2]
    labels, scores = clf.predict_topk(X, 60)
    n_known = 60 - len(WITHOUT_TEXT)
    assert set(labels[:, n_known:].ravel().tolist()) == set(WITHOUT_TEXT)
    assert (scores[:, n_known:] == np.finfo(np.float32).tiny).all()
    assert (scores[:, n_known - 1] >= scores[:, n_known]).all()


def test_predict_topk_fills_up_with_frequent_labels(clf, monkeypatch):
    blind = copy.copy(clf)
    monkeypatch.setattr(blind, "_beam", lambda *_: (np.array([7]), np.array([0.5], np.float32)))
    counts = np.bincount(Y.indices, minlength=60)
    expected = [column for column in np.argsort(-counts, kind="stable") if column != 7]
    assert blind.predict_topk(["a"], 60).labels.tolist() == [[7, *expected]]


def test_predict_topk_returns_best_of_decision_function(clf):
    wide = copy.deepcopy(clf).set_params(beam_size=100)
    stored = wide.decision_function(X).toarray()
    for k in (1, 5, 20):
        labels, scores = wide.predict_topk(X, k)
        np.testing.assert_array_equal(np.take_along_axis(stored, labels, axis=1), scores)
        expected = np.argsort(-stored, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(labels, expected)


def test_predict_topk_equal_scores_rank_by_lower_column():
    # Without weights all scores are equal, and omikuji returns them in any order.
    clf = OmikujiClassifier(weight_threshold=1e9, beam_size=40)
    clf.fit(["a b c", "words here"], np.ones((2, 40)))
    for k in (1, 3, 15, 40):
        labels, scores = clf.predict_topk(["words", ""], k)
        assert labels.tolist() == [list(range(k))] * 2
        assert len(np.unique(scores)) == 1


def test_decision_function_wider_beam_set_after_fit_recalls_more(clf):
    narrow, wide = copy.deepcopy(clf), copy.deepcopy(clf)
    n_narrow = narrow.set_params(beam_size=1).decision_function(X).nnz
    n_wide = wide.set_params(beam_size=10**18).decision_function(X).nnz
    assert n_narrow < n_wide == 300 * (60 - len(WITHOUT_TEXT))


# ---------------------------------------------------------------- decision_function, predict


def test_decision_function_returns_canonical_scores_in_0_to_1(clf):
    scores = clf.decision_function(X)
    assert isinstance(scores, sparse.csr_matrix)
    assert scores.shape == (300, 60)
    assert scores.dtype == np.float32
    assert 0 < scores.nnz < 300 * 57
    assert (scores.data > 0).all()
    assert (scores.data <= 1).all()
    assert scores.has_canonical_format
    assert (clf.predict_proba(X) != scores).nnz == 0


@pytest.mark.parametrize("k", [1, 4, 60])
def test_decision_function_top_k_keeps_labels_of_predict_topk(clf, k):
    stored = clf.decision_function(X, top_k=k)
    best = clf.predict_topk(X, k)
    assert set(np.diff(stored.indptr)) == {k}
    expected = np.zeros((300, 60), dtype=np.float32)
    np.put_along_axis(expected, best.labels, best.scores, axis=1)
    np.testing.assert_array_equal(stored.toarray(), expected)


def test_decision_function_returns_all_recalled_labels():
    y = sparse.csr_array(sparse.identity(1500))
    clf = OmikujiClassifier(n_trees=1, min_branch_size=2000, beam_size=1500)
    clf.fit([f"w{i}" for i in range(1500)], y)
    assert clf.decision_function(["w7"]).nnz == 1500


def test_predict_returns_labels_from_the_threshold_on(clf):
    predicted = clf.predict(X)
    assert predicted.dtype == np.int64
    assert predicted.shape == (300, 60)
    scores = clf.decision_function(X).toarray()
    np.testing.assert_array_equal(predicted.toarray(), scores >= clf.threshold)
    assert 0 < predicted.nnz == predicted.sum()
    assert clf._recall(X, None, clf.threshold)[0].size == predicted.nnz  # lower scores are dropped
    everything = copy.copy(clf).set_params(threshold=0.0).predict(X)
    assert everything.nnz == clf.decision_function(X).nnz


def test_predict_no_texts_returns_empty_results(clf):
    assert clf.predict_topk([], 3).labels.shape == (0, 3)
    assert clf.decision_function([]).shape == (0, 60)
    assert clf.predict([]).shape == (0, 60)


def test_decision_function_scores_each_text_independently(clf):
    together = clf.decision_function(X[:20])
    alone = sparse.vstack([clf.decision_function([text]) for text in X[:20]])
    assert (together != alone).nnz == 0
    threaded = copy.deepcopy(clf).set_params(n_jobs=2)
    assert_same(threaded, clf)


def test_predict_runs_n_jobs_threads(clf, monkeypatch):
    class Noting:
        n_features = clf.model_.n_features
        predict = clf.model_.predict

        def init_prediction_thread_pool(self, n_threads):
            self.n_threads = n_threads

    monkeypatch.setattr(_omikuji, "clip_jobs", lambda n_jobs: n_jobs)
    threaded = copy.copy(clf).set_params(n_jobs=3)
    threaded.model_ = Noting()
    assert_same(threaded, clf)
    assert threaded.model_.n_threads == 3


# ---------------------------------------------------------------- scikit-learn


def test_clone_copies_parameters_but_not_the_model(clf):
    params = {"vectorizer": TfidfVectorizer(min_df=2), "C": 2.0, "loss": "log"}
    original = OmikujiClassifier(**params)
    assert repr(original) == (
        "OmikujiClassifier(C=2.0, loss='log', vectorizer=TfidfVectorizer(min_df=2))"
    )
    cloned = clone(original)
    assert cloned.get_params(deep=False).keys() == original.get_params(deep=False).keys()
    assert cloned.vectorizer is not original.vectorizer
    assert cloned.set_params(vectorizer__min_df=3).vectorizer.min_df == 3
    assert not hasattr(clone(clf), "model_")


def test_tags_describe_a_multilabel_text_classifier():
    tags = get_tags(OmikujiClassifier())
    assert tags.estimator_type == "classifier"
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert tags.classifier_tags.multi_label
    assert tags.non_deterministic
    assert not tags.no_validation


def test_parameters_of_wrong_type_are_refused():
    class Adapter(OmikujiClassifier):
        def fit(self, X, y):
            return super().fit(["a"] * len(X), [["x"]] * len(X))

        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.target_tags.two_d_labels = False  # if True, sklearn passes no X
            return tags

    check_param_validation("Adapter", Adapter())


def test_grid_search_over_omikuji_predicts_topk():
    search = GridSearchCV(
        OmikujiClassifier(n_trees=1),
        {"C": [0.1, 1.0], "vectorizer": [None, TfidfVectorizer(ngram_range=(1, 2))]},
        scoring=precision_at_k_scorer(k=3),
        cv=KFold(2),
    ).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert skxmc.predict_topk(search, X, 3).labels.shape == (300, 3)
