"""The parts of a fit that `memory` keeps: tokens and clusters.

Hashes identify the entries. By default, joblib would store the arguments beside each result, with
all texts in the clear.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import sklearn
from joblib import Memory
from joblib import hash as joblib_hash
from sklearn.preprocessing import normalize

from skxmc._clusterer import BalancedLabelClusterer, label_features, largest_cluster
from skxmc._input.text_column import content_of
from skxmc._input.tfidf import fit_tfidf, has_many_words, summed_tfidf
from skxmc._input.weights import weighted
from skxmc._model.tokens import TokenStore, tokenize
from skxmc._version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def cached_tokens(
    memory: Memory,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    progress: Callable[[int], object] | None = None,
) -> TokenStore:
    """Tokenize texts, or return the tokens that an earlier fit with this tokenizer stored."""
    if not _keeps(memory):
        return tokenize(tokenizer, texts, max_length, progress)
    import transformers

    of_texts = joblib_hash(content_of(texts))
    key = (of_texts, _fingerprint(tokenizer), max_length, transformers.__version__)
    cached = memory.cache(_tokenize, ignore=["tokenizer", "texts", "progress", "folder"])
    is_folder = isinstance(memory, Memory) and memory.backend == "local"
    folder = str(memory.location) if is_folder else None
    return cached(tokenizer, texts, max_length, (*key, __version__), progress, folder)


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    key: object,
    progress: Callable[[int], object] | None,
    folder: str | None,
) -> TokenStore:
    return tokenize(tokenizer, texts, max_length, progress, folder=folder)


def _fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash the settings that decide the tokens: vocabulary, normalization, special tokens.

    The hash leaves out the truncation and padding of the last call, which the tokenizer stores.
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
    texts: Sequence[str],
    y: sp.csr_array,
    features: Any,
    clusterer: BalancedLabelClusterer,
    weights: np.ndarray | None = None,
) -> BalancedLabelClusterer:
    """Fit the clusterer, or return the fitted clusterer that an earlier fit stored.

    `weights` are those of the texts.
    """
    is_plain = type(clusterer) is BalancedLabelClusterer
    if is_plain and largest_cluster(clusterer.max_cluster_size, y.shape[1]) == 1:
        # A cluster per label, which the features do not decide.
        return clusterer.fit(sp.csr_array((y.shape[1], 1))).labels_only()
    if not _keeps(memory):
        return _cluster(texts, y, features, clusterer, weights, None)
    params = clusterer.get_params()
    decisive = {name: value for name, value in params.items() if name != "n_jobs"}
    kind = f"{type(clusterer).__module__}.{type(clusterer).__qualname__}"
    given = (content_of(texts), y, features, weights)
    key = joblib_hash((*given, kind, decisive, sklearn.__version__, __version__))
    cached = memory.cache(_cluster, ignore=["texts", "y", "features", "clusterer", "weights"])
    fitted = cached(texts, y, features, clusterer, weights, key).set_params(**params)
    for name, value in vars(fitted).items():
        if isinstance(value, np.memmap):  # the classifier must not need the cache
            setattr(fitted, name, np.array(value))
    return fitted


def _cluster(
    texts: Sequence[str],
    y: sp.csr_array,
    features: Any,
    clusterer: BalancedLabelClusterer,
    weights: np.ndarray | None,
    key: object,
) -> BalancedLabelClusterer:
    """Cluster labels by the given features, or by TF-IDF features of their texts."""
    if features is None:
        features = _features(texts, y, weights)
    return clusterer.fit(features).labels_only()


def _features(
    texts: Sequence[str], y: sp.csr_array, weights: np.ndarray | None
) -> sp.csr_array | sp.csr_matrix:
    """Compute `label_features` from TF-IDF, as if each text were there as often as it weighs."""
    if has_many_words(texts, y):
        return summed_tfidf(texts, y, weights)
    vectorizer, features = fit_tfidf(texts)
    if weights is None:
        return label_features(y, features)
    counts = (features > 0).T @ weights
    idf = np.log((1 + weights.sum()) / (1 + counts)) + 1
    of_texts = normalize(sp.csr_array(features.multiply(idf / vectorizer.idf_)))
    return sp.csr_array(weighted(y, weights).T @ of_texts)


def _keeps(memory: Memory) -> bool:
    """Return whether the memory stores results, unlike ``Memory(None)``."""
    return getattr(memory, "store_backend", memory) is not None
