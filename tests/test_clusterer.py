"""Balanced clusters: their sizes, quality and seeds, and the clusters of new rows."""

import pickle

import numpy as np
import pytest
from label_rows import topical
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse as sp
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

from skxmc import BalancedLabelClusterer, _clusterer, _label_tree


def mean_cosine(X, labels):
    """Return the mean cosine of rows to the centroid of their cluster."""
    X = np.asarray(X.todense() if sp.issparse(X) else X, dtype=np.float64)
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    sums = [X[labels == label].sum(axis=0) for label in np.unique(labels)]
    return sum(map(np.linalg.norm, sums)) / len(X)


def plain_clusters(X, depth, rng):
    """Cluster by plain balanced spherical 2-means, recursively and naively."""
    if depth == 0:
        return np.zeros(len(X), dtype=int)
    centers = X[rng.choice(len(X), 2, replace=False)]
    for _ in range(50):
        left = np.zeros(len(X), dtype=bool)
        left[np.argsort(X @ (centers[1] - centers[0]), kind="stable")[: (len(X) + 1) // 2]] = True
        centers = np.array([X[left].sum(axis=0), X[~left].sum(axis=0)])
        centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    labels = np.empty(len(X), dtype=int)
    labels[left] = plain_clusters(X[left], depth - 1, rng)
    labels[~left] = plain_clusters(X[~left], depth - 1, rng) + 2 ** (depth - 1)
    return labels


@pytest.fixture
def small_blocks(monkeypatch):
    """Treat a few hundred rows like millions: large nodes, samples, then blocks."""
    monkeypatch.setattr(_label_tree, "ROW_BLOCK", 64)
    monkeypatch.setattr(_label_tree, "ENTRY_BLOCK", 2000)


@parametrize_with_checks([BalancedLabelClusterer(max_cluster_size=16)])
def test_clusterer_passes_sklearn_checks(estimator, check):
    check(estimator)


def test_clusterer_bad_parameters_are_refused():
    check_param_validation("BalancedLabelClusterer", BalancedLabelClusterer(max_cluster_size=16))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 64, 300])
