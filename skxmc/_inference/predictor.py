"""Batched prediction of top k labels and sparse score matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from skxmc._inference.extractor import FeatureExtractor, Texts
from skxmc._inference.sharded import needs_all_labels
from skxmc._inference.sharing import shared_by_processes
from skxmc._input.sparse import ranges, row_of_entry
from skxmc._model.full_label import LabelSearch, best_labels
from skxmc._model.network import LightXMLNetwork


class ScoredText(NamedTuple):
    """One text, its best labels, and the factors of the scores of all candidates.

    Candidates are the labels of m clusters, each in the slot that `LabelLayout` gives it.
    """

    token_ids: np.ndarray  # (T,) int32
    representation: np.ndarray  # (n_feature_layers * hidden,) float32, e
    columns: np.ndarray  # (k,) int64, the best labels, best first
    n_recalled: int  # clusters recalled for the best labels, the first of the m
    clusters: np.ndarray  # (m,) int64, best first
    recall: np.ndarray  # (m,) float32, scores of the clusters by the recall head
    rank: np.ndarray  # (m, s) float32, scores of their labels by the ranking head
    scores: np.ndarray  # (m, s) float32, products of both


@dataclass
class Predictor(FeatureExtractor):
    """A trained network, its tokenizer, and the settings of prediction.

    Parameters
    ----------
    network, tokenizer, max_length, batch_size, device, dtype, long_text
        See `FeatureExtractor`.
    n_candidate_clusters : int
        Number of candidate clusters b per text.
    search : callable, default=best_labels
        Function that finds the best labels in the direct mode.
    """

    network: LightXMLNetwork
    n_candidate_clusters: int
    search: LabelSearch = best_labels

    batch_size_param = "prediction_batch_size"

    @needs_all_labels
    @shared_by_processes
    def top_k(self, texts: Texts, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return columns (n, k) int64 and scores (n, k) float32 of the k best labels, best first.

        Labels with equal scores are in the order of their columns. If training has diverged,
        scores are NaN, see `check_scores`.
        """
        n_clusters = self._clusters_for(k)
        columns = np.empty((len(texts), k), dtype=np.int64)
        scores = np.empty((len(texts), k), dtype=np.float32)

        def best(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return best_first(*self.network.scores(features, n_clusters, self.search), k)

        for rows, (labels, values) in self.results(texts, best):
            columns[rows], scores[rows] = labels, values
        return columns, scores

    @needs_all_labels
    @shared_by_processes
    def scores(
        self, texts: Texts, *, top_k: int | None = None, min_score: float = 0.0
    ) -> sp.csr_matrix:
        """Return the scores of the recalled labels: CSR (n, n_labels) float32.

        The result holds only scores of at least `min_score`, and only those of the `top_k` best
        labels of each text if it is given.
        """
        n_clusters = self._clusters_for(top_k)

        def candidates(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            labels, values = self.network.scores(features, n_clusters, self.search)
            if top_k is not None:
                labels, values = best_first(labels, values, top_k)
            by_label = labels.argsort(dim=1)
            return labels.gather(1, by_label), values.gather(1, by_label)

        counts = np.zeros(len(texts), dtype=np.int64)
        found = []
        for rows, (labels, values) in self.results(texts, candidates):
            check_scores(values)
            kept = (labels >= 0) & (values >= min_score)
            counts[rows] = kept.sum(axis=1)
            found.append((rows, labels[kept], values[kept]))
        indptr = np.concatenate([[0], np.cumsum(counts)])
        indices = np.empty(indptr[-1], dtype=np.int64)
        data = np.empty(indptr[-1], dtype=np.float32)
        for rows, labels, values in found:
            # Batches are in the order of their lengths, so each row is moved to its place.
            places = ranges(indptr[rows], counts[rows])
            indices[places], data[places] = labels, values
        shape = (len(texts), self.network.layout.n_labels)
        return sp.csr_matrix((data, indices, indptr), shape=shape)

    @shared_by_processes
    def embeddings(
        self, texts: Texts, progress: Callable[[int], object] | None = None
    ) -> np.ndarray:
        """Return texts in the space of the label embeddings, z: (n, d) float32."""
        return self.array(texts, self.network.embedding_dim, self.network.embed, progress)

    def scored_text(self, text: str, k: int) -> ScoredText:
        """Split the scores of the k best labels of one text, as `top_k` finds them, by head."""
        n_recalled = self._clusters_for(k)
        # In the direct mode, every label has a score, so all labels are returned.
        n_scored = self.network.layout.n_clusters if self.network.direct else n_recalled

        def compute(features: torch.Tensor) -> tuple[torch.Tensor, ...]:
            parts = self.network.score_parts(features, n_scored)
            scores = parts.scores()
            labels = parts.labels[:, :n_recalled].flatten(1)
            columns, _ = best_first(labels, scores[:, :n_recalled].flatten(1), k)
            features = features[:, : self.network.n_features]
            return features, columns, parts.clusters, parts.recall[:, :, 0], parts.rank, scores

        tokens = self._tokenize([text])
        ((_, arrays),) = self.results(tokens, compute)
        representation, columns, *parts = (array[0] for array in arrays)
        return ScoredText(tokens.ids, representation, columns, n_recalled, *parts)

    @needs_all_labels
    def true_labels_by_rank(self, texts: Texts, y: sp.csr_array) -> np.ndarray:
        """Count the true labels in the cluster that the recall head ranks first, second and so on.

        In the direct mode, these are the labels that the ranking head ranks.

        Parameters
        ----------
        texts : sequence of str or TokenStore
        y : csr_array of shape (n_texts, n_labels)
            True labels of the texts.

        Returns
        -------
        ndarray of shape (n_clusters,), int64
            Sums over all texts.
        """
        layout = self.network.layout
        cluster_of = layout.cluster_of.cpu().numpy()
        counts = np.zeros(layout.n_clusters, dtype=np.int64)

        def ranks(features: torch.Tensor) -> tuple[torch.Tensor]:
            logits = self.network.recall_logits(features)
            return (logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1),)

        for rows, (rank_of,) in self.results(texts, ranks):
            true = y[rows]
            text_of = row_of_entry(true)
            found = rank_of[text_of, cluster_of[true.indices]]
            counts += np.bincount(found, minlength=layout.n_clusters)
        return counts

    def _clusters_for(self, k: int | None) -> int:
        """Return the number of clusters to recall: b, or more if k labels need more.

        In the direct mode, k labels are k clusters. More would change nothing.
        """
        layout = self.network.layout
        if self.network.direct and k is not None:
            return k
        needed = -(-(k or 1) // layout.min_size)
        return min(max(self.n_candidate_clusters, needed), layout.n_clusters)


def check_scores(scores: np.ndarray) -> None:
    """Check that no score is NaN.

    Raises
    ------
    ValueError
        If a score is NaN. The message says which parameters to change.
    """
    if np.isnan(scores).any():
        raise ValueError(
            "The scores are NaN: training has diverged, or numbers have overflowed in fp16. Fit "
            "with a lower learning_rate, head_learning_rate or weight_decay or with max_grad_norm, "
            'or set precision="fp32".'
        )


def best_first(
    labels: torch.Tensor, scores: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Select the k best candidates of each row, best first. On ties, the lower label wins."""
    # One integer holds score and label: the bits of positive floats sort like the floats. The mask
    # clears the sign, which only a NaN can have, so that NaN comes first and is noticed.
    keys = ((scores.view(torch.int32) & 0x7FFFFFFF).long() << 32) - labels
    best = keys.topk(k, dim=1).indices
    return labels.gather(1, best), scores.gather(1, best)
