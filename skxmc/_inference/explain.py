"""Explain a prediction of a `LightXMLClassifier`: words, both heads, nearest labels and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import gen_batches

from skxmc._inference.explanation import (
    ExplainedLabel,
    NeighborLabel,
    NeighborText,
    TopKExplanation,
)
from skxmc._inference.predictor import ScoredText
from skxmc._inference.words import check_text, word_effects
from skxmc._input.ranking import check_k
from skxmc._input.sparse import as_array
from skxmc._input.texts import check_texts
from skxmc._input.validation import check_labels
from skxmc._model.network import LightXMLNetwork
from skxmc._model.tokens import count_tokens
from skxmc._nearest.exact import unit_rows

if TYPE_CHECKING:
    from skxmc._classifier import LightXMLClassifier

# Vectors compared at once, so that no copy of all vectors is made.
VECTORS_BLOCK = 1024
# So many vectors tell how near the nearest one usually is.
MAX_SAMPLE, MIN_SAMPLE = 256, 100


def explain(
    clf: LightXMLClassifier,
    text: object,
    k: Any,
    *,
    n_words: Any,
    n_neighbors: Any,
    texts: Any = None,
    y: Any = None,
    representations: Any = None,
) -> TopKExplanation:
    """Explain one prediction, as `LightXMLClassifier.explain_topk` documents."""
    text = check_text(text)
    k = check_k(k, clf.n_labels_)
    n_words = check_k(n_words, name="n_words")
    n_neighbors = check_k(n_neighbors, name="n_neighbors")
    corpus = _check_corpus(clf, texts, y, representations)
    scored = clf._predictor().scored_text(text, k)
    n_read = len(scored.token_ids)
    is_short = n_read < clf.max_length
    words, _ = word_effects(clf, text, scored.columns, n_words)
    labels = zip(_explain_labels(clf, scored, n_neighbors), words, strict=True)
    compared = {} if corpus is None else _compare_texts(clf, scored, corpus, n_neighbors)
    return TopKExplanation(
        text=text,
        labels=tuple(label._replace(words=of_label) for label, of_label in labels),
        **compared,
        text_read=clf.tokenizer_.decode(scored.token_ids.tolist(), skip_special_tokens=True),
        n_tokens=n_read if is_short else count_tokens(clf.tokenizer_, text),
        n_tokens_read=n_read,
        n_recalled=None if clf.network_.direct else scored.n_recalled,
        cut_from_start=clf.tokenizer_.truncation_side == "left",
    )


class _Corpus(NamedTuple):
    """Checked texts to compare with."""

    texts: list[str]
    labels: sp.csr_array | None  # of shape (n_texts, n_labels)
    representations: np.ndarray  # (n_texts, n_feature_layers * hidden)


def _check_corpus(
    clf: LightXMLClassifier, texts: Any, y: Any, representations: Any
) -> _Corpus | None:
    if texts is None:
        for name, value in (("y", y), ("representations", representations)):
            if value is not None:
                raise ValueError(f"{name} was given without texts. Pass its texts too.")
        return None
    texts = check_texts(texts, name="texts")
    labels = None
    if y is not None:
        labels = check_labels(y, classes=clf.classes_, n_texts=len(texts)).matrix
    if representations is None:
        return _Corpus(texts, labels, clf.encode(texts))
    vectors = as_array(representations, "representations")
    expected = (len(texts), clf.network_.n_features)
    if vectors.shape != expected or vectors.dtype.kind != "f":
        raise ValueError(
            f"representations must be floats of shape {expected}, one row per text, but has dtype "
            f"{vectors.dtype} and shape {vectors.shape}. Pass encode(texts) of this classifier."
        )
    return _Corpus(texts, labels, vectors)


def _explain_labels(
    clf: LightXMLClassifier, scored: ScoredText, n_neighbors: int
) -> tuple[ExplainedLabel, ...]:
    layout = clf.network_.layout
    cluster_of, slot_of = layout.cluster_of.cpu().numpy(), layout.slot_of.cpu().numpy()
    place_of = np.full(layout.n_clusters, -1)
    place_of[scored.clusters] = np.arange(len(scored.clusters))

    def score(columns: np.ndarray) -> np.ndarray:
        return scored.scores[place_of[cluster_of[columns]], slot_of[columns]]

    def explained(column: int) -> ExplainedLabel:
        near, cosines = _nearest_labels(clf.network_, column, n_neighbors)
        names = clf.classes_[[column, *near]].tolist()
        cluster, slot = cluster_of[column], slot_of[column]
        place = place_of[cluster]
        label = ExplainedLabel(
            label=names[0],
            score=float(scored.scores[place, slot]),
            recall_score=None,
            rank_score=float(scored.rank[place, slot]),
            cluster=None,
            cluster_place=None,
            cluster_size=None,
            neighbors=tuple(map(NeighborLabel, names[1:], cosines.tolist(), score(near).tolist())),
        )
        if clf.network_.direct:
            return label
        return label._replace(
            recall_score=float(scored.recall[place]),
            cluster=int(cluster),
            cluster_place=int(place) + 1,
            cluster_size=int((layout.labels_of[cluster] >= 0).sum()),
        )

    return tuple(map(explained, scored.columns.tolist()))


def _nearest_labels(network: LightXMLNetwork, column: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest labels in the same cluster, or among all labels in the direct mode."""
    layout = network.layout
    cluster = layout.cluster_of[column]
    if network.direct:
        labels, embeddings = layout.labels_of[:-1, 0], network.label_table.by_label()[0]
    else:
        is_label = layout.labels_of[cluster] >= 0
        labels = layout.labels_of[cluster][is_label]
        embeddings = network.label_table.by_cluster()[cluster][is_label]
    columns, vectors = labels.cpu().numpy(), embeddings.detach().float().cpu().numpy()
    own = np.flatnonzero(columns == column)[0]
    cosines = _cosines(vectors, vectors[own])
    order = np.argsort(-cosines, kind="stable")
    # A zero embedding is near no label.
    order = order[(order != own) & (cosines[order] != 0)][:n]
    return columns[order], cosines[order]


