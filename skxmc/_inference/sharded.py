"""Networks whose labels are in parts, one per process, because one device cannot hold them all.

B: texts of a batch. N: number of processes. C: number of clusters. b: candidate clusters per text.

Process r owns the clusters r, r + N and so on, and holds only their rows of the label table and of
the recall head. All processes predict together. Each represents a part of the texts, and all gather
e. Each then scores its own clusters, or its own labels in the direct mode. The best of all
processes are chosen among the best of each. So every process has the candidates and the scores that
the network with all labels would have.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from skxmc._inference.joint_calls import CALLS, Connections, connections_now
from skxmc._inference.sharing import digest_of_call
from skxmc._model.device import copy_to
from skxmc._model.full_label import LabelSearch, best_labels
from skxmc._model.layout import LabelLayout, gather_candidates
from skxmc._model.network import LightXMLNetwork, ScoreParts
from skxmc._model.tokens import TokenBatch, TokenStore

if TYPE_CHECKING:
    from skxmc._inference.predictor import Predictor, Texts

# Names of the modules that are cut into rows.
CUT = ("label_table", "recall_head")
# Bytes of the rows that each process sends at once to the first one.
BYTES_BLOCK = 1 << 24

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Part:
    """The clusters of one of several processes.

    Parameters
    ----------
    n_clusters : int
        Number of all clusters.
    rank, size : int
        Number of the process, and of all.
    fit : Connections, optional
        Connections of the fit that runs. Without them, the processes meet in `together`.

    Attributes
    ----------
    name : str
        Name of the fitted model, the same in all processes. It is empty while the fit runs, when
        callbacks, which only the first process calls, must not predict.
    """

    def __init__(
        self, n_clusters: int, rank: int, size: int, fit: Connections | None = None
    ) -> None:
        self.n_clusters, self.rank, self.size, self.fit = n_clusters, rank, size, fit
        self.name = ""
        self.n_own = len(range(rank, n_clusters, size))

    def __deepcopy__(self, memo: dict[int, Any]) -> Part:
        return self

    @property
    def connections(self) -> Connections | None:
        """Connections of the call in which all processes take part now, or None."""
        return self.fit or connections_now()

    def connected(self) -> Connections:
        """Return the connections.

        Raises
        ------
        RuntimeError
            If this process computes on its own.
        """
        if self.connections is None:
            raise RuntimeError(
                "The labels of this model are in parts, so that one process cannot compute this. "
                f"{MAKE_WHOLE}"
            )
        return self.connections

    def own_rows(self, whole: torch.Tensor) -> torch.Tensor:
        """Copy the rows of own clusters, and of the dummy cluster if there is one."""
        n_clusters = self.n_clusters
        return torch.cat([whole[self.rank : n_clusters : self.size], whole[n_clusters:]])

    def rows_for_first(self, own: torch.Tensor, *, block: int = BYTES_BLOCK) -> torch.Tensor:
        """Undo `own_rows` in the first process, piece by piece, in the memory of its host.

        The dummy cluster is that of the last process.

        Parameters
        ----------
        own : Tensor of shape (n_own, ...) or (n_own + 1, ...)
        block : int, default=BYTES_BLOCK
            Maximum number of bytes of a piece.

        Returns
        -------
        Tensor of shape (C, ...) or (C + 1, ...)
            It is empty in other processes.
        """
        n_clusters, shape = self.n_clusters, own.shape[1:]
        n_most = -(-n_clusters // self.size)
        n_rows = max(1, min(block // (own.element_size() * math.prod(shape)), n_most))
        n_dummies = len(own) - self.n_own
        n_whole = 0 if self.rank else n_clusters + n_dummies
        whole = own.new_empty(n_whole, *shape, device="cpu")
        for start in range(0, n_most, n_rows):
            piece = own.new_zeros(n_rows, *shape)
            found = own[start : min(start + n_rows, self.n_own)]
            piece[: len(found)] = found
            rows = self.connected().gather(piece).transpose(0, 1).flatten(0, 1)
            if self.rank == 0:
                part = whole[start * self.size : min((start + n_rows) * self.size, n_clusters)]
                part.copy_(rows[: len(part)])
        if n_dummies:
            dummy = self.connected().gather(own[self.n_own :])[-1]
            whole[n_clusters:] = dummy[: len(whole[n_clusters:])]
        return whole

    def whole_weights(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the state of a network with all its clusters, in the first process."""
        return {n: self.rows_for_first(w) if n.startswith(CUT) else w for n, w in weights.items()}

    def own_clusters(self, clusters: Any) -> Any:
        """Return the numbers that own clusters have here, and that of the dummy for others."""
        where = torch.where if isinstance(clusters, torch.Tensor) else np.where
        is_own = clusters % self.size == self.rank
        return where(is_own, clusters // self.size, self.n_own)

    def best(
        self, own: torch.Tensor, values: torch.Tensor, n: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the clusters of the highest values of all processes, among the best of each.

        Parameters
        ----------
        own : Tensor of shape (B, m), int64
            The best clusters of this process, by the numbers that they have here, with m <= n.
        values : Tensor of shape (B, m), float32
        n : int

        Returns
        -------
        clusters : Tensor of shape (B, n), int64
            The best first.
        values : Tensor of shape (B, n), float32
        """
        values = values.clamp_min(torch.finfo(torch.float32).min)  # above the padding
        found = torch.stack([values.double(), own.double() * self.size + self.rank])
        found = F.pad(found, (0, n - values.shape[1]), value=-torch.inf)
        values, clusters = self.connected().gather(found).movedim(0, 2).flatten(2)  # (B, N * n)
        values, best = values.topk(n, dim=1)
        return clusters.gather(1, best).long(), values.float()


class ShardedNetwork(LightXMLNetwork):
    """A network with the clusters of this process, which scores those of all processes.

    Whatever reads the weights of all labels raises `RuntimeError`.

    Parameters
    ----------
    own : LightXMLNetwork
        Network with the clusters of this process.
    part : Part
    layout : LabelLayout
        Layout of all clusters.
    """

    in_parts = True

    def __init__(self, own: LightXMLNetwork, part: Part, layout: LabelLayout) -> None:
        nn.Module.__init__(self)
        self.own = own
        self.part = part
        self.layout = layout

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "own":
                raise
            if name in CUT:
                self.check_whole()
            return getattr(self.own, name)

    @property
    def in_step(self) -> bool:
        """Whether all processes take part in what this thread does now."""
        return self.part.connections is not None

    @property
    def product_weights(self) -> list[nn.Parameter]:
        """Weights of matrix products: in the direct mode, also the labels of this process."""
        return self.own.product_weights

    def own_labels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings and biases of the labels of this process in the direct mode."""
        return self.own.own_labels()

    def check_whole(self) -> None:
        """Raise `RuntimeError`, because this network has not all labels."""
        raise RuntimeError(
            f"The labels of this model are in parts, one per process, and this needs all of them. "
            f"{MAKE_WHOLE}"
        )

    def whole_weights(self) -> dict[str, torch.Tensor] | None:
        """Return the state of the network with all labels in the first process, None in others."""
        weights = self.part.whole_weights(self.own.state_dict())
        return None if self.part.rank else weights

    def together(self, asked: str) -> AbstractContextManager[Connections]:
        """Make a context in which all processes take part, see `Calls.together`."""
        part = self.part
        if not part.name:
            raise RuntimeError(
                "The labels of this model are in parts until fit ends, so that a callback cannot "
                "predict. Predict after fit, in all processes."
            )
        asked = f"{asked} of {part.name}"
        return CALLS.together(part.rank, part.size, asked, self.encoder.device)

    def represent(self, batch: TokenBatch) -> torch.Tensor:
        """Represent texts by e. If all processes take part, each represents some of them."""
        connections = self.part.connections
        if connections is None:
            return self.own.represent(batch)
        n_texts = len(batch.input_ids)
        rows = copy_to(torch.from_numpy(connections.dealt(np.arange(n_texts))), self.encoder.device)
        parts = (part[rows] if isinstance(part, torch.Tensor) else part for part in batch)
        own = self.own.represent(TokenBatch._make(parts))
        return connections.gather(own).transpose(0, 1).flatten(0, 1)[:n_texts]

    def recall_logits(self, features: torch.Tensor) -> torch.Tensor:
        """Score all clusters by the recall head, or labels in the direct mode: (B, C) float32."""
        own, n_clusters = self.own.recall_logits(features), self.part.n_clusters
        own = F.pad(own, (0, -(-n_clusters // self.part.size) - own.shape[1]))
        return self.part.connected().gather(own).movedim(0, 2).flatten(1)[:, :n_clusters]

    def score_parts(
        self,
        features: torch.Tensor,
        n_candidate_clusters: int,
        search: LabelSearch = best_labels,
    ) -> ScoreParts:
        """Score the best clusters by the recall head, and their labels by the ranking head."""
        own, part, n_own = self.own, self.part, min(n_candidate_clusters, self.part.n_own)
        recall_features, rank_features = self._head_inputs(features)
        z = self.bottleneck(rank_features)
        if self.direct:
            found, logits = search(z, *self.own_labels(), n_own)
            chosen, logits = part.best(found, logits, n_candidate_clusters)
            rank = logits[:, :, None].sigmoid()
            return ScoreParts(chosen, self.layout.labels_of[chosen], torch.ones_like(rank), rank)
        logits, found = own.recall_head(recall_features).float().topk(n_own, dim=1)
        chosen, logits = part.best(found, logits, n_candidate_clusters)
        here = part.own_clusters(chosen)
        rank = own._rank(z, gather_candidates(here, part.n_own))[2].sigmoid()
        rank = rank.masked_fill((here == part.n_own)[:, :, None], 0.0)
        rank = part.connected().sum(rank.contiguous())  # the owner alone has more than 0
        return ScoreParts(chosen, self.layout.labels_of[chosen], logits.sigmoid()[:, :, None], rank)


MAKE_WHOLE = (
    "Call save_pretrained in all processes. Then load the model with from_pretrained in a process "
    "with memory for all labels."
)


def needs_all_labels(
    method: Callable[Concatenate[Predictor, Texts, Given], Result],
) -> Callable[Concatenate[Predictor, Texts, Given], Result]:
    """Decorate a method that needs all labels: if they are in parts, all processes take part."""

    @functools.wraps(method)
    def together(
        predictor: Predictor, texts: Texts, *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        network = predictor.network
        if (
            not isinstance(network, ShardedNetwork)
            or network.in_step
            or isinstance(texts, TokenStore | np.ndarray)
        ):
            return method(predictor, texts, *args, **kwargs)
        call = f"{method.__qualname__} {args} {kwargs} {predictor.batch_size}"
        with network.together(digest_of_call(predictor, texts, call)):
            return method(predictor, texts, *args, **kwargs)

    return together