def test_fit_clusters_have_balanced_sizes_within_the_maximum(size):
    X = topical(300)
    doubled = size * 2 ** np.arange(9)  # the number of clusters doubles after these
    edges = {*doubled - 1, *doubled, *doubled + 1, *range(2, 18)}
    for n_labels in sorted(edges & {*range(1, 301)}):
        clusterer = BalancedLabelClusterer(size, max_iter=1, random_state=0).fit(X[:n_labels])
        labels, n_clusters = clusterer.labels_, clusterer.n_clusters_
        sizes = np.bincount(labels, minlength=n_clusters)
        assert labels.shape == (n_labels,)
        assert labels.dtype == np.int64
        assert labels.min() >= 0
        assert len(sizes) == n_clusters
        assert sizes.max() <= size
        if size == 1:
            assert_array_equal(labels, np.arange(n_labels))
            continue
        assert sizes.max() - sizes.min() <= 1
        # The smallest power of two that makes clusters small enough.
        assert n_clusters & (n_clusters - 1) == 0
        assert n_clusters == 1 or -(-n_labels // (n_clusters // 2)) > size
        assert n_clusters == 1 or sizes.min() >= size // 2


@pytest.mark.parametrize("n_labels", [130, 257, 600])
@pytest.mark.parametrize("size", [2, 7, 64])
def test_fit_large_nodes_have_balanced_sizes(n_labels, size, small_blocks):
    clusterer = BalancedLabelClusterer(size, random_state=0).fit(topical(n_labels))
    sizes = np.bincount(clusterer.labels_, minlength=clusterer.n_clusters_)
    assert size // 2 <= sizes.min()
    assert sizes.max() <= min(size, sizes.min() + 1)


def test_largest_cluster_auto_follows_number_of_labels():
    sizes = {1: 1, 32_767: 1, 32_768: 64, 8192 * 64: 64, 8192 * 64 + 1: 65, 5_000_000: 611}
    assert {n: _clusterer.largest_cluster("auto", n) for n in sizes} == sizes


def test_fit_auto_size_switches_from_direct_mode_to_clusters(monkeypatch):
    monkeypatch.setattr(_clusterer, "MIN_CLUSTERED_LABELS", 200)
    X = topical(200)
    assert BalancedLabelClusterer().fit(X[:199]).n_clusters_ == 199
    clusterer = BalancedLabelClusterer().fit(X)
    assert clusterer.n_clusters_ == 4
    assert clusterer.max_cluster_size == "auto"
    monkeypatch.setattr(_clusterer, "MAX_AUTO_CLUSTERS", 2)
    assert BalancedLabelClusterer().fit(X).n_clusters_ == 2


def test_fit_same_seed_gives_same_clusters_without_global_state(small_blocks):
    X = topical(500)
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = BalancedLabelClusterer(16, random_state=7).fit_predict(X)
    again = BalancedLabelClusterer(16, random_state=7).fit_predict(X)
    threads = BalancedLabelClusterer(16, random_state=7, n_jobs=2).fit_predict(X)
    generator = BalancedLabelClusterer(16, random_state=np.random.RandomState(7)).fit_predict(X)
    other = BalancedLabelClusterer(16, random_state=8).fit_predict(X)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    for labels in (again, threads, generator):
        assert_array_equal(labels, first)
    assert (other != first).any()


def test_fit_empty_columns_change_nothing(small_blocks):
    """Large nodes drop the columns that they do not use, if these are many."""
    X = topical(500)
    wide = sp.csr_array((X.data, 100 * X.indices, X.indptr), shape=(500, 100 * X.shape[1]))
    clusterers = [BalancedLabelClusterer(16, random_state=7).fit(rows) for rows in (X, wide)]
    assert_array_equal(clusterers[0].labels_, clusterers[1].labels_)
    assert_array_equal(clusterers[0].transform(X).indices, clusterers[1].transform(wide).indices)


def test_fit_dense_rows_give_clusters_of_sparse_rows(small_blocks):
    X = topical(200)
    clusterers = [BalancedLabelClusterer(16, random_state=7).fit(rows) for rows in (X, X.toarray())]
    assert_array_equal(clusterers[0].labels_, clusterers[1].labels_)
    assert clusterers[1]._rows.indices.dtype == np.int32


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_transform_rows_of_fit_returns_their_clusters(n_jobs, small_blocks):
    X = topical(700)
    clusterer = BalancedLabelClusterer(5, random_state=0, n_jobs=n_jobs).fit(X)
    membership = clusterer.transform(X)
    assert membership.format == "csr"
    assert membership.shape == (700, clusterer.n_clusters_)
    assert membership.dtype == np.float32
    assert_array_equal(membership.sum(axis=1), 1)
    assert_array_equal(membership.indices, clusterer.labels_)
    assert_array_equal(clusterer.predict(X[::-50]), clusterer.labels_[::-50])
    assert clusterer.get_feature_names_out()[-1] == "balancedlabelclusterer255"
    assert len(clusterer.get_feature_names_out()) == clusterer.n_clusters_


def test_predict_new_rows_returns_clusters_of_similar_rows():
    rng = np.random.default_rng(0)
    planted = rng.permutation(np.repeat(np.arange(8), 40))
    centers = np.eye(8)
    X = centers[planted] + rng.normal(scale=0.1, size=(320, 8))
    clusterer = BalancedLabelClusterer(40, random_state=0).fit(X)
    new = clusterer.predict(centers[planted] + rng.normal(scale=0.1, size=(320, 8)))
    assert_array_equal(new, clusterer.labels_)


@pytest.mark.parametrize("size", ["auto", 1])
def test_direct_mode_makes_one_cluster_per_label(size):
    X = topical(300)
    clusterer = BalancedLabelClusterer(size).fit(X)
    assert_array_equal(clusterer.labels_, np.arange(300))
    assert clusterer.n_clusters_ == 300
    assert clusterer.n_iter_ == 0
    assert_array_equal(clusterer.predict(X), np.arange(300))
    assert_array_equal(clusterer.transform(X).toarray(), np.eye(300))


@pytest.mark.parametrize("block", [100, 700])
def test_predict_direct_mode_in_blocks_gives_same_clusters(block, monkeypatch):
    monkeypatch.setattr(_label_tree, "ENTRY_BLOCK", block)
    X = topical(300)
    assert_array_equal(BalancedLabelClusterer(1).fit(X).predict(X), np.arange(300))


def test_fit_finds_planted_clusters():
    found = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        planted = rng.permutation(np.repeat(np.arange(16), 20))
        X = np.eye(16)[planted] + rng.normal(scale=0.1, size=(320, 16))
        labels = BalancedLabelClusterer(20, random_state=seed).fit_predict(X)
        found.append(adjusted_rand_score(planted, labels))
    # A cut at the median may divide a planted cluster, so not all are found whole.
    assert np.mean(found) > 0.95
    assert max(found) == 1


def test_fit_clusters_are_tighter_than_plain_two_means():
    gains = []
    for seed in range(4):
        X = topical(640, n_topics=200, seed=seed)
        dense = X.toarray().astype(np.float64)
        dense /= np.linalg.norm(dense, axis=1, keepdims=True)
        plain = plain_clusters(dense, 6, np.random.default_rng(seed))
        assert set(np.bincount(plain)) == {10}
        ours = BalancedLabelClusterer(10, random_state=seed).fit_predict(X)
        chance = mean_cosine(X, np.random.default_rng(seed).permutation(plain))
        gains.append((mean_cosine(X, ours) - chance) / (mean_cosine(X, plain) - chance))
    assert min(gains) > 1.25


def test_fit_large_nodes_sampled_are_nearly_as_tight(monkeypatch):
    X = topical(2000, n_topics=40)
    whole = BalancedLabelClusterer(16, random_state=0).fit_predict(X)
    monkeypatch.setattr(_label_tree, "ROW_BLOCK", 500)
    sampled = BalancedLabelClusterer(16, random_state=0).fit(X)
    n_used = np.count_nonzero(sampled._tree.weights, axis=1)
    assert n_used.tolist() == [500, 1000, 2000, 2000, 2000, 2000, 2000]
    chance = mean_cosine(X, np.random.default_rng(0).permutation(whole))
    gain = mean_cosine(X, sampled.labels_) - chance
    assert gain > 0.97 * (mean_cosine(X, whole) - chance)


def test_fit_max_iter_bounds_iterations_and_more_are_tighter():
    X = topical(640, n_topics=40)
    cosines = []
    for max_iter in (1, 3, 100):
        clusterer = BalancedLabelClusterer(10, max_iter=max_iter, tol=0, random_state=0).fit(X)
        assert 1 <= clusterer.n_iter_ <= max_iter
        cosines.append(mean_cosine(X, clusterer.labels_))
    assert clusterer.n_iter_ < 100
    assert cosines[2] > cosines[0] + 0.02
    assert BalancedLabelClusterer(10, tol=1.0, random_state=0).fit(X).n_iter_ <= 4


def test_cluster_centers_are_normalized_sums_of_unit_rows():
    X = topical(90)
    clusterer = BalancedLabelClusterer(8, random_state=0).fit(X)
    unit = X.toarray() / np.linalg.norm(X.toarray(), axis=1, keepdims=True)
    sums = np.array([unit[clusterer.labels_ == c].sum(axis=0) for c in range(16)])
    centers = clusterer.cluster_centers_
    assert centers.format == "csr"
    assert_allclose(
        centers.toarray(), sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-6
    )
    with pytest.raises(NotFittedError):
        _ = BalancedLabelClusterer().cluster_centers_


def test_fit_rows_of_zeros_do_not_displace_other_rows():
    planted = np.repeat([0, 1], 30)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = np.vstack([np.eye(9)[planted] + rng.normal(scale=0.2, size=(60, 9)), np.zeros((60, 9))])
        labels = BalancedLabelClusterer(60, random_state=seed).fit_predict(X)
        assert adjusted_rand_score(planted, labels[:60]) == 1


def test_fit_tied_rows_keep_their_order():
    planted = np.arange(2000) % 2
    labels = BalancedLabelClusterer(64, random_state=0).fit_predict(np.eye(2)[planted])
    for group in (labels[planted == 0], labels[planted == 1]):
        assert_array_equal(group, np.sort(group))
        assert len(set(group)) == 16


def test_fit_rows_of_zeros_are_spread_over_clusters():
    X = sp.vstack([topical(60), sp.csr_matrix((41, 400))], format="csr")
    for matrix in (X, sp.csr_matrix((101, 3)), np.zeros((101, 1))):
        clusterer = BalancedLabelClusterer(4, random_state=0).fit(matrix)
        assert set(np.bincount(clusterer.labels_)) == {3, 4}
        assert len(set(clusterer.predict(matrix[-41:]))) == 1
        assert not np.isnan(clusterer.cluster_centers_.data).any()


@pytest.mark.parametrize("row", [[0.3, 0.1, 0.2], [-1.0, 0.0, 0.0], [1e-30, 0.0, 0.0]])
def test_fit_equal_rows_are_spread_over_clusters(row):
    clusterer = BalancedLabelClusterer(4, random_state=0).fit(np.tile(row, (101, 1)))
    assert set(np.bincount(clusterer.labels_)) == {3, 4}
    assert clusterer.n_iter_ <= 20


def test_fit_rows_that_cancel_out_have_balanced_sizes():
    X = np.tile([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], (16, 1))
    labels = BalancedLabelClusterer(4, random_state=0).fit_predict(X)
    assert set(np.bincount(labels)) == {4}


@pytest.mark.parametrize("size", ["auto", 1, 2, 64])
def test_fit_one_label_makes_one_cluster(size):
    clusterer = BalancedLabelClusterer(size).fit([[0.5, 1.0]])
    assert clusterer.labels_.tolist() == [0]
    assert clusterer.n_clusters_ == 1
    assert clusterer.predict([[-1.0, 0.0], [0.0, 0.0]]).tolist() == [0, 0]
    assert clusterer.transform([[1.0, 1.0]]).shape == (1, 1)


def test_pickle_predicts_same_clusters():
    X = topical(100)
    clusterer = BalancedLabelClusterer(8, random_state=0).fit(X)
    loaded = pickle.loads(pickle.dumps(clusterer))
    assert_array_equal(loaded.predict(X), clusterer.labels_)


def test_labels_only_keeps_labels_and_refuses_to_predict():
    X = np.random.default_rng(0).random((20, 5))
    full = BalancedLabelClusterer(max_cluster_size=4, random_state=0).fit(X)
    small = full.labels_only()
    np.testing.assert_array_equal(small.labels_, full.labels_)
    assert len(pickle.dumps(small)) < len(pickle.dumps(full))
    full.transform(X)  # the original keeps its rows
    for needs_rows in (lambda: small.transform(X), lambda: small.cluster_centers_):
        with pytest.raises(NotFittedError, match="keeps only its labels_"):
            needs_rows()
