"""The network of LightXML: an encoder, a recall head and a ranking head.

In the direct mode there is no recall head, and the ranking head scores every label.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from skxmc._model.encoder import (
    dropout_rates,
    set_dropout,
)
from skxmc._model.full_label import (
    LabelSearch,
    Update,
    best_labels,
    full_label_loss,
    label_logits,
)
from skxmc._model.layout import (
    Candidates,
    LabelLayout,
    Positives,
    dynamic_clusters,
    gather_candidates,
    top_clusters,
)
from skxmc._model.text_network import TextNetwork

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Gathers vectors, (n, ...), for all texts of a batch, if processes share it: (B, ...).
Gather = Callable[[torch.Tensor], torch.Tensor]
# Chooses candidate clusters, with the arguments and the result of `dynamic_clusters`.
Choose = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]

# Scores are positive, so that an absent entry of a sparse score matrix ranks below all of them.
MIN_SCORE = torch.finfo(torch.float32).tiny


class Losses(NamedTuple):
    """The two parts of eq. 6. A part that was not requested is 0."""

    recall: torch.Tensor
    rank: torch.Tensor


class ScoreParts(NamedTuple):
    """The labels of the candidate clusters, and the two factors of their scores.

    In the direct mode, each candidate is a cluster of its own, and has no score by a recall head.
    """

    clusters: torch.Tensor  # (B, b) int64, the best first
    labels: torch.Tensor  # (B, b, s) int64, -1 in slots without a label
    recall: torch.Tensor  # (B, b, 1) float32, sigmoid(g_cluster(l)); 1 in the direct mode
    rank: torch.Tensor  # (B, b, s) float32, sigmoid(E_l . z)

    def scores(self) -> torch.Tensor:
        """Multiply the factors: (B, b, s) float32, positive, and 0 in slots without a label."""
        scores = (self.recall * self.rank).clamp_min(MIN_SCORE)
        return scores.masked_fill(self.labels < 0, 0.0)


class LabelTable(nn.Module):
    """Embeddings and biases of the labels, with one row of memory per cluster.

    Gradients are sparse: they hold only the rows of the clusters in a step, and `RowAdamW` writes
    only these rows. The embeddings are not initialized. `start_at_priors` draws them, or a saved
    model replaces them.

    Parameters
    ----------
    n_clusters, cluster_size, dim : int
        Sizes C, s and d. The table has one more cluster, the dummy of `LabelLayout`.
    """

    def __init__(self, n_clusters: int, cluster_size: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.n_entries = (n_clusters + 1) * cluster_size * dim
        # Not drawn here, because a loaded model would replace it, and it may be most of the memory.
        self.weight = nn.Parameter(torch.empty(n_clusters + 1, cluster_size * dim))
        self.bias = nn.Parameter(torch.zeros(n_clusters + 1, cluster_size))

    def forward(self, clusters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (M, s, d) and biases (M, s) of clusters, each listed once."""
        weight = F.embedding(clusters, self.weight, sparse=True)
        bias = F.embedding(clusters, self.bias, sparse=True)
        return weight.unflatten(1, (-1, self.dim)), bias

    def convert(self, dtype: torch.dtype) -> None:
        """Convert the embeddings to `dtype`. Biases stay in float32."""
        self.weight.data = self.weight.data.to(dtype)

    def by_label(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (L, d) and biases (L,) of clusters of one label, without a copy."""
        return self.weight.detach()[:-1], self.bias.detach()[:-1, 0]

    def by_cluster(self) -> torch.Tensor:
        """Return all embeddings, (C + 1, s, d), in the memory of the table."""
        return self.weight.detach().unflatten(1, (-1, self.dim))


class LightXMLNetwork(TextNetwork):
    """Encoder, recall head and ranking head, trained together.

    The paper calls the recall head "generator" and the ranking head "discriminator".

    Parameters
    ----------
    encoder : PreTrainedModel
        A Hugging Face encoder.
    cluster_of : ndarray of shape (n_labels,)
        Cluster of each label. If each label is a cluster of its own (the direct mode), there is no
        recall head, and the ranking head scores every label.
    n_feature_layers : int
        Number of last hidden layers whose states are concatenated.
    bottleneck_dim : int or None
        Dimension d of the label embeddings. None has no bottleneck: labels have embeddings of the
        dimension of e.
    dropout : float
        Dropout rate of the concatenated states.
    pooling : {"cls", "mean", "alternate"}, default="cls"
        State of a text in a layer, see `TextNetwork`.
    separate_encoders : bool, default=False
        Whether the ranking head has its own copy of the encoder.
    """

    feature_mean: torch.Tensor

    def __init__(
        self,
        encoder: PreTrainedModel,
        cluster_of: np.ndarray,
        *,
        n_feature_layers: int,
        bottleneck_dim: int | None,
        dropout: float,
        pooling: str = "cls",
        separate_encoders: bool = False,
    ) -> None:
        super().__init__(encoder, n_feature_layers=n_feature_layers, pooling=pooling)
        self.own_dropout_rates = dropout_rates(encoder)
        self.rank_encoder: PreTrainedModel | None = None
        if separate_encoders:
            self.separate_encoders()
        self.bottleneck_dim = bottleneck_dim
        self.dropout = nn.Dropout(dropout)
        self.layout = LabelLayout(cluster_of)
        dim = n_feature_layers * encoder.config.hidden_size
        # Subtracted from e before the dropout, which would otherwise turn the part that all texts
        # share into noise. It is zero if the heads start at random, as in the paper.
        self.register_buffer("feature_mean", torch.zeros(dim))
        self.direct = self.layout.max_size == 1
        if not self.direct:
            self.recall_head = nn.Linear(dim, self.layout.n_clusters)
        self.bottleneck: nn.Module = nn.Identity()
        if bottleneck_dim is not None:
            self.bottleneck = nn.Linear(dim, bottleneck_dim)
        self.label_table = LabelTable(
            self.layout.n_clusters, self.layout.max_size, bottleneck_dim or dim
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that make an equal network, besides the encoder and the clusters."""
        return {
            **super().settings,
            "bottleneck_dim": self.bottleneck_dim,
            "dropout": self.dropout.p,
            "separate_encoders": self.rank_encoder is not None,
        }

    @property
    def encoders(self) -> list[PreTrainedModel]:
        """The encoder, and the copy of the ranking head if there is one."""
        return [self.encoder] if self.rank_encoder is None else [self.encoder, self.rank_encoder]

    @property
    def embedding_dim(self) -> int:
        """Dimension d of the label embeddings."""
        return self.bottleneck_dim or self.n_features

    @property
    def product_weights(self) -> list[nn.Parameter]:
        """Weights of matrix products: in the direct mode, also the whole label table."""
        weights = super().product_weights
        return [*weights, self.label_table.weight] if self.direct else weights

    def own_labels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings and biases of the labels of this process in the direct mode."""
        return self.label_table.by_label()

    def whole_weights(self) -> dict[str, torch.Tensor] | None:
        """Return the state with all labels, or None in a process that does not write it."""
        return self.state_dict()

    def separate_encoders(self) -> None:
        """Give the ranking head its own copy of the encoder (BS of table 5)."""
        self.rank_encoder = copy.deepcopy(self.encoder)

    def set_dropout(self, rate: float, of_encoder: float | None) -> None:
        """Set the dropout rates of e and of the encoders. None restores the encoders' own rates."""
        self.dropout.p = rate
        rates = self.own_dropout_rates
        for encoder in self.encoders:
            set_dropout(encoder, rates if of_encoder is None else dict.fromkeys(rates, of_encoder))

    def losses(
        self,
        features: torch.Tensor,
        positives: Positives,
        n_candidate_clusters: int,
        *,
        chosen: torch.Tensor | None = None,
        objective: str = "both",
        update: Update | None = None,
        gather: Gather = lambda own: own,
        choose: Choose = dynamic_clusters,
    ) -> Losses:
        """Compute eq. 1 and eq. 5: sums over clusters and candidates, means over the texts.

        In the direct mode, the candidates are all labels, and there is no eq. 1.

        Parameters
        ----------
        features : Tensor of shape (B, n_encoders * n_feature_layers * hidden)
            Result of `represent`.
        positives : Positives
            The positive labels, and weights of texts and pairs if they differ.
        n_candidate_clusters : int
            Number of candidate clusters b per text.
        chosen : Tensor of shape (B, b), int64, optional
            Candidate clusters. By default the recall head chooses them (dynamic negatives).
        objective : {"both", "recall", "rank"}, default="both"
            Losses to compute.
        update : callable, optional
            Function that updates the label table in the direct mode, see `full_label_loss`.
        gather, choose : callable, optional
            Functions that a process needs if it has only a part of the texts and clusters.
        """
        no_loss = features.new_zeros((), dtype=torch.float32)
        if self.direct:
            z, (weight, bias) = gather(self.embed(features)), self.label_table.by_label()
            places = positives._replace(labels=self.layout.cluster_of[positives.labels])
            return Losses(no_loss, full_label_loss(z, weight, bias, places, update))
        recall_features, rank_features = self._head_inputs(features, gather)
        recall_loss, rank_loss = no_loss, no_loss
        if objective != "rank" or chosen is None:
            recall_logits = self.recall_head(recall_features).float()
            cluster_targets = self.layout.cluster_targets(positives, len(recall_logits))
        if objective != "rank":
            weights = self.layout.cluster_weights(positives, len(recall_logits))
            recall_loss = F.binary_cross_entropy_with_logits(
                recall_logits, cluster_targets, weights, reduction="sum"
            ) / len(recall_logits)
        if objective != "recall":
            if chosen is None:
                chosen = choose(recall_logits, cluster_targets, n_candidate_clusters)
            z = self.bottleneck(rank_features)
            rank_loss = self._rank_loss(z, positives, chosen) / len(z)
        return Losses(recall_loss, rank_loss)

    def _head_inputs(
        self, features: torch.Tensor, gather: Gather = lambda own: own
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the input of each head: e minus its mean, with dropout in training."""
        by_encoder = features.unflatten(1, (len(self.encoders), -1))
        inputs = gather(self.dropout(by_encoder - self.feature_mean))
        return inputs[:, 0], inputs[:, -1]

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Compute z = W_h e + b_h, in the space of the label embeddings: (B, d)."""
        return self.bottleneck(self._head_inputs(features)[1])

    def recall_logits(self, features: torch.Tensor) -> torch.Tensor:
        """Score all clusters by the recall head, or labels in the direct mode: (B, C) float32."""
        if self.direct:
            return label_logits(self.embed(features), *self.label_table.by_label())
        return self.recall_head(self._head_inputs(features)[0]).float()

    def _rank_loss(
        self, z: torch.Tensor, positives: Positives, chosen: torch.Tensor
    ) -> torch.Tensor:
        """Compute eq. 5: binary cross-entropy summed over texts and their candidates.

        The candidates of a text are all labels of its chosen clusters, and its positives in any
        cluster. The cross-entropy of a negative is softplus(x), and that of a positive is
        softplus(x) - x = softplus(-x), times the weight of the pair. Slots without a label never
        count.
        """
        cluster = self.layout.cluster_of[positives.labels]
        slot = self.layout.slot_of[positives.labels]
        candidates = gather_candidates(chosen, self.layout.n_clusters, cluster)
        of_listed, bias, of_chosen = self._rank(z, candidates)
        counts = self.layout.labels_of[chosen] >= 0
        place = candidates.position[cluster]
        of_positive = of_listed[positives.rows, place, slot].float() + bias[place, slot]
        not_counted_yet = (chosen[positives.rows] != cluster[:, None]).all(dim=1)
        of_positives = F.softplus(of_positive) * not_counted_yet - of_positive
        if positives.pair_weights is not None:
            of_positives = of_positives + (positives.pair_weights - 1) * F.softplus(-of_positive)
        if positives.weights is not None:
            counts = counts * positives.weights[:, None, None]
            of_positives = of_positives * positives.weights[positives.rows]
        return (F.softplus(of_chosen) * counts).sum() + of_positives.sum()

    def _rank(
        self, z: torch.Tensor, candidates: Candidates
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Score candidates: E_l . z + bias.

        Returns
        -------
        of_listed : Tensor of shape (B, M, s)
            Scores of the labels of all listed clusters for each text, without the bias.
        bias : Tensor of shape (M, s), float32
            Biases of these labels.
        of_chosen : Tensor of shape (B, b, s), float32
            Scores of the labels of each text's own clusters, with the bias.
        """
        weight, bias = self.label_table(candidates.clusters)
        of_listed = (z @ weight.flatten(0, 1).to(z.dtype).T).unflatten(1, bias.shape)
        own = candidates.position[candidates.chosen]
        by_slot = own[:, :, None].expand(-1, -1, bias.shape[1])
        of_chosen = of_listed.gather(1, by_slot).float() + F.embedding(own, bias)
        return of_listed, bias, of_chosen

    def scores(
        self,
        features: torch.Tensor,
        n_candidate_clusters: int,
        search: LabelSearch = best_labels,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score the labels of the best clusters: sigmoid(E_l . z) * sigmoid(g_cluster(l)).

        In the direct mode, `search` finds the best labels.

        Returns
        -------
        labels : Tensor of shape (B, m), int64
            Candidate labels, -1 in slots without a label.
        scores : Tensor of shape (B, m), float32
            Positive scores, 0 in slots without a label.
        """
        parts = self.score_parts(features, n_candidate_clusters, search)
        return parts.labels.flatten(1), parts.scores().flatten(1)

    def score_parts(
        self,
        features: torch.Tensor,
        n_candidate_clusters: int,
        search: LabelSearch = best_labels,
    ) -> ScoreParts:
        """Score the best clusters by the recall head, and their labels by the ranking head."""
        recall_features, rank_features = self._head_inputs(features)
        if self.direct:
            chosen, logits = search(
                self.bottleneck(rank_features), *self.own_labels(), n_candidate_clusters
            )
            rank = logits[:, :, None].sigmoid()
            labels = self.layout.labels_of[chosen]
            return ScoreParts(chosen, labels, torch.ones_like(rank), rank)
        recall_logits = self.recall_head(recall_features).float()
        chosen = top_clusters(recall_logits, n_candidate_clusters)
        recall = recall_logits.gather(1, chosen).sigmoid()[:, :, None]
        candidates = gather_candidates(chosen, self.layout.n_clusters)
        rank = self._rank(self.bottleneck(rank_features), candidates)[2].sigmoid()
        return ScoreParts(chosen, self.layout.labels_of[chosen], recall, rank)
