"""NeighborsClassifier: the vote, added texts and labels, encoders, and scikit-learn's habits."""

import copy
import pickle
import threading
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from classifier_fixtures import dataset, encoder_path, fitted, make_classifier
from property_checks import assert_sound_predictions
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize

import skxmc
from skxmc import LightXMLEnsemble, NeighborsClassifier, OmikujiClassifier, TextEncoder
from skxmc._model.encoder import encoder_source
from skxmc._nearest.exact import ExactKeys, nearest, unit_rows
from skxmc._nearest.kernel_ridge import kernel_ridge_weights
from skxmc._neighbors import MIN_VOTE
from skxmc.metrics import precision_at_k, precision_at_k_scorer

rng = np.random.default_rng(0)
N, N_LABELS, WIDTH = 60, 12, 5
VECTORS = rng.normal(size=(N, WIDTH)).round(3)
Y = sparse.csr_array((rng.random((N, N_LABELS)) < 0.2) & (np.arange(N_LABELS) > 1))  # 0, 1: no text


def as_texts(vectors):
    """Write each vector as a text, which `read` reads again."""
    return [" ".join(map(str, row)) for row in np.asarray(vectors).tolist()]


def read(texts):
    return np.array([[float(word) for word in text.split()] for text in texts], np.float32)


X = as_texts(VECTORS)
NEW = as_texts(rng.normal(size=(7, WIDTH)).round(3))


def make(**params):
    return NeighborsClassifier(FunctionTransformer(read), **params)


@pytest.fixture(scope="module")
def clf():
    """Return a shared fitted classifier. Copy it before changing it."""
    return make(n_neighbors=8, temperature=0.4).fit(X, Y)


def votes_by_hand(vectors, n_neighbors, temperature, alpha):
    """Fit scikit-learn's regression to the neighbors of each text."""
    keys = normalize(VECTORS - VECTORS.mean(axis=0))
    scores = np.zeros((len(vectors), N_LABELS))
    for row, vector in enumerate(normalize(vectors - VECTORS.mean(axis=0))):
        near = np.argsort(-keys @ vector, kind="stable")[:n_neighbors]
        kernel = np.exp((keys[near] @ keys[near].T - 1) / temperature)
        regression = KernelRidge(alpha=alpha, kernel="precomputed")
        regression.fit(kernel, Y.toarray()[near])
        scores[row] = regression.predict(np.exp((keys[near] @ vector - 1) / temperature)[None])[0]
    return scores.clip(0, 1)


# ---------------------------------------------------------------- the vote


@pytest.mark.parametrize(
    ("n_neighbors", "temperature", "alpha"), [(1, 0.05, 0.3), (8, 0.4, 0.1), (60, 1, 2)]
)
def test_decision_function_is_kernel_ridge_regression(clf, n_neighbors, temperature, alpha):
    clf = copy.copy(clf).set_params(n_neighbors=n_neighbors, temperature=temperature, alpha=alpha)
    scores = clf.decision_function(NEW)
    expected = votes_by_hand(read(NEW), n_neighbors, temperature, alpha)
    np.testing.assert_allclose(scores.toarray(), expected, atol=1e-5)
    assert scores.data.min() >= MIN_VOTE


WEIGHTS = np.arange(N) % 3.0
TWICE = np.repeat(np.arange(N), WEIGHTS.astype(int))


def test_fit_weights_are_copies_of_texts():
    """All texts vote, so those of weight 2 are among the neighbors twice."""
    params = {"n_neighbors": 200, "temperature": 0.4}
    about = ["1 2 3 4 5"] + [None] * (N_LABELS - 1)
    clf = make(**params).fit(X, Y, sample_weight=WEIGHTS, label_texts=about)
    copies = make(**params).fit([X[i] for i in TWICE], Y[TWICE], label_texts=about)
    for add in (False, True):
        if add:
            clf.partial_fit(X[:9], Y[:9])
            copies.partial_fit(X[:9], Y[:9])
        scores = clf.decision_function(NEW).toarray()
        np.testing.assert_allclose(scores, copies.decision_function(NEW).toarray(), atol=1e-5)
    assert clf.n_samples_fit_ == 40 + 1 + 9
    plain = make(**params).fit(X, Y, label_texts=about).decision_function(NEW).toarray()
    assert np.abs(scores - plain).max() > 0.05


