"""Shapes, seeds, distributions and errors of the synthetic data."""

import re

import numpy as np
import pytest
from dataset_files import check_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from skxmc.datasets import make_xmc


def test_make_xmc_same_seed_gives_same_data():
    texts, labels = make_xmc(300, 50, random_state=3)
    assert len(texts) == 300
    assert all(isinstance(text, str) and text for text in texts)
    assert labels.shape == (300, 50)
    check_matrix(labels, labels.toarray() > 0)
    assert labels.indices.dtype == labels.indptr.dtype == np.int32
    assert labels.sum(axis=1).min() >= 1
    again, same = make_xmc(300, 50, random_state=3)
    assert again == texts
    assert (same != labels).nnz == 0
    assert make_xmc(300, 50, random_state=4)[0] != texts


def test_make_xmc_global_random_state_is_unchanged():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_xmc(5, 5, random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_make_xmc_counts_follow_means_and_zipf_law():
    texts, labels = make_xmc(4000, 500, n_labels_per_sample=4, n_noise_words=8, random_state=0)
    assert labels.nnz / 4000 == pytest.approx(4, rel=0.03)
    assert np.mean([len(text.split()) for text in texts]) == pytest.approx(4 * 3 + 8, rel=0.03)
    counts = np.sort(labels.sum(axis=0))[::-1]
    assert 5 < counts[0] / counts[9] < 12  # rank 10 is a tenth as frequent before redrawing
    assert labels.sum(axis=0)[0] < counts[0]  # the ranks are not in the order of the columns
    even = make_xmc(4000, 500, label_exponent=0, random_state=0)[1].sum(axis=0)
    assert even.max() < 2 * even.mean()


def test_make_xmc_without_noise_texts_hold_words_of_their_labels():
    texts, labels = make_xmc(
        400, 20, n_labels_per_sample=2, n_noise_words=0, n_words_per_label=4, random_state=0
    )
    words_of = [
        set.intersection(*(set(texts[i].split()) for i in labels[:, [j]].nonzero()[0]))
        for j in range(20)
    ]
    for text, row in zip(texts, labels.toarray(), strict=True):
        assert set(text.split()) == set.union(*(words_of[j] for j in np.flatnonzero(row)))
        assert len(text.split()) == 4 * row.sum()


def test_make_xmc_words_of_labels_are_at_random_places():
    texts, _ = make_xmc(
        500, 1, n_words_per_label=1, n_noise_words=30, n_words=10_000, random_state=0
    )
    label_word = set.intersection(*(set(text.split()) for text in texts)).pop()
    places = [text.split().index(label_word) / len(text.split()) for text in texts]
    assert 0.4 < np.mean(places) < 0.6
    assert np.std(places) > 0.2


def test_make_xmc_centroids_predict_labels():
    texts, labels = make_xmc(3000, 300, random_state=0)
    X = TfidfVectorizer().fit_transform(texts)
    train, test = slice(0, 2500), slice(2500, None)
    popularity = np.tile(labels[train].sum(axis=0), (500, 1))
    centroids = normalize(labels[train].T @ X[train])
    similarity = (X[test] @ centroids.T).toarray()
    truth = labels[test].toarray()

    def precision_at_1(scores):
        return truth[np.arange(500), scores.argmax(axis=1)].mean()

    assert precision_at_1(popularity) < 0.7
    assert precision_at_1(similarity) > 0.95


def test_make_xmc_vocabulary_has_given_or_default_size():
    assert len({word for text in make_xmc(50, 5, n_words=7)[0] for word in text.split()}) <= 7
    texts, _ = make_xmc(3000, 20, random_state=0)
    words = {word for text in texts for word in text.split()}
    assert len(words) == 100  # distinct words, which a tokenizer of whole words finds
    assert all(re.fullmatch(r"\w{4,}", word) for word in words)


@pytest.mark.parametrize(("n_samples", "n_labels"), [(1, 1), (1, 1000), (7, 1), (7, 2)])
def test_make_xmc_smallest_sizes_are_valid(n_samples, n_labels):
    texts, labels = make_xmc(n_samples, n_labels, random_state=0)
    assert len(texts) == n_samples
    assert labels.shape == (n_samples, n_labels)
    assert labels.sum(axis=1).min() >= 1
    if n_labels <= 2:
        assert labels.toarray()[0].sum() == n_labels


def test_make_xmc_million_labels_needs_no_dense_matrix():
    texts, labels = make_xmc(50, 1_000_000, random_state=0)  # 50 million pairs
    assert labels.shape == (50, 1_000_000)
    assert len(texts) == 50


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"n_samples": 0}, ValueError, "n_samples == 0"),
        ({"n_labels": 0}, ValueError, "n_labels == 0"),
        ({"n_labels": 2.5}, TypeError, "n_labels must be an instance of int"),
        ({"n_labels_per_sample": 0.5}, ValueError, "n_labels_per_sample == 0.5"),
        ({"n_words_per_label": 0}, ValueError, "n_words_per_label == 0"),
        ({"n_noise_words": -1}, ValueError, "n_noise_words == -1"),
        ({"n_words": 0}, ValueError, "n_words == 0"),
        ({"label_exponent": -1}, ValueError, "label_exponent == -1"),
        ({"random_state": "x"}, ValueError, "cannot be used to seed"),
    ],
)
def test_make_xmc_bad_parameters_raise_error(arguments, error, match):
    with pytest.raises(error, match=match):
        make_xmc(**{"n_samples": 5, "n_labels": 5, **arguments})
