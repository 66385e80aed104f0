"""What `fit` does before training: held-out texts; tokens and clusters, which `memory` keeps.

What is kept is found again by hashes: joblib would write the arguments themselves, all texts in
clear, beside each result.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import scipy.sparse as sp
import sklearn
from joblib import Memory
from joblib import hash as joblib_hash
from sklearn.feature_extraction.text import TfidfVectorizer

from skxmc._clusterer import BalancedLabelClusterer, label_features, largest_cluster
from skxmc._text import TokenStore, tokenize
from skxmc._validation import Labels, check_labels, check_texts
from skxmc._version import __version__


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
            raise ValueError("validation_data must be a pair (X, y) of texts and their labels.")
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
    # Less a little, as 2,000 / n times n may come out above 2,000.
    n_held_out = math.ceil(validation_fraction * len(texts) * (1 - 1e-9))
    if n_held_out == len(texts):
        raise ValueError(
            f"validation_fraction={validation_fraction} of {len(texts)} texts leaves none "
            "to train on. Lower it, give more texts, or pass validation_data."
        )
    valid, train = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
    if labels.matrix[train].nnz == 0:
        raise ValueError(
            "No text of the training part has a label. Lower validation_fraction, give more "
            "labelled texts, or pass validation_data."
        )
    return (
        ([texts[i] for i in train], labels.matrix[train]),
        ([texts[i] for i in valid], Labels(labels.matrix[valid], *labels[1:])),
    )


def cached_tokens(memory: Memory, tokenizer: Any, texts: list[str], max_length: int) -> TokenStore:
    """Tokenise, or take what an earlier fit with this tokenizer has stored."""
    if not _keeps(memory):
        return tokenize(tokenizer, texts, max_length)
    import transformers

    key = (joblib_hash(texts), _fingerprint(tokenizer), max_length, transformers.__version__)
    cached = memory.cache(_tokenize, ignore=["tokenizer", "texts"])
    return cached(tokenizer, texts, max_length, (*key, __version__))


def _tokenize(tokenizer: Any, texts: list[str], max_length: int, key: Any) -> TokenStore:
    return tokenize(tokenizer, texts, max_length)


def _fingerprint(tokenizer: Any) -> str:
    """Hash of all that decides how a text is cut: vocabulary, normalisation, special tokens.

    Not how its last call truncated and padded, of which it keeps a note.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules: Any
    if backend is None:
        given = tokenizer.init_kwargs
        given = {key: given[key] for key in given if not key.endswith(("_file", "path"))}
        rules = [tokenizer.get_vocab(), given]
    else:
        rules = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
    of_calls = [tokenizer.truncation_side, tokenizer.model_input_names]
    of_calls.append(getattr(tokenizer, "split_special_tokens", False))
    marks = tokenizer.special_tokens_map
    return joblib_hash(json.dumps([type(tokenizer).__name__, rules, of_calls, marks], default=str))


def cached_clusters(
    memory: Memory,
    texts: list[str],
    y: sp.csr_array,
    features: Any,
    clusterer: BalancedLabelClusterer,
) -> BalancedLabelClusterer:
    """Fit the clusterer, or take the fitted one that an earlier fit has stored."""
    if not _keeps(memory):
        return _cluster(texts, y, features, clusterer, None)
    clusterer._validate_params()
    params = clusterer.get_params()
    decisive = {name: value for name, value in params.items() if name != "n_jobs"}
    if largest_cluster(clusterer.max_cluster_size, y.shape[1]) == 1:
        del decisive["random_state"]  # draws nothing
    kind = f"{type(clusterer).__module__}.{type(clusterer).__qualname__}"
    key = joblib_hash((texts, y, features, kind, decisive, sklearn.__version__, __version__))
    cached = memory.cache(_cluster, ignore=["texts", "y", "features", "clusterer"])
    return cached(texts, y, features, clusterer, key).set_params(**params)


def _cluster(
    texts: list[str], y: sp.csr_array, features: Any, clusterer: BalancedLabelClusterer, key: Any
) -> BalancedLabelClusterer:
    """Cluster by given label features, or by the TF-IDF ones of the labels' texts."""
    if features is None:
        features = label_features(y, _tfidf(texts))
    return clusterer.fit(features).labels_only()


def _keeps(memory: Any) -> bool:
    """Whether it is a cache, and not ``Memory(None)``."""
    return getattr(memory, "store_backend", memory) is not None


def _tfidf(texts: list[str]) -> sp.csr_matrix:
    return fit_tfidf(texts)[1]


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


def add_label_texts(
    texts: list[str], y: sp.csr_array, label_texts: Any
) -> tuple[list[str], sp.csr_array]:
    """Append what is written about each label as a text that has this label alone.

    Parameters
    ----------
    texts : list of str
        As `check_texts` returns them.
    y : csr_array of shape (n_texts, n_labels)
        Their labels, as `check_labels` returns them.
    label_texts : array-like of shape (n_labels,) or None
        A text, or None, NaN or a blank one, for each label; None adds nothing.

    Returns
    -------
    texts : list of str
    y : csr_array
        With a row for each text.

    Raises
    ------
    TypeError
        If label_texts is no sequence, or an entry is neither a text nor missing.
    ValueError
        If label_texts is a bare string, or not as long as there are labels.
    """
    if label_texts is None:
        return texts, y
    of_labels = check_texts(label_texts, name="label_texts", allow_empty=True, allow_missing=True)
    n_labels = y.shape[1]
    if len(of_labels) != n_labels:
        raise ValueError(
            f"label_texts has {len(of_labels)} entries, but there are {n_labels} labels. Pass one "
            "text for each label, in the order of classes_, and None where a label has none."
        )
    columns = [column for column, text in enumerate(of_labels) if text.strip()]
    rows = sp.csr_array(
        (
            np.ones(len(columns), dtype=y.dtype),
            np.array(columns, dtype=y.indices.dtype),
            np.arange(len(columns) + 1, dtype=y.indptr.dtype),
        ),
        shape=(len(columns), n_labels),
    )
    added = [of_labels[column] for column in columns]
    return [*texts, *added], sp.csr_array(sp.vstack([y, rows], format="csr"))
