"""Synthetic texts with learnable labels, of any size."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state, check_scalar

from skxmc.datasets._csr import Integers, binary_csr

_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]


def make_xmc(
    n_samples: int,
    n_labels: int,
    *,
    n_labels_per_sample: float = 5,
    n_words_per_label: int = 3,
    n_noise_words: float = 10,
    n_words: int | None = None,
    label_exponent: float = 1.0,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[list[str], sparse.csr_array]:
    """Make texts whose words tell their labels, for tests and benchmarks of any size.

    Each label has a few words of its own, drawn from one vocabulary. A text has one or more
    labels, drawn by a Zipf law. It mixes all words of its labels with words drawn evenly from the
    vocabulary. Time and memory grow with the number of labels and words, never with
    ``n_samples * n_labels``.

    All rows are drawn independently from one distribution. If you need a test part, make more texts
    and split them. Read more in the user guide: :doc:`/guide/data`.

    Parameters
    ----------
    n_samples : int
        Number of texts.
    n_labels : int
        Number of labels. Rare labels may have no text.
    n_labels_per_sample : float, default=5
        Mean number of labels per text, at least 1. The number is one plus a Poisson draw, at most
        ``n_labels``. If it is close to `n_labels`, a text may get somewhat fewer labels.
    n_words_per_label : int, default=3
        Number of words per label. Two labels may share words by chance.
    n_noise_words : float, default=10
        Mean number of words per text that tell nothing about its labels.
    n_words : int or None, default=None
        Size of the vocabulary. None means four words per label, between 100 and 50,000.
    label_exponent : float, default=1.0
        Exponent of the Zipf law. The label of frequency rank r is drawn with probability
        proportional to ``r ** -label_exponent``, so 0 makes all labels equally frequent. Ranks are
        assigned to columns at random.
    random_state : int, RandomState instance or None, default=None
        Seed. Pass an int to get the same data at every call.

    Returns
    -------
    texts : list of str, length n_samples
        The texts, never empty.
    Y : csr_array of float32, shape (n_samples, n_labels)
        1 for the labels of a text, at least one in each row.

    Raises
    ------
    TypeError, ValueError
        If a parameter has a wrong type or is out of range.

    Examples
    --------
    >>> from skxmc.datasets import make_xmc
    >>> texts, Y = make_xmc(1000, 200, random_state=0)
    >>> len(texts), Y.shape
    (1000, (1000, 200))
    >>> X_train, X_test, y_train, y_test = texts[:800], texts[800:], Y[:800], Y[800:]
    """
    check_scalar(n_samples, "n_samples", Integral, min_val=1)
    check_scalar(n_labels, "n_labels", Integral, min_val=1)
    check_scalar(n_labels_per_sample, "n_labels_per_sample", Real, min_val=1)
    check_scalar(n_words_per_label, "n_words_per_label", Integral, min_val=1)
    check_scalar(n_noise_words, "n_noise_words", Real, min_val=0)
    check_scalar(label_exponent, "label_exponent", Real, min_val=0)
    if n_words is None:
        n_words = min(max(100, 4 * n_labels), 50_000)
    check_scalar(n_words, "n_words", Integral, min_val=1)
    rng = check_random_state(random_state)

    indices, indptr = _draw_labels(n_samples, n_labels, n_labels_per_sample, label_exponent, rng)
    label_words = rng.randint(n_words, size=(n_labels, n_words_per_label), dtype=np.int32)
    n_noise = rng.poisson(n_noise_words, size=n_samples)
    samples = np.arange(n_samples)
    words = np.concatenate(
        [
            label_words[indices].ravel(),
            rng.randint(n_words, size=n_noise.sum(), dtype=np.int32),
        ]
    )
    owners = np.concatenate(
        [
            np.repeat(samples, np.diff(indptr) * n_words_per_label),
            np.repeat(samples, n_noise),
        ]
    )
    # Sorting by owner plus a random fraction groups the words of each text and shuffles them.
    words = words[np.argsort(owners + rng.uniform(size=len(owners)))]
    ends = np.cumsum(np.bincount(owners, minlength=n_samples))
    vocabulary = np.array([_word(i) for i in range(n_words)], dtype=object)
    starts = np.concatenate([[0], ends[:-1]])
    texts = [" ".join(vocabulary[words[a:b]]) for a, b in zip(starts, ends, strict=True)]
    return texts, binary_csr(indices, indptr, n_labels)


def _draw_labels(
    n_samples: int, n_labels: int, mean: float, exponent: float, rng: np.random.RandomState
) -> tuple[Integers, Integers]:
    """Draw distinct labels per row, as indices and indptr."""
    cumulative = np.cumsum(np.arange(1, n_labels + 1, dtype=float) ** -exponent)
    cumulative /= cumulative[-1]
    column_of_rank = rng.permutation(n_labels)
    wanted = np.minimum(1 + rng.poisson(mean - 1, size=n_samples), n_labels)
    drawn = np.empty(0, dtype=np.int64)
    missing = wanted
    # Repeated labels are drawn again. The number of rounds is limited, because a row that wants
    # nearly all labels would wait long for the rarest.
    for _ in range(10):
        rows = np.repeat(np.arange(n_samples), missing)
        ranks = np.searchsorted(cumulative, rng.uniform(size=len(rows)), side="right")
        drawn = np.unique(np.concatenate([drawn, rows * n_labels + column_of_rank[ranks]]))
        missing = wanted - np.bincount(drawn // n_labels, minlength=n_samples)
        if not missing.any():
            break
    counts = np.bincount(drawn // n_labels, minlength=n_samples)
    return drawn % n_labels, np.concatenate([[0], np.cumsum(counts)])


def _word(number: int) -> str:
    """Make a pronounceable word, a different one for each number."""
    word = ""
    number += len(_SYLLABLES)  # at least two syllables
    while number:
        number, syllable = divmod(number, len(_SYLLABLES))
        word = _SYLLABLES[syllable] + word
    return word
