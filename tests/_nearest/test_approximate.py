"""Approximate search of the nearest vectors, by itself and in `NeighborsClassifier`."""

import copy
import pickle
import sys

import numpy as np
import pytest
from property_checks import assert_sound_predictions
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer

from skxmc import NeighborsClassifier
from skxmc._nearest.approximate import MAX_TAIL, ApproximateKeys, is_approximate
from skxmc._nearest.exact import ExactKeys, nearest, unit_rows
from skxmc._utils import parallel

faiss = pytest.importorskip("faiss")

N, WIDTH, N_LABELS = 10_000, 16, 50
rng = np.random.default_rng(0)
CENTERS = rng.normal(size=(N_LABELS, WIDTH))


def draw(n):
    """Draw clustered vectors of length 1, and the cluster of each."""
    cluster_of = rng.integers(N_LABELS, size=n)
    return unit_rows(CENTERS[cluster_of] + rng.normal(size=(n, WIDTH)), np.zeros(WIDTH)), cluster_of


ROWS, LABELS = draw(N)
QUERIES, _ = draw(100)
ADDED, _ = draw(3)
MANY, _ = draw(MAX_TAIL)


def encode(texts):
    """Look up the vector of each text, which is its number. New ones follow those of fit."""
    return np.concatenate([ROWS, ADDED, QUERIES])[[int(text) for text in texts]]


X = [str(row) for row in range(N)]
Y = np.eye(N_LABELS, dtype=np.int8)[LABELS]
NEW = [str(N + row) for row in range(3)]
QUERY_TEXTS = [str(N + 3 + row) for row in range(100)]


def make(search="approximate"):
    return NeighborsClassifier(FunctionTransformer(encode), search=search)


@pytest.fixture(scope="module")
def keys():
    return ApproximateKeys.of(ROWS)


@pytest.fixture(scope="module")
def clf():
    """Return a shared fitted classifier. Copy it before changing it."""
    return make().fit(X, Y)


