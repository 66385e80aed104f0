"""AdamW for tables with sparse gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.adamw import adamw

from skxmc._utils.quoting import MAX_ERROR, shortened
from skxmc._utils.warnings import warn_user

BETAS = (0.9, 0.999)
EPS = 1e-8
# Minimum number of entries per row to update each row as a tensor of its own on a CPU.
MIN_LONG_ROW = 4096
# Entries to update at once on a CPU. They take 2 MB, so intermediate results stay in the cache.
ENTRIES_BLOCK = 1 << 19


@functools.cache
def load_kernel(device: torch.device) -> Callable[..., None] | None:
    """Return `update_rows` of `adamw_kernel`, or None if it does not run on this GPU.

    PyTorch brings Triton on Linux alone. Triton needs a C compiler, and refuses old GPUs.
    """
    try:
        from skxmc._training.adamw_kernel import update_rows

        table = torch.zeros(1, 1, device=device)
        state = {"first": table, "second": table, "last_step": table[0], "n_steps": 1}
        group = {"lr": 0.0, "weight_decay": 0.0, "compact_dim": None}
        with torch.cuda.device(device):
            update_rows(table, state, group, torch.zeros_like(table[0], dtype=torch.int64), table)
    except ImportError:
        return None
    except Exception as error:  # compilers raise errors of any type
        warn_user(
            "Triton does not compile on this GPU, so training is slower: "
            f"{shortened(str(error), MAX_ERROR)}. Install a C compiler, or a version of Triton for "
            "this GPU."
        )
        return None
    return update_rows


def step_factors(group: dict[str, Any], n_steps: int) -> tuple[float, float, float]:
    """Compute what all rows share in a step: decay, step size, and correction of the root."""
    decay = 1 - group["lr"] * group["weight_decay"]
    step_size = group["lr"] / (1 - BETAS[0] ** n_steps)
    return decay, step_size, math.sqrt(1 - BETAS[1] ** n_steps)


class RowAdamW(torch.optim.Optimizer):
    """AdamW for tables with sparse gradients, which updates only rows that have a gradient.

    A row with a gradient in every step is updated as in AdamW. Between its gradients, a rarer row
    neither moves nor decays, and its first moment stays as it is. Its second moment decays in every
    step, as in AdamW, so rare rows take longer steps.

    Parameters
    ----------
    params : iterable of dict
        Groups of tables, each of shape (n_rows, n_columns), with these options:

        lr, weight_decay : float
            As in AdamW.
        rows_are_distinct : bool, default=False
            Whether no row is twice in a gradient, except rows of zeros. If so, the optimizer does
            not sum gradients of the same row.
        compact_dim : int or None, default=None
            Number of neighboring entries that share a second moment, that of their mean square.
            The first moment is then in bfloat16. Moments take 2 bytes per entry instead of 8.
    """

    def __init__(self, params: list[dict[str, Any]]) -> None:
        super().__init__(
            params, {"weight_decay": 0.0, "rows_are_distinct": False, "compact_dim": None}
        )
        # Whether the gradients overflow in fp16, so that the step is to be skipped: 0 or 1.
        self.found_inf: torch.Tensor | None = None
        self.views: dict[torch.Tensor, list[tuple[torch.Tensor, ...]]] = {}
        for group in self.param_groups:
            for table in group["params"]:
                dim = group["compact_dim"]
                dtype = torch.float32 if dim is None else torch.bfloat16
                n_rows, n_columns = table.shape
                self.state[table] = {
                    "first": torch.zeros_like(table, dtype=dtype, requires_grad=False),
                    "second": table.new_zeros(n_rows, n_columns // (dim or 1)),
                    "last_step": table.new_zeros(n_rows),
                    "n_steps": 0,
                }

    def coalesce(self) -> None:
        """Sum gradients of the same row, as scaling and clipping require."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None and not group["rows_are_distinct"]:
                    table.grad = table.grad.coalesce()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the rows with a gradient, their moments and their step counts."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                is_cpu = table.device.type == "cpu"
                if is_cpu and self.found_inf is not None and self.found_inf:
                    continue
                gradient = table.grad if group["rows_are_distinct"] else table.grad.coalesce()
                rows, gradients = gradient._indices()[0], gradient._values()
                self.state[table]["n_steps"] += 1
                if not len(rows):
                    continue
                if not is_cpu:
                    self._update_on_gpu(table, group, rows, gradients)
                elif group["compact_dim"] is None and table.shape[1] >= MIN_LONG_ROW:
                    self._update_in_place(table, group, rows, gradients)
                else:
                    # In parts, so that intermediate results stay in the cache.
                    part = max(1, ENTRIES_BLOCK // table.shape[1])
                    for of_part in zip(rows.split(part), gradients.split(part), strict=True):
                        self._update(table, group, *of_part)

    def _update_on_gpu(
        self, table: torch.Tensor, group: dict[str, Any], rows: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        """Update by one kernel if it runs on this GPU, else by those of PyTorch."""
        if self.found_inf is not None:
            # The dummy cluster of the label table takes the step instead, by a gradient of 0.
            overflows = self.found_inf.bool()
            rows = rows.masked_fill(overflows, len(table) - 1)
            gradient.masked_fill_(overflows, 0.0)
        update_rows = load_kernel(table.device)
        if update_rows is None:
            self._update(table, group, rows, gradient)
            return
        with torch.cuda.device(table.device):
            update_rows(table, self.state[table], group, rows, gradient)
        self.state[table]["last_step"].index_fill_(0, rows, self.state[table]["n_steps"])

    def _update(
        self, table: torch.Tensor, group: dict[str, Any], rows: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        """Gather rows, update them, and write them back. Overwrites the gradient.

        A GPU takes as long as it reads and writes memory, so each line counts.
        """
        beta1, beta2 = BETAS
        state = self.state[table]
        decay, step_size, root_correction = step_factors(group, state["n_steps"])
        dim = group["compact_dim"] or 1
        fading = self._fading(state, rows)[:, None]
        if group["compact_dim"] is None:
            square = gradient.square()
        else:
            by_label = gradient.unflatten(1, (-1, dim))
            square = torch.linalg.vector_norm(by_label, dim=2).square_().div_(dim)
        square = state["second"][rows].mul_(fading).lerp_(square, 1 - beta2)
        state["second"].index_copy_(0, rows, square)
        first = state["first"][rows]
        # The new first moment over beta1, in the place of the gradient.
        mean = torch.add(first, gradient, alpha=(1 - beta1) / beta1, out=gradient)
        state["first"].index_copy_(0, rows, torch.mul(mean, beta1, out=first))
        scale = square.sqrt_().div_(root_correction).add_(EPS)
        scale = scale.reciprocal_().mul_(step_size * beta1)
        weights = table[rows].mul_(decay)
        of_label = weights.unflatten(1, (-1, dim))
        of_label.addcmul_(mean.unflatten(1, (-1, dim)), scale[:, :, None], value=-1)
        table.index_copy_(0, rows, weights)

    @staticmethod
    def _fading(state: dict[str, Any], rows: torch.Tensor) -> torch.Tensor:
        """Compute the decay of the second moments since the last steps of the rows."""
        missed = state["n_steps"] - 1 - state["last_step"][rows]
        state["last_step"][rows] = float(state["n_steps"])
        return BETAS[1] ** missed

    def _update_in_place(
        self, table: torch.Tensor, group: dict[str, Any], rows: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        """Update long rows in place, each as a tensor of its own, with PyTorch's AdamW."""
        state = self.state[table]
        if table not in self.views:
            tensors = (table.detach(), state["first"], state["second"])
            self.views[table] = [tensor.unbind(0) for tensor in tensors]
        taken = rows.tolist()
        weights, first, second = ([v[row] for row in taken] for v in self.views[table])
        torch._foreach_mul_(second, self._fading(state, rows).tolist())
        n_steps = list(torch.full((len(taken),), state["n_steps"] - 1.0).unbind(0))
        adamw(
            weights,
            list(gradient.unbind(0)),
            first,
            second,
            [],
            n_steps,
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPS,
            maximize=False,
        )