def test_loaded_classifier_keeps_weights(tmp_path):
    texts, y = dataset()
    clf = NeighborsClassifier(TextEncoder(encoder_path(), max_length=32))
    clf.fit(texts, y, sample_weight=np.arange(64) + 1)
    scores = clf.decision_function(texts).toarray()
    clf.save_pretrained(tmp_path)
    for loaded in (skxmc.from_pretrained(tmp_path), pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(loaded.decision_function(texts).toarray(), scores)


def test_fit_text_of_any_weight_takes_one_place_among_the_neighbors():
    weights = np.linspace(1, 9, N)
    clf = make(n_neighbors=3).fit(X, Y, sample_weight=weights)
    (rows,), (cosines,) = clf._keys.nearest(clf._represent(NEW[:1]), 3)
    keys = clf._keys.vectors(rows)
    regression = KernelRidge(alpha=0.1, kernel="precomputed")
    kernel = np.exp((keys @ keys.T - 1) / 0.5)
    regression.fit(kernel, Y.toarray()[rows], sample_weight=weights[rows])
    expected = regression.predict(np.exp((cosines - 1) / 0.5)[None])
    scores = clf.decision_function(NEW[:1]).toarray()
    np.testing.assert_allclose(scores, expected.clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("scale", [5e-324, 1e300])
def test_fit_extreme_weights_predict_soundly(scale):
    """Each text is there twice, which a weak regularization leaves without a solution."""
    weights = np.where(np.arange(2 * N) % 2, 1.0, scale)
    clf = make().fit([*X, *X], sparse.vstack([Y, Y]), sample_weight=weights)
    assert_sound_predictions(clf, [*NEW, *X], 3)


class Weighing(FunctionTransformer):
    def fit(self, X, y=None, sample_weight=None):
        self.weights_ = sample_weight
        return super().fit(X)


def test_fit_encoder_that_takes_weights_gets_them():
    clf = NeighborsClassifier(Weighing(read)).fit(X, Y, sample_weight=WEIGHTS)
    np.testing.assert_array_equal(clf.encoder_.weights_, WEIGHTS[WEIGHTS > 0])
    assert NeighborsClassifier(Weighing(read)).fit(X, Y).encoder_.weights_ is None


@pytest.mark.parametrize("max_numbers", [1, 3 * 8 * 8, 10**9])
def test_kernel_ridge_weights_blocks_of_any_size_give_the_same(clf, max_numbers):
    rows, cosines = clf._keys.nearest(clf._represent(NEW), 8)
    params = {"temperature": 0.4, "alpha": 0.1}
    weights = kernel_ridge_weights(clf._keys, rows, cosines, max_numbers=max_numbers, **params)
    expected = kernel_ridge_weights(clf._keys, rows, cosines, **params)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)


def test_decision_function_neighbors_that_are_alike_share_one_vote():
    """Of three texts at the same angle, two are equal."""
    clf = make(n_neighbors=3, alpha=1e-3).fit(["0 1"] * 2 + ["1 0", "-1 -2"], [[0], [0], [1], [2]])
    scores = clf.decision_function(["1 1"]).toarray()[0]
    assert scores[0] < 1.05 * scores[1]


def test_predictions_are_sound(clf):
    for k in (1, 5, N_LABELS):
        assert_sound_predictions(clf, [*NEW, *X], k)
    assert_sound_predictions(clf, [], 3)


def test_predict_topk_fills_up_with_frequent_labels(clf):
    labels, scores = copy.copy(clf).set_params(n_neighbors=1).predict_topk(NEW, N_LABELS)
    counts = Y.sum(axis=0)
    for row, of_row in enumerate(scores):
        filled = labels[row, of_row < MIN_VOTE].tolist()
        assert len(filled) >= N_LABELS - 6
        assert filled == sorted(filled, key=lambda column: (-counts[column], column))
        assert filled[-2:] == [0, 1]


def test_decision_function_equal_cosines_prefer_first_text():
    y = np.eye(6)
    for texts in (["1 0"] * 3 + ["0 1"] * 3, ["1 0", "0 1"] * 3):
        scores = make(n_neighbors=2).fit(texts, y).decision_function(["2 0"])
        first, second = [row for row, text in enumerate(texts) if text == "1 0"][:2]
        assert scores.indices.tolist() == [first, second]
        # Minus the mean, the cosine is that of (3, -1) and (1, -1).
        kernel = np.exp((np.sqrt(0.8) - 1) / 0.5)
        np.testing.assert_allclose(scores.data, kernel / 2.1, rtol=1e-6)


def test_predict_topk_lowest_temperature_follows_the_nearest(clf):
    nearest_only = copy.copy(clf).set_params(n_neighbors=1).decision_function(NEW).toarray()
    for temperature in (1e-4, 1e-300, 5e-324):
        cold = copy.copy(clf).set_params(temperature=temperature)
        assert_sound_predictions(cold, NEW, 3)
        scores = cold.decision_function(NEW).toarray()
        has_vote = scores >= scores.max(axis=1, keepdims=True) / 100
        np.testing.assert_array_equal(has_vote, nearest_only > 0)


def test_kernel_ridge_weights_products_above_1_count_as_1():
    """In float32, products of equal vectors may be above 1, which a low temperature magnifies."""
    keys = ExactKeys(np.full((2, 1), 1.0000001, dtype=np.float32))
    rows, products = keys.nearest(keys.values[:1], 2)
    assert products.min() > 1
    weights = kernel_ridge_weights(keys, rows, products, temperature=5e-324, alpha=1)
    np.testing.assert_allclose(weights, 1 / 3, rtol=1e-6)


def test_decision_function_high_temperature_counts_neighbors(clf):
    hot = copy.copy(clf).set_params(temperature=10**400, n_neighbors=10**30, alpha=0.3)
    expected = np.tile(Y.sum(axis=0) / (N + 0.3), (len(NEW), 1))
    np.testing.assert_allclose(hot.decision_function(NEW).toarray(), expected, atol=1e-4)


@pytest.mark.parametrize(("query_block", "key_block"), [(1, 1), (3, 7), (100, 13), (2, 100)])
def test_nearest_any_block_sizes_find_the_same(query_block, key_block):
    keys = rng.integers(-2, 3, size=(50, 3)).astype(np.float32)  # with ties
    queries = rng.integers(-2, 3, size=(9, 3)).astype(np.float32)
    for n in (1, 5, 50):
        rows, products = nearest(queries, keys, n, query_block=query_block, key_block=key_block)
        every = queries @ keys.T
        expected = np.argsort(-every, axis=1, kind="stable")[:, :n]
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(products, np.take_along_axis(every, expected, axis=1))


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_unit_rows_any_scale_have_length_1(scale):
    rows = unit_rows(np.array([[3, 4], [0, 0], [-5, 0]]) * scale, np.zeros(2))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-6)
    assert rows.dtype == np.float32


