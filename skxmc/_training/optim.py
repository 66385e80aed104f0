"""Optimizers of a network, the schedule of their rates, and the clipping of gradients."""

from __future__ import annotations

import math
from typing import Any

import torch

from skxmc._model.encoder import sparse_embedding
from skxmc._model.network import LightXMLNetwork
from skxmc._training.adamw import BETAS, EPS, RowAdamW
from skxmc._training.sharding import Whole
from skxmc._training.table_rmsprop import TableRMSprop

# Maximum number of entries of a label table with full moments, which then take 0.8 GB, in the
# two-stage mode. Larger tables have compact moments, which take a quarter of that.
MAX_FULL_ENTRIES = 100_000_000


def build_optimizers(
    network: LightXMLNetwork,
    *,
    learning_rate: float,
    head_learning_rate: float,
    weight_decay: float,
) -> list[torch.optim.Optimizer]:
    """Build the optimizers of all weights, with a separate learning rate for the heads.

    In the direct mode, the last is a `TableRMSprop`.

    Weight decay applies to all weights except biases and layer norms (the paper's sentence states
    the opposite). These have one dimension, except some biases of XLNet.
    """
    row_groups = _row_groups(network, learning_rate, head_learning_rate, weight_decay)
    elsewhere = {id(p) for group in row_groups for p in group["params"]}
    elsewhere |= {id(p) for p in network.label_table.parameters()}
    dense_groups = []
    for is_encoder, rate in ((True, learning_rate), (False, head_learning_rate)):
        for decays in (True, False):
            weights = [
                parameter
                for name, parameter in network.named_parameters()
                if parameter.requires_grad
                and id(parameter) not in elsewhere
                and name.startswith(("encoder.", "rank_encoder.")) == is_encoder
                and (parameter.ndim > 1 and not name.endswith("bias")) == decays
            ]
            decay = weight_decay if decays else 0.0
            dense_groups.append({"params": weights, "lr": rate, "weight_decay": decay})
    dense_groups = [group for group in dense_groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = []
    if dense_groups:
        optimizers.append(torch.optim.AdamW(dense_groups, betas=BETAS, eps=EPS, fused=True))
    if row_groups:
        optimizers.append(RowAdamW(row_groups))
    if network.direct:
        optimizers.append(
            TableRMSprop(network.label_table, lr=head_learning_rate, weight_decay=weight_decay)
        )
    return optimizers


def _row_groups(
    network: LightXMLNetwork,
    learning_rate: float,
    head_learning_rate: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Make the parameter groups of the weights with sparse gradients."""
    groups = []
    words = [sparse_embedding(encoder) for encoder in network.encoders]
    trained = [table.weight for table in words if table is not None and table.weight.requires_grad]
    if trained:
        groups.append({"params": trained, "lr": learning_rate, "weight_decay": weight_decay})
    table = network.label_table
    if not network.direct and table.weight.requires_grad:
        is_compact = table.n_entries > MAX_FULL_ENTRIES
        of_table = {"lr": head_learning_rate, "rows_are_distinct": True}
        groups += [
            {
                "params": [table.weight],
                "weight_decay": weight_decay,
                "compact_dim": table.dim if is_compact else None,
                **of_table,
            },
            {"params": [table.bias], "weight_decay": 0.0, **of_table},
        ]
    return groups


def schedule_factor(schedule: str, step: int, n_steps: int, warmup_fraction: float) -> float:
    """Compute the factor of the learning rates at `step`, counted from 0, of `n_steps`."""
    n_warmup = math.ceil(warmup_fraction * n_steps)
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0


def clip_gradients(
    optimizers: list[torch.optim.Optimizer], max_norm: float | None, shards: Whole
) -> torch.Tensor:
    """Scale gradients to a joint norm of at most `max_norm`, and return the norm before.

    If a gradient holds NaN or inf, all gradients are useless afterwards. None scales nothing.
    """
    found = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    found = [p for p in found if p.grad is not None]
    gradients = [p.grad._values() if p.grad.is_sparse else p.grad for p in found]
    norm = shards.norm(found, torch.stack(torch._foreach_norm(gradients)))
    if max_norm is not None:
        torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
