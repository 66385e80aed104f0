"""The update of `RowAdamW` as one kernel of a GPU, which reads and writes each number once."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

from skxmc._training.adamw import BETAS, EPS, step_factors

# Maximum number of entries per program if each entry has a second moment of its own.
COLUMNS_BLOCK = 1024


@triton.jit
def _update(  # type: ignore[no-untyped-def]
    table,
    first,
    second,
    last_step,
    rows,
    gradients,
    n_columns,
    n_steps,
    decay,
    step_size,
    root_correction,
    beta1,
    beta2,
    log2_beta2,
    eps,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    IS_COMPACT: tl.constexpr,
):
    """Update `DIM` entries of a row, which share a second moment if moments are compact."""
    place = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    row = tl.load(rows + place)
    column = part * DIM + tl.arange(0, BLOCK)
    inside = (tl.arange(0, BLOCK) < DIM) & (column < n_columns)
    entry = row * n_columns + column
    gradient = tl.load(gradients + place * n_columns + column, mask=inside, other=0.0)
    fading = tl.exp2((n_steps - 1 - tl.load(last_step + row)) * log2_beta2)
    mean = tl.load(first + entry, mask=inside, other=0.0).to(tl.float32)
    mean = beta1 * mean + (1 - beta1) * gradient
    tl.store(first + entry, mean.to(first.dtype.element_ty), mask=inside)
    if IS_COMPACT:
        shared = second + row * (n_columns // DIM) + part
        square = tl.sum(gradient * gradient) / DIM
        square = beta2 * fading * tl.load(shared) + (1 - beta2) * square
        tl.store(shared, square)
    else:
        square = tl.load(second + entry, mask=inside, other=0.0)
        square = beta2 * fading * square + (1 - beta2) * gradient * gradient
        tl.store(second + entry, square, mask=inside)
    weight = tl.load(table + entry, mask=inside, other=0.0) * decay
    weight -= mean * (step_size / (tl.sqrt(square) / root_correction + eps))
    tl.store(table + entry, weight, mask=inside)


def update_rows(
    table: torch.Tensor,
    state: dict[str, Any],
    group: dict[str, Any],
    rows: torch.Tensor,
    gradient: torch.Tensor,
) -> None:
    """Update rows of `table` and their moments in `state`, but not their step counts.

    The programs of one row all read its step count, so it changes afterwards. The arguments are
    those of `RowAdamW._update`, on the current GPU.
    """
    n_columns, compact_dim = table.shape[1], group["compact_dim"]
    dim = min(COLUMNS_BLOCK, n_columns) if compact_dim is None else compact_dim
    decay, step_size, root_correction = step_factors(group, state["n_steps"])
    _update[len(rows), triton.cdiv(n_columns, dim)](
        table,
        state["first"],
        state["second"],
        state["last_step"],
        rows,
        gradient.contiguous(),
        n_columns,
        float(state["n_steps"]),
        decay,
        step_size,
        root_correction,
        *BETAS,
        math.log2(BETAS[1]),
        EPS,
        DIM=dim,
        BLOCK=triton.next_power_of_2(dim),
        IS_COMPACT=compact_dim is not None,
    )