def assert_same_found(keys, twin):
    for found, expected in zip(keys.nearest(QUERIES, 20), twin.nearest(QUERIES, 20), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_nearest_finds_most_of_the_exact_ones_in_order(keys):
    rows, products = keys.nearest(QUERIES, 20)
    expected, _ = nearest(QUERIES, ROWS, 20)
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(rows, expected, strict=True)])
    assert 0.95 < recall < 1
    exact = np.einsum("qd,qnd->qn", QUERIES, ROWS[rows])
    np.testing.assert_allclose(products, exact, atol=0.02)
    assert (np.diff(products) <= 0).all()
    assert (rows.dtype, products.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("n", [N - 1, N])
def test_nearest_more_than_the_clusters_hold_finds_all_different(keys, n):
    rows, _ = keys.nearest(QUERIES[:2], n)
    assert rows.min() >= 0
    assert [len(set(of_query)) for of_query in rows.tolist()] == [n, n]


def test_nearest_equal_products_prefer_first_row():
    twice = ApproximateKeys.of(np.concatenate([ROWS[: N // 2]] * 2))
    rows, _ = twice.nearest(QUERIES, 20)
    np.testing.assert_array_equal(rows[:, 1::2], rows[:, ::2] + N // 2)


def test_extended_by_few_finds_them_and_leaves_the_first_alone(keys):
    more = keys.extended(ADDED[:1]).extended(ADDED[1:])
    rows, products = more.nearest(ADDED, 2)
    assert rows[:, 0].tolist() == [N, N + 1, N + 2]
    np.testing.assert_allclose(products[:, 0], 1, rtol=1e-6)
    assert more.index is keys.index
    assert keys.nearest(ADDED, 2)[0].max() < N
    assert more.nearest(ADDED[:1], N + 3)[0].max() == N + 2


def test_extended_by_many_puts_them_into_a_copy_of_the_index(keys):
    few = keys.extended(ADDED)
    many = few.extended(MANY)
    assert len(many.tail.values) == 0
    assert [k.index.ntotal for k in (keys, few, many)] == [N, N, N + 3 + MAX_TAIL]
    assert many.nearest(ADDED, 1)[0].ravel().tolist() == [N, N + 1, N + 2]
    rows = many.nearest(MANY[:200], 1)[0].ravel()
    assert (rows == N + 3 + np.arange(200)).mean() > 0.95


def test_vectors_are_the_rows_rounded_and_the_added_ones(keys):
    rows = np.array([[0, N + 1, 7], [N - 1, 7, N]])
    vectors = keys.extended(ADDED).vectors(rows)
    expected = np.concatenate([ROWS, ADDED])[rows]
    np.testing.assert_allclose(vectors, expected, atol=0.01)
    np.testing.assert_array_equal(vectors[rows >= N], ADDED[[1, 0]])
    assert keys.extended(MANY).extended(ADDED).vectors(np.array([N + 5])).shape == (1, WIDTH)


def test_vectors_in_a_forked_child_are_read_by_one_thread(keys, monkeypatch):
    """From 1,000 rows on, faiss would wait forever for the threads of the parent."""
    reconstruct, seen = keys.index.reconstruct_batch, []

    def noting(rows):
        seen.append(faiss.omp_get_max_threads())
        return reconstruct(rows)

    monkeypatch.setattr(keys.index, "reconstruct_batch", noting)
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        for is_forked in (False, True):
            monkeypatch.setattr(parallel, "_is_forked", is_forked)
            keys.vectors(np.arange(3))
    finally:
        faiss.omp_set_num_threads(before)
    assert seen == [2, 1]


def test_same_rows_same_index(keys):
    assert_same_found(ApproximateKeys.of(ROWS), keys)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda keys: pickle.loads(pickle.dumps(keys))])
def test_copies_find_the_same(keys, copied):
    more = keys.extended(ADDED)
    twin = copied(more)
    assert_same_found(twin, more)
    assert_same_found(twin.extended(MANY), more.extended(MANY))
    np.testing.assert_array_equal(twin.vectors(np.arange(9)), more.vectors(np.arange(9)))


# ---------------------------------------------------------------- NeighborsClassifier


def test_classifier_approximate_predicts_nearly_as_exact(clf):
    assert isinstance(clf._keys, ApproximateKeys)
    exact = make("exact").fit(X, Y)
    best = clf.predict_topk(QUERY_TEXTS, 1).labels
    assert (best == exact.predict_topk(QUERY_TEXTS, 1).labels).mean() > 0.9
    difference = clf.decision_function(QUERY_TEXTS) - exact.decision_function(QUERY_TEXTS)
    assert 0 < abs(difference).mean() < 0.01
    assert_sound_predictions(clf, QUERY_TEXTS[:9], 5)


def test_classifier_same_fit_same_scores(clf):
    twin = clone(clf).fit(X, Y)
    assert (twin.decision_function(QUERY_TEXTS) != clf.decision_function(QUERY_TEXTS)).nnz == 0


def test_classifier_partial_fit_and_pickle_keep_the_index(clf):
    grown = copy.copy(clf).partial_fit(NEW, [[0]] * 3).set_params(n_neighbors=1)
    grown.partial_fit(NEW[:1], np.array([[1]]), label_names=[99])
    assert grown._keys.index is clf._keys.index
    assert grown.n_samples_fit_ == N + 4
    assert grown.predict_topk(NEW[1:], 1).labels.tolist() == [[0], [0]]
    twin = pickle.loads(pickle.dumps(grown))
    assert (twin.decision_function(NEW) != grown.decision_function(NEW)).nnz == 0


def test_classifier_label_texts_are_in_the_index():
    label_texts = [NEW[0], *[None] * (N_LABELS - 1)]
    clf = make().set_params(n_neighbors=1).fit(X, Y, label_texts=label_texts)
    assert clf._keys.index.ntotal == N + 1
    assert clf.predict_topk(NEW[:1], 1).labels.tolist() == [[0]]


def test_classifier_few_texts_are_searched_exactly():
    clf = make().fit(X[:100], Y[:100])
    assert isinstance(clf._keys, ExactKeys)


@pytest.mark.parametrize(
    ("search", "n_texts", "expected"),
    [
        ("exact", 2_000_000, False),
        ("auto", 1_000_000, False),
        ("auto", 1_000_001, True),
        ("approximate", 9_999, False),
        ("approximate", 10_000, True),
    ],
)
def test_is_approximate_follows_search_and_number(search, n_texts, expected):
    assert is_approximate(search, n_texts) is expected


def test_fit_approximate_without_faiss_raises_error_before_encoding(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    seen = []
    clf = NeighborsClassifier(FunctionTransformer(seen.append), search="approximate")
    message = r'search="approximate" needs faiss.*not installed.*pip install "skxmc\[ann\]"'
    with pytest.raises(ImportError, match=message):
        clf.fit(["a", "b"], [["x"], ["y"]])
    assert not seen


def test_is_approximate_auto_without_faiss_warns_and_is_exact(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert not is_approximate("auto", 1_000_000)
    message = r'1,000,001 texts is exact.*pip install "skxmc\[ann\]"\. Or set search="exact"'
    with pytest.warns(UserWarning, match=message):
        assert not is_approximate("auto", 1_000_001)


def test_fit_search_of_other_name_raises_error():
    with pytest.raises(ValueError, match="search"):
        make("fast").fit(X[:2], Y[:2])
