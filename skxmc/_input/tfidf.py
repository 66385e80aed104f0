"""TF-IDF of texts."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer


def fit_tfidf(texts: list[str]) -> tuple[TfidfVectorizer, sp.csr_matrix]:
    """Fit a vectorizer of words; of characters where no text holds a word.

    Returns
    -------
    vectorizer : TfidfVectorizer
        Fitted.
    features : csr_matrix of shape (n_texts, n_features), float32
        TF-IDF of the texts; one empty column where they hold no character either.
    """
    for settings in ({}, {"analyzer": "char"}):
        vectorizer = TfidfVectorizer(dtype=np.float32, **settings)
        try:
            return vectorizer, vectorizer.fit_transform(texts)
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
    vectorizer = TfidfVectorizer(dtype=np.float32, vocabulary=[""])  # no text has that word
    return vectorizer, vectorizer.fit_transform(texts)
