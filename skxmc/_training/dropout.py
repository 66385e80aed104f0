"""Dropout that is cheap on a CPU."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class CpuDropout(TorchFunctionMode):
    """Context in which every `torch.nn.functional.dropout` on a CPU is `dropout` below.

    PyTorch draws a random float for each entry, on one thread: a quarter of a training step of a
    small encoder. The encoder's own code, whichever it is, need not know.

    Parameters
    ----------
    generator : torch.Generator, optional
        Draws what is dropped; by default torch's global one.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.dropout = functools.partial(dropout, generator=generator)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call `func`, or `dropout` in the place of PyTorch's."""
        return (self.dropout if func is F.dropout else func)(*args, **(kwargs or {}))


def dropout(
    input: torch.Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Zero entries with probability p, a multiple of 1 / 65,536 below 1, and scale up the others.

    Four entries share one random number of 64 bits.
    """
    threshold = min(round(p * 65536), 65535)
    if not training or threshold == 0:
        return input
    bits = torch.empty(-(-input.numel() // 4), dtype=torch.int64)
    bits.random_(-(2**63), None, generator=generator)
    kept = bits.view(torch.int16)[: input.numel()].view(input.shape) >= threshold - 32768
    return input * kept.to(input.dtype).mul_(65536 / (65536 - threshold))


def fast_dropout(
    device: torch.device, generator: torch.Generator | None = None
) -> contextlib.AbstractContextManager[Any]:
    """Context for a forward pass in training on `device`; `generator` is that of a CPU."""
    return CpuDropout(generator) if device.type == "cpu" else contextlib.nullcontext()