@pytest.mark.parametrize("alpha", [5e-324, 1, 10**400])
def test_fit_one_text_or_equal_texts_predicts_their_labels(alpha):
    for texts in (["1 2"], ["1 2", "1 2"]):
        clf = make(alpha=alpha).fit(texts, [["a"]] * len(texts))
        assert_sound_predictions(clf, ["3 -4", "1 2"], 1)


def test_fit_label_texts_vote_for_their_label():
    y = [["cat"], ["dog"], ["cat", "zebra"]]
    texts = ["1 0 0", "0 1 0", "1 1 0"]
    clf = make(n_neighbors=1).fit(texts, y, label_texts=[None, "", "0 0 5"])
    assert clf.n_samples_fit_ == 4
    assert clf.predict_topk(["0 0 9"], 1).labels.tolist() == [["zebra"]]
    assert clf.decision_function(["0 0 9"]).nnz == 1


# ---------------------------------------------------------------- partial_fit


def test_partial_fit_halves_with_the_same_mean_equal_one_fit(clf):
    """The mean is that of fit, so the first half is made to have the mean of all."""
    half = N // 2
    vectors = VECTORS - np.repeat([VECTORS[:half].mean(0), VECTORS[half:].mean(0)], half, axis=0)
    vectors = np.round(vectors, 6)
    texts = as_texts(vectors)
    whole = make().fit(texts, Y)
    parts = make().fit(texts[:half], Y[:half])
    for rows in (slice(half, half + 1), slice(half + 1, N)):
        assert parts.partial_fit(texts[rows], Y[rows]) is parts
    assert parts.n_samples_fit_ == whole.n_samples_fit_ == N
    np.testing.assert_allclose(
        parts.decision_function(NEW).toarray(), whole.decision_function(NEW).toarray(), atol=1e-4
    )
    np.testing.assert_allclose(parts._keys.values, whole._keys.values, atol=1e-5)


