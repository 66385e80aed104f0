"""Fast dropout for CPUs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class CpuDropout(TorchFunctionMode):
    """Context in which `dropout` below replaces `torch.nn.functional.dropout`.

    PyTorch draws one random float per entry on a single thread. For a small encoder, this takes a
    quarter of a training step. The context works with any encoder and changes none of its code.

    Parameters
    ----------
    generator : torch.Generator, optional
        Generator of the random numbers, by default torch's global one.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.dropout = functools.partial(dropout, generator=generator)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call `func`, or `dropout` in place of PyTorch's."""
        return (self.dropout if func is F.dropout else func)(*args, **(kwargs or {}))


def dropout(
    input: torch.Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Zero each entry with probability `p`, and scale up the other entries.

    `p` is rounded to a multiple of 1 / 65,536 below 1. Four entries share one 64-bit random number.
    """
    threshold = min(round(p * 65536), 65535)
    if not training or threshold == 0:
        return input
    bits = torch.empty(-(-input.numel() // 4), dtype=torch.int64)
    bits.random_(-(2**63), None, generator=generator)
    kept = bits.view(torch.int16)[: input.numel()].view(input.shape) >= threshold - 32768
    return input * kept.to(input.dtype).mul_(65536 / (65536 - threshold))


def dropout_contexts(
    device: torch.device, generator: torch.Generator | None
) -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
    """Make the contexts of a computation in `fast_dropout`, and of its repetition elsewhere.

    The repetition has the same dropout. `torch.utils.checkpoint` already ensures this for the
    generators of torch itself.
    """
    if device.type != "cpu":
        return contextlib.nullcontext(), contextlib.nullcontext()
    generator = torch.default_generator if generator is None else generator
    return contextlib.nullcontext(), _same_dropout(generator, generator.get_state())


@contextlib.contextmanager
def _same_dropout(generator: torch.Generator, state: torch.Tensor) -> Iterator[None]:
    """Drop as `generator` does in the state `state`, and leave it as it is now."""
    now = generator.get_state()
    generator.set_state(state)
    try:
        with CpuDropout(generator):
            yield
    finally:
        generator.set_state(now)


def fast_dropout(
    device: torch.device, generator: torch.Generator | None = None
) -> contextlib.AbstractContextManager[Any]:
    """Make the context for a forward pass in training, in which only a CPU uses `generator`."""
    return CpuDropout(generator) if device.type == "cpu" else contextlib.nullcontext()
