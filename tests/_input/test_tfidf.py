"""TF-IDF features of labels, summed block by block."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.preprocessing import normalize

from skxmc import label_features
from skxmc._input.tfidf import fit_tfidf, has_many_words, summed_tfidf
from skxmc.datasets import make_xmc

X, Y = make_xmc(60, 12, n_labels_per_sample=2, n_noise_words=5, random_state=0)
Y = sparse.csr_array(Y, dtype=np.float32)
WEIGHTS = np.random.default_rng(0).integers(1, 4, size=60).astype(float)


def cosines(features):
    features = normalize(features)
    return (features @ features.T).toarray()


def reference(texts, y, weights=None):
    """Compute features of labels from a matrix of all texts, repeated as often as they weigh."""
    rows = np.repeat(np.arange(len(texts)), 1 if weights is None else weights.astype(int))
    return label_features(y[rows], fit_tfidf([texts[row] for row in rows])[1])


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("texts_block", [7, 1000])
def test_summed_tfidf_equals_label_features(weights, texts_block):
    found = summed_tfidf(X, Y, weights, max_label_words=10_000, texts_block=texts_block)
    assert found.dtype == np.float32
    assert found.shape == (12, 1 << 20)
    np.testing.assert_allclose(cosines(found), cosines(reference(X, Y, weights)), atol=1e-6)


def test_summed_tfidf_large_sums_are_cut_in_between_and_stay_close():
    whole = summed_tfidf(X, Y, max_label_words=10_000)
    options = {"max_label_words": 10, "texts_block": 5, "max_entries": 200}
    found = summed_tfidf(X, Y, **options)
    assert np.diff(found.indptr).max() == 10
    close = normalize(found).multiply(normalize(whole)).sum(axis=1)
    assert close[np.diff(whole.indptr) > 0].min() > 0.7


def test_summed_tfidf_keeps_the_largest_entries_of_each_label():
    whole = summed_tfidf(X, Y, max_label_words=10_000, n_hashed=512)
    found = summed_tfidf(X, Y, max_label_words=3, n_hashed=512).toarray()
    expected = whole.toarray()
    least = np.sort(expected, axis=1)[:, [-3]]
    np.testing.assert_allclose(found, np.where(expected >= least, expected, 0), atol=1e-6)


def test_summed_tfidf_texts_without_words_have_characters():
    texts, y = ["a b", "a", "", "c"], sparse.csr_array(np.eye(4, dtype=np.float32))
    np.testing.assert_allclose(
        cosines(summed_tfidf(texts, y)), cosines(reference(texts, y)), atol=1e-6
    )
    assert summed_tfidf(["", ""], y[:2]).nnz == 0


def test_has_many_words_counts_pairs_of_words_and_labels():
    texts = ["a b c"] * 2500
    y = sparse.csr_array(np.ones((2500, 2), dtype=np.float32))
    assert not has_many_words(texts, y, max_pairs=15_000)
    assert has_many_words(texts, y, max_pairs=14_999)