def test_partial_fit_same_keys_give_same_scores_to_the_bit():
    rows = [slice(0, 20), slice(20, 21), slice(21, 45), slice(45, N)]
    parts = make().fit(X[rows[0]], Y[rows[0]])
    for part in rows[1:]:
        parts.partial_fit(X[part], Y[part])
    whole = make().fit(X, Y)
    whole._mean = parts._mean
    whole._keys = ExactKeys(unit_rows(read(X), parts._mean))
    difference = parts.decision_function(NEW) != whole.decision_function(NEW)
    assert difference.nnz == 0
    filled, expected = (c.set_params(n_neighbors=1).predict_topk(NEW, 12) for c in (parts, whole))
    np.testing.assert_array_equal(filled.labels, expected.labels)
    np.testing.assert_array_equal(filled.scores, expected.scores)


def test_partial_fit_new_labels_are_predicted_at_once():
    clf = make(n_neighbors=2).fit(["1 0 0", "0 1 0"], [["b"], ["a"]])
    clf.partial_fit(["0 0 9", "0 1 5"], [["zoo"], ["a", "m"]])
    assert clf.classes_.tolist() == ["a", "b", "m", "zoo"]
    assert clf.n_labels_ == 4
    assert clf.predict_topk(["0 0 1"], 1).labels.tolist() == [["zoo"]]
    frame = pd.DataFrame([[1, 0]], columns=["late", "a"])
    clf.partial_fit(["-1 -7 0"], frame)
    assert clf.classes_.tolist() == ["a", "b", "m", "zoo", "late"]
    assert clf.predict_topk(["-1 -7 0"], 1).labels.tolist() == [["late"]]
    clf.partial_fit(["-9 0 1"], np.array([[1]]), label_names=["named"])
    assert clf.predict_topk(["-9 0 1"], 1).labels.tolist() == [["named"]]
    assert_sound_predictions(clf, ["0 0 1", "1 1 1"], 6)


def test_partial_fit_matrix_has_the_columns_of_classes(clf):
    grown = copy.copy(clf).partial_fit(NEW, np.eye(7, N_LABELS))
    assert grown.n_samples_fit_ == N + 7
    assert grown.predict_topk(NEW, 1).labels[:, 0].tolist() == list(range(7))
    with pytest.raises(ValueError, match="y has 3 columns, but there are 12 classes"):
        grown.partial_fit(NEW, np.ones((7, 3)))
    with pytest.raises(ValueError, match="y has labels of type str"):
        grown.partial_fit(NEW[:1], [["a"]])
    assert grown.n_samples_fit_ == N + 7


@pytest.mark.parametrize("y", [[[]], np.zeros((1, N_LABELS))])
def test_partial_fit_text_without_labels_votes_for_none(clf, y):
    grown = copy.copy(clf).set_params(n_neighbors=1).partial_fit(NEW[:1], y)
    np.testing.assert_array_equal(grown.classes_, clf.classes_)
    assert grown.decision_function(NEW[:1]).nnz == 0
    assert_sound_predictions(grown, NEW, 3)


def test_partial_fit_of_arrays_that_are_only_read(clf, tmp_path):
    """joblib.load(..., mmap_mode="r") shares the arrays of a file among processes."""
    joblib.dump((clf._keys, clf._columns), tmp_path / "arrays")
    mapped = copy.copy(clf)
    mapped._keys, mapped._columns = joblib.load(tmp_path / "arrays", mmap_mode="r")
    mapped.partial_fit(NEW[:1], [[]]).partial_fit(NEW[1:2], [[3]]).set_params(n_neighbors=1)
    assert mapped.predict_topk(NEW[1:2], 1).labels.tolist() == [[3]]


def test_partial_fit_without_fit_is_fit(clf):
    twin = make(n_neighbors=8, temperature=0.4).partial_fit(X, Y)
    assert (twin.decision_function(NEW) != clf.decision_function(NEW)).nnz == 0
    with pytest.raises(ValueError, match="n_neighbors"):
        make(n_neighbors=0).partial_fit(X, Y)


def test_partial_fit_encodes_only_the_new_texts():
    seen = []

    def noting(texts):
        seen.append(len(texts))
        return read(texts)

    clf = NeighborsClassifier(FunctionTransformer(noting)).fit(X, Y)
    clf.partial_fit(NEW, Y[:7])
    assert seen == [N, 7]


