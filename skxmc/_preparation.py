"""What `fit` does before training: held-out texts; tokens and clusters, which `memory` keeps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import Memory
from joblib import hash as joblib_hash
from sklearn.feature_extraction.text import TfidfVectorizer

from ._clusterer import BalancedLabelClusterer, label_features
from ._text import TokenStore, tokenize
from ._validation import Labels, check_labels, check_texts


def hold_out(
    texts: list[str],
    labels: Labels,
    validation_data: Any,
    validation_fraction: float | None,
    seed: int,
) -> tuple[tuple[list[str], sp.csr_array], tuple[list[str], Labels] | None]:
    """Part texts and labels to train on from those to validate with.

    Parameters
    ----------
    texts, labels
        All that `fit` was given.
    validation_data : tuple (X, y) or None
        Given by the user; then nothing is held out.
    validation_fraction : float or None
        Share to hold out; None for none.
    seed : int
        Draws the held-out texts.
    """
    if validation_data is not None:
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ValueError("validation_data is a pair (X, y) of texts and their labels.")
        held_out = check_texts(validation_data[0], name="validation_data[0]")
        held_out_labels = check_labels(
            validation_data[1],
            name="validation_data[1]",
            classes=labels.classes,
            n_texts=len(held_out),
        )
        return (texts, labels.matrix), (held_out, held_out_labels)
    if validation_fraction is None:
        return (texts, labels.matrix), None
    order = np.random.default_rng(seed).permutation(len(texts))
    n_held_out = math.ceil(validation_fraction * len(texts))
    if n_held_out == len(texts):
        raise ValueError(
            f"validation_fraction={validation_fraction} of {len(texts)} texts leaves none "
            "to train on. Lower it, give more texts, or set early_stopping=False."
        )
    valid, train = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
    if labels.matrix[train].nnz == 0:
        raise ValueError(
            "No text of the training part has a label. Lower validation_fraction, give more "
            "labelled texts, or set early_stopping=False."
        )
    return (
        ([texts[i] for i in train], labels.matrix[train]),
        ([texts[i] for i in valid], Labels(labels.matrix[valid], *labels[1:])),
    )


def cached_tokens(memory: Memory, tokenizer: Any, texts: list[str], max_length: int) -> TokenStore:
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
    """Cluster by given label features, or by the TF-IDF ones of the labels' texts."""
    if features is None:
        features = label_features(y, _tfidf(texts))
    return clusterer.fit(features).labels_only()


def _tfidf(texts: list[str]) -> sp.csr_matrix:
    """TF-IDF of words; of characters where no text holds a word, one empty column at the worst."""
    for settings in ({}, {"analyzer": "char"}):
        try:
            return TfidfVectorizer(dtype=np.float32, **settings).fit_transform(texts)
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
    return sp.csr_matrix((len(texts), 1), dtype=np.float32)
