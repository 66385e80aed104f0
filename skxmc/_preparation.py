"""What `fit` computes once and `memory` keeps: tokenised texts and label clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import Memory
from joblib import hash as joblib_hash
from sklearn.feature_extraction.text import TfidfVectorizer

from ._clusterer import BalancedLabelClusterer, label_features
from ._text import TokenStore, tokenize


def cached_tokens(
    memory: Memory, tokenizer: Any, texts: list[str], max_length: int
) -> TokenStore:
    """Tokenise, or take what an earlier fit with this tokenizer has stored."""
    cached = memory.cache(_tokenize, ignore=["tokenizer"])
    return cached(tokenizer, _fingerprint(tokenizer), texts, max_length)


def _tokenize(tokenizer: Any, fingerprint: str, texts: list[str], max_length: int) -> TokenStore:
    return tokenize(tokenizer, texts, max_length)


def _fingerprint(tokenizer: Any) -> str:
    """Hash of all that decides how a text is cut: vocabulary, normalisation, special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = tokenizer.get_vocab() if backend is None else backend.to_str()
    return joblib_hash((type(tokenizer).__name__, rules))


def cached_clusters(
    memory: Memory,
    texts: list[str],
    y: sp.csr_array,
    features: Any,
    clusterer: BalancedLabelClusterer,
) -> BalancedLabelClusterer:
    """Fit the clusterer, or take the fitted one that an earlier fit has stored."""
    return memory.cache(_cluster)(texts, y, features, clusterer)


def _cluster(
    texts: list[str], y: sp.csr_array, features: Any, clusterer: BalancedLabelClusterer
) -> BalancedLabelClusterer:
    """Fit the clusterer to given label features, or to the TF-IDF ones of the labels' texts."""
    if features is None:
        features = label_features(y, _tfidf(texts))
    return clusterer.fit(features)


def _tfidf(texts: list[str]) -> sp.csr_matrix:
    """TF-IDF of words; of characters where no text holds a word, one empty column at the worst."""
    for settings in ({}, {"analyzer": "char"}):
        try:
            return TfidfVectorizer(dtype=np.float32, **settings).fit_transform(texts)
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
    return sp.csr_matrix((len(texts), 1), dtype=np.float32)