def test_partial_fit_of_copies_leaves_each_other_alone(clf):
    first = copy.copy(clf).partial_fit(NEW[:1], [[0]])
    second, third = copy.copy(first), copy.copy(first)
    room = first._keys._room
    second.partial_fit(NEW[1:2], [[0]])
    assert second._keys._room is room  # no copy of all rows
    third.partial_fit(NEW[2:3], [[1]])
    assert third._keys._room is not room
    assert second.predict_topk(NEW[1:2], 1).labels.tolist() == [[0]]
    assert third.predict_topk(NEW[2:3], 1).labels.tolist() == [[1]]
    assert [c.n_samples_fit_ for c in (clf, first, second, third)] == [N, N + 1, N + 2, N + 2]
    unpickled = pickle.loads(pickle.dumps(third))
    assert len(unpickled._keys._room) == N + 2
    assert (unpickled.decision_function(NEW) != third.decision_function(NEW)).nnz == 0


def test_partial_fit_in_threads_adds_all_texts(clf):
    shared = copy.deepcopy(clf)
    threads = [
        threading.Thread(target=shared.partial_fit, args=([text], [[row]]))
        for row, text in enumerate(NEW)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.n_samples_fit_ == N + 7
    shared.set_params(n_neighbors=1)
    assert shared.predict_topk(NEW, 1).labels[:, 0].tolist() == list(range(7))


# ---------------------------------------------------------------- encoders


@pytest.mark.slow
def test_fit_default_encoder_knows_meaning():
    tags = [["animals"], ["finance"], ["finance", "insurance"]]
    texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    clf = NeighborsClassifier().fit(texts, tags)
    assert isinstance(clf.encoder_, TextEncoder)
    clf.partial_fit(["heavy rain in the north"], [["weather"]])
    best = clf.predict_topk(["a dog on a rug", "shares rose", "storms and showers"], 1).labels
    assert best[:, 0].tolist() == ["animals", "finance", "weather"]


@pytest.mark.slow
@pytest.mark.parametrize("form", [str, Path])
def test_fit_encoder_name_is_a_text_encoder_of_that_name(form):
    folder = form(encoder_source("sentence-transformers/all-MiniLM-L6-v2"))
    clf = NeighborsClassifier(folder).fit(["the cat sat", "stocks fell"], [["a"], ["b"]])
    assert isinstance(clf.encoder_, TextEncoder)
    assert clf.encoder_.encoder == folder
    twin = pickle.loads(pickle.dumps(clf))
    assert twin.predict_topk(["cats", "stock"], 1).labels[:, 0].tolist() == ["a", "b"]


def test_fit_clones_the_encoder_but_not_a_frozen_one():
    given = TextEncoder(encoder_path(), max_length=32)
    clf = NeighborsClassifier(given).fit(["a b", "c"], [["x"], ["y"]])
    assert not hasattr(given, "network_")
    assert clf.encoder_ is not given
    frozen = FrozenEstimator(fitted("direct"))
    texts, y = dataset()
    clf = NeighborsClassifier(frozen).fit(texts, y)
    assert clf.encoder_.estimator is fitted("direct")
    assert precision_at_k(y, clf.predict_topk(texts, 1), k=1) > 0.9


def test_fit_unfitted_classifier_as_encoder_is_trained():
    texts, y = dataset()
    clf = NeighborsClassifier(make_classifier("direct", max_epochs=1)).fit(texts, y)
    np.testing.assert_array_equal(clf.encoder_.classes_, clf.classes_)
    assert_sound_predictions(clf, texts[:5], 5)


def test_fit_unfitted_classifier_as_encoder_knows_the_names_of_labels():
    texts, y = dataset()
    names = [f"tag {column}" for column in range(30)]
    encoder = make_classifier("direct", max_epochs=1, label_weight={"tag 3": 2.0})
    clf = NeighborsClassifier(make_pipeline(FunctionTransformer(list), encoder))
    clf.fit(texts, y, label_names=names)
    assert clf.encoder_[-1].classes_.tolist() == clf.classes_.tolist() == names


def test_fit_pipeline_encodes_each_text_once():
    seen = []

    def noting(texts):
        seen.append(len(texts))
        return read(texts)

    clf = NeighborsClassifier(make_pipeline(FunctionTransformer(noting), PCA(3))).fit(X, Y)
    assert seen == [N]
    shorter = FunctionTransformer(lambda texts: PCA(3).fit(VECTORS).transform(read(texts)))
    expected = NeighborsClassifier(shorter).fit(X, Y).decision_function(NEW).toarray()
    np.testing.assert_allclose(clf.decision_function(NEW).toarray(), expected, atol=1e-4)


@pytest.mark.parametrize("last", ["passthrough", None])
def test_fit_pipeline_whose_last_step_is_left_out(clf, last):
    """A grid may leave out a step: ``{"encoder__reduce": ["passthrough", PCA(9)]}``."""
    encoder = Pipeline([("read", FunctionTransformer(read)), ("reduce", last)])
    piped = NeighborsClassifier(encoder, n_neighbors=8, temperature=0.4)
    piped.fit(X, Y, sample_weight=np.ones(N))
    scores = piped.decision_function(NEW).toarray()
    np.testing.assert_allclose(scores, clf.decision_function(NEW).toarray(), atol=1e-6)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda texts: np.ones(len(texts)), "encoder gives an array of shape .3,. and dtype"),
        (lambda texts: np.ones((2, 2)), "shape .2, 2. and dtype float64 for 3 texts"),
        (lambda texts: np.ones((3, 0)), "one vector of numbers per text"),
        (lambda texts: np.full((3, 2), "a"), "one vector of numbers per text"),
        (lambda texts: np.full((3, 2), np.nan), "NaN or infinite. Use another encoder"),
    ],
)
def test_fit_encoder_without_vectors_raises_error(output, message):
    with pytest.raises(ValueError, match=message):
        NeighborsClassifier(FunctionTransformer(output)).fit(["a", "b", "c"], [["x"]] * 3)


