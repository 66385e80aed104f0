"""TF-IDF of texts, and of labels as sums over their texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches

from skxmc._input.weights import weighted

# Pairs of a word and a label of the same text that `label_features` may see. Each takes up to 24
# bytes in the clusterer.
MAX_PAIRS = 1 << 27
# Texts whose words are counted to estimate the number of pairs.
COUNTED_TEXTS = 1000
# Above MAX_PAIRS, words are hashed to so many columns, and labels keep their largest entries.
N_HASHED = 1 << 20
MAX_LABEL_WORDS = 128
# Texts read at once, and entries of sums before small ones are dropped.
TEXTS_BLOCK = 20_000
MAX_ENTRIES = 1 << 26


def fit_tfidf(texts: Sequence[str]) -> tuple[TfidfVectorizer, sp.csr_matrix]:
    """Fit a vectorizer of words, or of characters if no text has a word.

    Returns
    -------
    vectorizer : TfidfVectorizer
        The fitted vectorizer.
    features : csr_matrix of shape (n_texts, n_features), float32
        TF-IDF of the texts. If they have no characters either, it is one empty column.
    """
    for settings in ({}, {"analyzer": "char"}):
        vectorizer = TfidfVectorizer(dtype=np.float32, **settings)
        try:
            return vectorizer, vectorizer.fit_transform(texts)
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
    vectorizer = TfidfVectorizer(dtype=np.float32, vocabulary=[""])  # no text has this word
    return vectorizer, vectorizer.fit_transform(texts)


def has_many_words(texts: Sequence[str], y: sp.csr_array, max_pairs: int = MAX_PAIRS) -> bool:
    """Return whether the TF-IDF features of labels may take too much memory.

    It counts the words of some texts, which lie at equal distances.
    """
    step = -(-len(texts) // COUNTED_TEXTS)
    counts = [len(texts[row].split()) for row in range(0, len(texts), step)]
    return y.nnz * np.mean(counts) > max_pairs


def summed_tfidf(
    texts: Sequence[str],
    y: sp.csr_array,
    weights: np.ndarray | None = None,
    *,
    n_hashed: int = N_HASHED,
    max_label_words: int = MAX_LABEL_WORDS,
    texts_block: int = TEXTS_BLOCK,
    max_entries: int = MAX_ENTRIES,
) -> sp.csr_array:
    r"""Sum the TF-IDF features of the texts of each label, block by block.

    It is :math:`\sum_{i: y_{il} = 1} w_i \, x_i / \|x_i\|` for a label l, as `label_features`
    computes it, with two differences: equal hashes make words the same, and small entries are
    missing. A matrix of texts and words does not exist.

    Parameters
    ----------
    texts : sequence of str
    y : csr_array of shape (n_texts, n_labels)
        Their labels.
    weights : ndarray of shape (n_texts,), default=None
        Weights w of the texts. None is 1 for all.
    n_hashed : int, default=N_HASHED
        Number of different hashes.
    max_label_words : int, default=MAX_LABEL_WORDS
        Number of largest entries that a label keeps.
    texts_block : int, default=TEXTS_BLOCK
        Number of texts to read at once.
    max_entries : int, default=MAX_ENTRIES
        Number of entries of all labels above which only the largest ones remain in between: half
        of this number, or `max_label_words` per label if this is more.

    Returns
    -------
    csr_array of shape (n_labels, n_hashed), float32
        Sums, which are not normalized.
    """
    n_texts, n_labels = y.shape
    weights = np.ones(n_texts) if weights is None else weights
    batches = list(gen_batches(n_texts, texts_block))
    for analyzer in ("word", "char"):
        vectorizer = HashingVectorizer(
            n_features=n_hashed,
            analyzer=analyzer,
            norm=None,
            alternate_sign=False,
            dtype=np.float32,
        )
        counts = np.zeros(n_hashed)
        for rows in batches:
            counts += (vectorizer.transform(texts[rows]) > 0).T @ weights[rows]
        if counts.any():
            break
    idf = np.log((1 + weights.sum()) / (1 + counts)).astype(np.float32) + 1
    weights = weights.astype(np.float32)
    n_kept = max(max_entries // (2 * n_labels), max_label_words)
    sums = recent = nothing = sp.csr_array((n_labels, n_hashed), dtype=np.float32)
    for rows in batches:
        of_texts = vectorizer.transform(texts[rows])
        of_texts.data *= idf[of_texts.indices]
        y_by_label = weighted(y[rows], weights[rows]).T.tocsr()
        recent = recent + y_by_label @ sp.csr_array(normalize(of_texts, copy=False))
        if recent.nnz > max_entries // 4:  # few sums of large matrices
            sums, recent = sums + recent, nothing
            if sums.nnz > max_entries:
                sums = _largest(sums, n_kept)
    return _largest(sums + recent, max_label_words)


def _largest(matrix: sp.csr_array, k: int) -> sp.csr_array:
    """Return the k largest entries of each row."""
    lengths, is_small = np.diff(matrix.indptr), np.zeros(matrix.nnz, dtype=bool)
    for row in np.flatnonzero(lengths > k):
        start, end = matrix.indptr[row : row + 2]
        n_small = lengths[row] - k
        is_small[start + np.argpartition(matrix.data[start:end], n_small)[:n_small]] = True
    matrix.data[is_small] = 0
    matrix.eliminate_zeros()
    return matrix