def _compare_texts(
    clf: LightXMLClassifier, scored: ScoredText, corpus: _Corpus, n: int
) -> dict[str, Any]:
    """Find the nearest texts, and tell how near they are and usually would be."""
    # The heads subtract this mean too. Without it, the cosine of any two texts is above 0.9,
    # because the [CLS] states of all texts have so much in common.
    mean = clf.network_.feature_mean.cpu().numpy()
    cosines = _cosines(corpus.representations, scored.representation, mean)
    if not np.isfinite(cosines).all():
        raise ValueError(
            "representations holds NaN or infinite numbers. Pass encode(texts) of this classifier."
        )
    rows = np.argsort(-cosines, kind="stable")[:n]
    carried: Sequence[tuple[str | int, ...] | None] = [None] * len(rows)
    if corpus.labels is not None:
        has = corpus.labels[rows][:, scored.columns].toarray() > 0
        carried = [tuple(clf.classes_[scored.columns[of_row]].tolist()) for of_row in has]
    return {
        "neighbors": tuple(
            NeighborText(corpus.texts[row], int(row), float(cosines[row]), labels)
            for row, labels in zip(rows, carried, strict=True)
        ),
        "similarity": float(cosines[rows[0]]),
        "usual_similarity": _usual_similarity(corpus.representations, mean),
    }


def _usual_similarity(vectors: np.ndarray, origin: np.ndarray) -> float | None:
    """Return the 1st percentile of the cosines of rows to their nearest other rows."""
    if len(vectors) < MIN_SAMPLE:
        return None
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), MAX_SAMPLE)).astype(int)
    sample = unit_rows(vectors[rows], origin)
    nearest = np.full(len(rows), -1, dtype=np.float32)
    for part in gen_batches(len(vectors), VECTORS_BLOCK):
        cosines = unit_rows(vectors[part], origin) @ sample.T
        own = np.flatnonzero((rows >= part.start) & (rows < part.stop))
        cosines[rows[own] - part.start, own] = -1
        nearest = np.maximum(nearest, cosines.max(axis=0))
    return float(np.percentile(nearest, 1))


def _cosines(vectors: np.ndarray, to: np.ndarray, origin: np.ndarray | float = 0.0) -> np.ndarray:
    """Compute the cosine of each row to one vector, from `origin`. It is 0 if either is 0."""
    to = (to - origin).astype(np.float32)
    cosines = np.empty(len(vectors), dtype=np.float32)
    for part in gen_batches(len(vectors), VECTORS_BLOCK):
        centered = (vectors[part] - origin).astype(np.float32)
        norms = np.sqrt(np.einsum("ij,ij->i", centered, centered) * (to @ to))
        cosines[part] = centered @ to / np.maximum(norms, np.finfo(np.float32).tiny)
    return cosines
