"""A training step that several processes share.

B: texts of the batch of all processes. N: number of processes. C: number of clusters.

Process r represents the texts r, r + N, r + 2 N and so on of a batch. It owns the clusters r, r + N
and so on, since neighbors, which are recalled together, then have different owners. It holds only
their rows of the label table and of the recall head, and the moments of these rows. All processes
gather e, the input of the heads. In the direct mode they gather z, which is shorter. From there on,
each computes the losses of all B texts for the labels that it owns, by the same code as one
process. The gradients of e or z are summed and go back to the process of the text. Those of all
other weights are summed too.

In the direct mode each label is a cluster.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from skxmc._inference.sharded import CUT, Part, ShardedNetwork
from skxmc._model.layout import LabelLayout, dynamic_clusters
from skxmc._model.network import LightXMLNetwork
from skxmc._utils.memory import available_memory

if TYPE_CHECKING:
    from skxmc._training.distributed import ManyProcesses
    from skxmc._training.trainer import TrainingSet

Weights = dict[str, torch.Tensor]
# The whole weights may take this share of the memory that is free. Predictions need the rest.
MAX_SHARE = 0.8
# Kinds of gradients.
ABSENT, DENSE, SPARSE = -1, 0, 1


class Whole:
    """A network whose clusters all belong to this process."""

    def part_of(self, data: TrainingSet) -> TrainingSet:
        """Return the training set of this process."""
        return data

    def gather(self, own: torch.Tensor, n_texts: int) -> torch.Tensor:
        """Gather the inputs of the heads for all texts of the batch."""
        return own

    def choose(
        self, recall_logits: torch.Tensor, cluster_targets: torch.Tensor, n_candidate_clusters: int
    ) -> torch.Tensor:
        """Choose the candidate clusters of each text, see `dynamic_clusters`."""
        return dynamic_clusters(recall_logits, cluster_targets, n_candidate_clusters)

    def sum_gradients(
        self, optimizers: list[torch.optim.Optimizer], precision: torch.dtype
    ) -> None:
        """Sum the gradients of the weights that all processes have."""

    def share_overflow(
        self, scaler: torch.amp.GradScaler, optimizers: list[torch.optim.Optimizer]
    ) -> None:
        """Tell the scaler if the gradients of any process overflow in fp16."""

    def norm(self, parameters: list[torch.Tensor], norms: torch.Tensor) -> torch.Tensor:
        """Compute the joint norm of all gradients from the norm of each."""
        return torch.linalg.vector_norm(norms)

    def kept(self, network: LightXMLNetwork) -> LightXMLNetwork:
        """Return the network with all its clusters, for callbacks."""
        return network

    def join(self, network: LightXMLNetwork) -> None:
        """Give the network all its clusters back."""

    def whole_weights(self, weights: Weights) -> Weights:
        """Return the state of a network with all its clusters, in the first process."""
        return weights

    def own_weights(self, weights: Weights) -> Weights:
        """Undo `whole_weights`."""
        return weights

    def whole_moments(self, parameter: torch.Tensor, moments: dict[str, Any]) -> dict[str, Any]:
        """Return the moments of a parameter with all its clusters, in the first process."""
        return moments

    def own_moments(self, parameter: torch.Tensor, moments: dict[str, Any]) -> dict[str, Any]:
        """Undo `whole_moments`."""
        return moments


class Shards(Part, Whole):
    """A network with the clusters of this process.

    Parameters
    ----------
    group : ManyProcesses
    network : LightXMLNetwork
        Network with all its clusters. It keeps those of this process.
    """

    def __init__(self, group: ManyProcesses, network: LightXMLNetwork) -> None:
        super().__init__(network.layout.n_clusters, group.rank, group.size, group)
        self.group = group
        self.layout = network.layout
        # Memory of messages on a CPU, where new memory takes a third of the time of an exchange.
        self.messages: dict[tuple[torch.dtype, int], torch.Tensor] = {}
        cluster_of = self.layout.cluster_of.cpu().numpy()
        self.owns_label = cluster_of % group.size == group.rank
        part = LabelLayout(
            cluster_of[self.owns_label] // group.size,
            n_clusters=self.n_own,
            max_size=self.layout.max_size,
        )
        self.parameters = _replace(network, part.to(self.layout.cluster_of.device), self.own_rows)

    def owns(self, parameter: torch.Tensor) -> bool:
        """Return whether a parameter has only the rows of this process."""
        return any(parameter is own for own in self.parameters)

    def whole_rows(self, own: torch.Tensor) -> torch.Tensor:
        """Undo `own_rows`. The dummy cluster is that of the last process."""
        size, n_clusters = self.group.size, self.layout.n_clusters
        n_dummies = len(own) - self.n_own
        whole = own.new_empty(n_clusters + n_dummies, *own.shape[1:])
        for rank in range(size):
            n_rows = len(range(rank, n_clusters, size))
            rows = own.new_empty(n_rows + n_dummies, *own.shape[1:])
            if rank == self.group.rank:
                rows = own.contiguous()
            self.group.broadcast(rows, rank)
            whole[rank:n_clusters:size] = rows[:n_rows]
            whole[n_clusters:] = rows[n_rows:]
        return whole

    def part_of(self, data: TrainingSet) -> TrainingSet:
        """Return the training set with the labels of this process."""
        part = copy.copy(data)
        part.dealt = self.group.dealt
        is_own = self.owns_label[data.labels]
        part.labels = (self.owns_label.cumsum() - 1)[data.labels[is_own]]
        part.indptr = np.concatenate([[0], is_own.cumsum()])[data.indptr]
        if data.label_weights is not None:
            part.label_weights = data.label_weights[self.owns_label]
        if data.chosen is not None:
            part.chosen = self.own_clusters(data.chosen)
        return part

    def gather(self, own: torch.Tensor, n_texts: int) -> torch.Tensor:
        """Gather the inputs of the heads for all texts of the batch: (B, d)."""
        gathered: torch.Tensor = _GatheredTexts.apply(own, self.group, n_texts)
        return gathered

    @torch.no_grad()
    def choose(
        self, recall_logits: torch.Tensor, cluster_targets: torch.Tensor, n_candidate_clusters: int
    ) -> torch.Tensor:
        """Choose the best of each process, then the best of those, as `dynamic_clusters` does.

        Returns
        -------
        Tensor of shape (B, b), int64
            Own clusters by the numbers that they have here, and the dummy for those of others.
        """
        preference = torch.sigmoid(recall_logits.float()) + cluster_targets
        best, own = preference.topk(min(n_candidate_clusters, self.n_own), dim=1)
        return self.own_clusters(self.best(own, best, n_candidate_clusters)[0])

    @torch.no_grad()
    def sum_gradients(
        self, optimizers: list[torch.optim.Optimizer], precision: torch.dtype
    ) -> None:
        """Sum the gradients of the weights that all processes have, in one message per dtype.

        In bf16 the message is in bfloat16, as most gradients are before autocast converts them.
        A gradient that only some processes have is 0 in the others, which have left out a layer.
        One that no process has stays None.
        """
        shared = [p for p in _parameters(optimizers) if not self.owns(p)]
        if not shared:
            return
        for parameter in shared:
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
        kinds = self.group.gather(torch.tensor([_kind_of(p.grad) for p in shared]))
        dense: dict[torch.dtype, list[torch.Tensor]] = {}
        for parameter, of_processes in zip(shared, kinds.T.tolist(), strict=True):
            kind = max(of_processes)
            if kind == ABSENT:
                continue
            if parameter.grad is None:
                zeros = torch.zeros_like(parameter)
                parameter.grad = zeros if kind == DENSE else zeros.to_sparse(1)
            if kind == DENSE:
                dense.setdefault(parameter.grad.dtype, []).append(parameter)
            else:
                counts = [max(n - SPARSE, 0) for n in of_processes]
                parameter.grad = self._sum_rows(parameter.grad, counts)
        in_bf16 = precision == torch.bfloat16
        for dtype, parameters in dense.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            message, parts = self._message(gradients, torch.bfloat16 if in_bf16 else dtype)
            torch._foreach_copy_(parts, gradients)
            self.group.sum(message)
            if in_bf16:
                torch._foreach_copy_(gradients, parts)
                continue
            for parameter, total in zip(parameters, parts, strict=True):
                parameter.grad = total  # without a copy

    def _message(
        self, gradients: list[torch.Tensor], dtype: torch.dtype
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Make a flat message for gradients, and the part of it that belongs to each."""
        sizes = [gradient.numel() for gradient in gradients]
        key = dtype, sum(sizes)
        message = self.messages.get(key)
        if message is None:
            message = gradients[0].new_empty(sum(sizes), dtype=dtype)
        if not message.is_cuda:
            self.messages[key] = message
        parts = zip(message.split(sizes), gradients, strict=True)
        return message, [part.view_as(gradient) for part, gradient in parts]

    def _sum_rows(self, gradient: torch.Tensor, counts: list[int]) -> torch.Tensor:
        """Collect the rows of a sparse gradient, of which each process has one of `counts`.

        Equal rows are summed later.
        """
        rows, values = gradient.indices()[0], gradient.values()
        n_missing = max(counts) - len(rows)
        all_rows = self.group.gather(F.pad(rows, (0, n_missing)))
        all_values = self.group.gather(F.pad(values, (0, 0, 0, n_missing)))
        return torch.sparse_coo_tensor(
            torch.cat([found[:n] for found, n in zip(all_rows, counts, strict=True)])[None],
            torch.cat([found[:n] for found, n in zip(all_values, counts, strict=True)]),
            gradient.shape,
            check_invariants=False,
        )

    def share_overflow(
        self, scaler: torch.amp.GradScaler, optimizers: list[torch.optim.Optimizer]
    ) -> None:
        """Tell the scaler if the gradients of any process overflow in fp16."""
        if scaler.is_enabled():
            for optimizer in optimizers:
                for overflows in scaler._found_inf_per_device(optimizer).values():
                    self.group.sum(overflows)

    def norm(self, parameters: list[torch.Tensor], norms: torch.Tensor) -> torch.Tensor:
        """Compute the joint norm of all gradients from the norm of each."""
        is_own = torch.tensor([self.owns(parameter) for parameter in parameters])
        is_own = is_own.to(norms.device)
        squares = norms.square()
        of_shards = self.group.sum(squares.where(is_own, 0.0).sum())
        return (of_shards + squares.where(~is_own, 0.0).sum()).sqrt()

    def whole(self, network: LightXMLNetwork) -> LightXMLNetwork:
        """Copy the network with all its clusters. The copy shares the other weights."""
        memo: dict[int, Any] = {id(t): t for t in (*network.parameters(), *network.buffers())}
        memo[id(network.layout)] = self.layout
        for module in _cut_modules(network):
            for own in module.parameters():
                memo[id(own)] = nn.Parameter(self.whole_rows(own.detach()), own.requires_grad)
        return copy.deepcopy(network, memo)

    def fits(self) -> bool:
        """Return whether the network with all its clusters fits into the memory of each process."""
        if self.n_clusters < self.size:  # one of them has none
            return True
        # In float32. In the direct mode, training or predictions have a copy in half precision.
        n_bytes = 6 if self.layout.max_size == 1 else 4
        n_bytes *= len(self.layout.labels_of) * sum(p[0].numel() for p in self.parameters)
        n_here = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        has_room = fit_into_memory(n_bytes, self.layout.cluster_of.device, n_here)
        return int(self.group.sum(torch.tensor(int(has_room), device="cpu"))) == self.size

    def kept(self, network: LightXMLNetwork) -> LightXMLNetwork:
        """Return the network with all its clusters, for callbacks, or one that cannot predict."""
        if self.fits():
            return self.whole(network)
        return ShardedNetwork(network, Part(self.n_clusters, self.rank, self.size), self.layout)

    def join(self, network: LightXMLNetwork) -> None:
        """Give the network all its clusters back, if they fit."""
        if network.layout is not self.layout and self.fits():
            _replace(network, self.layout, self.whole_rows)

    def own_weights(self, weights: Weights) -> Weights:
        """Undo `whole_weights`."""
        return {n: self.own_rows(w) if n.startswith(CUT) else w for n, w in weights.items()}

    def whole_moments(self, parameter: torch.Tensor, moments: dict[str, Any]) -> dict[str, Any]:
        """Return the moments of a parameter with all its clusters, in the first process."""
        return self._convert(parameter, moments, self.rows_for_first)

    def own_moments(self, parameter: torch.Tensor, moments: dict[str, Any]) -> dict[str, Any]:
        """Undo `whole_moments`."""
        return self._convert(parameter, moments, self.own_rows)

    def _convert(
        self,
        parameter: torch.Tensor,
        moments: dict[str, Any],
        convert: Callable[[torch.Tensor], torch.Tensor],
    ) -> dict[str, Any]:
        """Convert the moments that have a value per cluster."""
        if not self.owns(parameter):
            return moments
        return {
            name: convert(value) if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in moments.items()
        }


