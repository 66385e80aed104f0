"""AdamW for the dense weights, and AdamW by blocks for the label table."""

from __future__ import annotations

import math

import torch
from torch import nn

from ._network import LabelTable, LightXMLNetwork

BETAS = (0.9, 0.999)
EPS = 1e-8


def build_optimizers(
    network: LightXMLNetwork,
    *,
    learning_rate: float,
    head_learning_rate: float,
    weight_decay: float,
) -> list[torch.optim.Optimizer]:
    """Optimisers of all weights, with their own rate for the heads.

    Weight decay is on all weights but biases and layer norms, which are the ones of one dimension,
    save for some biases of XLNet (the paper's sentence has it the wrong way round).
    """
    groups = []
    for is_encoder, rate in ((True, learning_rate), (False, head_learning_rate)):
        for decays in (True, False):
            weights = [
                parameter
                for name, parameter in network.named_parameters()
                if parameter.requires_grad
                and name.startswith("encoder.") == is_encoder
                and (parameter.ndim > 1 and not name.endswith("bias")) == decays
            ]
            decay = weight_decay if decays else 0.0
            groups.append({"params": weights, "lr": rate, "weight_decay": decay})
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, betas=BETAS, eps=EPS, fused=True)
    ]
    if not network.direct:
        optimizers.append(
            BlockAdamW(network.label_table, lr=head_learning_rate, weight_decay=weight_decay)
        )
    return optimizers


class BlockAdamW(torch.optim.Optimizer):
    """AdamW that touches only the blocks of the label table that the last step took.

    For a block that every step takes this is AdamW. For a block taken now and then it is AdamW
    over those steps alone: its moments do not fade, its bias correction does not advance and its
    weights do not decay while nobody looks at it.

    Parameters
    ----------
    table : LabelTable
        Its ``taken`` blocks carry the gradients.
    lr, weight_decay : float
        As in AdamW; the biases do not decay.
    """

    def __init__(self, table: LabelTable, *, lr: float, weight_decay: float) -> None:
        # A gradient scaler looks for gradients in the parameters of the groups: `collect` puts
        # the taken blocks there. Until then the table itself stands in for them.
        super().__init__([{"params": [table.weight]}], {"lr": lr, "weight_decay": weight_decay})
        self.table = table
        self.moments = [
            (torch.zeros_like(p, requires_grad=False), torch.zeros_like(p, requires_grad=False))
            for p in (table.weight, table.bias)
        ]
        self.n_steps = torch.zeros(len(table.bias), device=table.bias.device)

    def collect(self) -> None:
        """Take over the blocks of the step that was just differentiated."""
        assert self.table.taken is not None, "collect() comes after a forward pass in training"
        self.clusters, *taken = self.table.taken
        self.param_groups[0]["params"] = taken
        self.table.release()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the collected blocks, their moments and their step counts."""
        group = self.param_groups[0]
        beta1, beta2 = BETAS
        self.n_steps[self.clusters] += 1
        n_steps = self.n_steps[self.clusters]
        step_size = group["lr"] / (1 - beta1**n_steps)
        root_correction = (1 - beta2**n_steps).sqrt()
        weights = (self.table.weight, self.table.bias)
        for block, weight, (first, second) in zip(
            group["params"], weights, self.moments, strict=True
        ):
            by_block = (-1,) + (1,) * (block.ndim - 1)
            mean = first[self.clusters].lerp_(block.grad, 1 - beta1)
            square = (
                second[self.clusters].mul_(beta2).addcmul_(block.grad, block.grad, value=1 - beta2)
            )
            first.index_copy_(0, self.clusters, mean)
            second.index_copy_(0, self.clusters, square)
            if block.ndim == 3:
                block.mul_(1 - group["lr"] * group["weight_decay"])
            square.sqrt_().div_(root_correction.view(by_block)).add_(EPS)
            block.sub_(mean.mul_(step_size.view(by_block)).div_(square))
            weight.index_copy_(0, self.clusters, block)


def schedule_factor(schedule: str, step: int, n_steps: int, warmup_fraction: float) -> float:
    """Factor on the learning rates at `step`, counted from 0, of `n_steps`."""
    n_warmup = math.ceil(warmup_fraction * n_steps)
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0


def clip_gradients(optimizers: list[torch.optim.Optimizer], max_norm: float) -> torch.Tensor:
    """Scale all gradients together so that their norm is at most `max_norm`; returns what it was.

    Where one of them is infinite or NaN, all are useless afterwards.
    """
    parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    return nn.utils.clip_grad_norm_(parameters, max_norm)
