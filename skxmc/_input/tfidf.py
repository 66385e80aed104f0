"""TF-IDF of texts."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer


def fit_tfidf(texts: list[str]) -> tuple[TfidfVectorizer, sp.csr_matrix]:
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