class _GatheredTexts(torch.autograd.Function):
    """Rows of all texts of a batch. Their gradients are summed over the processes."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor, group: ManyProcesses, n_texts: int) -> torch.Tensor:
        ctx.group = group
        return group.gather(own).transpose(0, 1).flatten(0, 1)[:n_texts]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.group.sum_dealt(gradients[0]), None, None


def fit_into_memory(n_bytes: int, device: torch.device, n_processes: int) -> bool:
    """Return whether so many bytes fit into the free memory of a device, in each of its processes.

    On a CPU, `n_processes` share the memory of the machine.
    """
    free = available_memory() / n_processes
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + unused
    return n_bytes <= MAX_SHARE * free


def _kind_of(gradient: torch.Tensor | None) -> int:
    """Return ABSENT, DENSE, or the number of rows above SPARSE."""
    if gradient is None:
        return ABSENT
    return SPARSE + gradient._nnz() if gradient.is_sparse else DENSE


def _parameters(optimizers: list[torch.optim.Optimizer]) -> list[torch.Tensor]:
    return [p for o in optimizers for group in o.param_groups for p in group["params"]]


def _cut_modules(network: LightXMLNetwork) -> list[nn.Module]:
    return [module for name, module in network.named_children() if name in CUT]


def _replace(
    network: LightXMLNetwork,
    layout: LabelLayout,
    convert: Callable[[torch.Tensor], torch.Tensor],
) -> list[nn.Parameter]:
    """Replace the layout, and the rows of the weights that are cut. Return these weights."""
    network.layout = layout
    for module in _cut_modules(network):
        for name, weight in list(module.named_parameters()):
            setattr(module, name, nn.Parameter(convert(weight.detach()), weight.requires_grad))
    return [weight for module in _cut_modules(network) for weight in module.parameters()]
