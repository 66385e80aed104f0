"""The optimizer of the label table in the direct mode, where each step updates every label."""

from __future__ import annotations

import math

import torch

from skxmc._model.network import LabelTable
from skxmc._training.adamw import BETAS, EPS


class TableRMSprop(torch.optim.Optimizer):
    """RMSprop that updates the labels of a chunk in place as soon as their gradient is known.

    It is AdamW without a first moment, and with one second moment per label: that of the mean
    square of the gradient. Moments therefore take 4 bytes per label instead of 8 per entry of its
    embedding. From the centroids it learns as fast as AdamW (docs/experiments.md).

    Embeddings may be in bfloat16. They are then rounded up or down at random, so that steps smaller
    than the distance between two numbers are right on average.

    Parameters
    ----------
    table : LabelTable
        Table with one label per cluster.
    lr, weight_decay : float
        As in AdamW. Biases do not decay.
    """

    def __init__(self, table: LabelTable, *, lr: float, weight_decay: float) -> None:
        groups = [
            {"params": [table.weight], "weight_decay": weight_decay},
            {"params": [table.bias], "weight_decay": 0.0},
        ]
        super().__init__(groups, {"lr": lr})
        for parameter in (table.weight, table.bias):
            second = torch.zeros(len(parameter), device=parameter.device)
            self.state[parameter] = {"second": second, "n_steps": 0}

    @torch.no_grad()
    def update(self, labels: slice, of_weight: torch.Tensor, of_bias: torch.Tensor) -> None:
        """Update embeddings and biases of `labels` by their gradients of the current step."""
        for group, gradient in zip(self.param_groups, (of_weight, of_bias[:, None]), strict=True):
            (parameter,) = group["params"]
            state = self.state[parameter]
            mean_square = torch.linalg.vector_norm(gradient, dim=1).square_() / gradient.shape[1]
            second = state["second"][labels].lerp_(mean_square, 1 - BETAS[1])
            correction = math.sqrt(1 - BETAS[1] ** (state["n_steps"] + 1))
            scale = group["lr"] / second.sqrt().div_(correction).add_(EPS)
            kept = parameter[labels]
            weights = kept.float()  # a copy only if they are in bfloat16
            weights.mul_(1 - group["lr"] * group["weight_decay"])
            weights.addcmul_(gradient, scale[:, None], value=-1)
            if kept.dtype == torch.bfloat16:
                kept.copy_(round_at_random(weights))

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """End a step, in which `update` has updated all labels."""
        for state in self.state.values():
            state["n_steps"] += 1


def round_at_random(values: torch.Tensor) -> torch.Tensor:
    """Round float32 to one of the two nearest numbers in bfloat16, to the value on average."""
    bits = values.view(torch.int32)
    noise = torch.randint(1 << 16, values.shape, dtype=torch.int32, device=values.device)
    return (bits + noise).bitwise_and_(-(1 << 16)).view(torch.float32).bfloat16()