def test_fit_encoder_of_sparse_rows_raises_error():
    encoder = FunctionTransformer(lambda texts: sparse.csr_array(np.eye(len(texts))))
    with pytest.raises(TypeError, match=r"sparse matrix.*Add a step: make_pipeline"):
        NeighborsClassifier(encoder).fit(["a", "b"], [["x"], ["y"]])


def test_predict_vectors_of_other_width_raise_error(clf):
    with pytest.raises(ValueError, match=r"width 2 now, and gave 5 in fit. Use"):
        clf.predict(["1 2"])
    with pytest.raises(ValueError, match=r"width 2 now, and gave 5 in fit. Use"):
        clf.partial_fit(["1 2"], [[0]])


# ---------------------------------------------------------------- scikit-learn


def test_clone_and_params_reach_the_encoder():
    clf = NeighborsClassifier(TextEncoder(encoder_path()), n_neighbors=3)
    twin = clone(clf).set_params(encoder__max_length=7, n_neighbors=4)
    assert (twin.encoder.max_length, clf.encoder.max_length) == (7, 128)
    assert (twin.n_neighbors, clf.n_neighbors) == (4, 3)


@pytest.mark.parametrize(
    ("name", "value"), [("n_neighbors", 0), ("temperature", 0.0), ("alpha", 0), ("threshold", 2)]
)
def test_predict_parameter_set_after_fit_out_of_range_raises_error(clf, name, value):
    with pytest.raises(ValueError, match=name):
        copy.copy(clf).set_params(**{name: value}).predict(NEW)


def test_grid_search_over_n_neighbors_predicts_topk_through_pipeline():
    pipeline = make_pipeline(FunctionTransformer(list), make())
    grid = {"neighborsclassifier__n_neighbors": [1, 5, 20]}
    scorer = precision_at_k_scorer(k=3)
    search = GridSearchCV(pipeline, grid, scoring=scorer, cv=KFold(2)).fit(X, Y)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    best = search.best_params_["neighborsclassifier__n_neighbors"]
    expected = make(n_neighbors=best).fit(X, Y).predict_topk(NEW, 3)
    np.testing.assert_array_equal(skxmc.predict_topk(search, NEW, 3).labels, expected.labels)


@pytest.mark.parametrize("fusion", ["mean", "learned"])
@pytest.mark.filterwarnings("ignore:Too few held-out texts")
def test_ensemble_of_neighbors_and_words_predicts(fusion):
    pytest.importorskip("omikuji")
    texts, y = dataset()
    near = NeighborsClassifier(TextEncoder(encoder_path(), max_length=32))
    members = [("near", near), ("words", OmikujiClassifier())]
    ensemble = LightXMLEnsemble(members, fusion=fusion, random_state=0).fit(
        texts, y, label_names=[f"label {column}" for column in range(30)]
    )
    assert_sound_predictions(ensemble, texts[:9], 5)
