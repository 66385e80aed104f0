"""Where to compute, and in which precision; running out of memory there."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

Given = ParamSpec("Given")
Fitted = TypeVar("Fitted")

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,  # in prediction only
}


def resolve_device(device: str) -> torch.device:
    """Turn the parameter `device` into a device that is there, as tensors on it name it.

    Raises
    ------
    ValueError
        If it is no device of this machine.
    """
    if device == "auto":
        on_mac = "mps" if torch.backends.mps.is_available() else "cpu"
        device = "cuda" if torch.cuda.is_available() else on_mac
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f'device={device!r} is no device; use "auto", "cpu", "cuda", "cuda:1" or "mps".'
        ) from error
    n_gpus = torch.cuda.device_count()
    is_there = {
        "cpu": resolved.index in (None, 0),
        "cuda": (resolved.index or 0) < n_gpus,
        "mps": torch.backends.mps.is_available(),
    }
    if not is_there.get(resolved.type, False):
        gpus = f"{n_gpus} CUDA device{'' if n_gpus == 1 else 's'}"
        raise ValueError(
            f'device={device!r} is not there: this machine has {gpus}. Use device="auto" to take '
            "what there is."
        )
    if resolved.type == "cuda" and resolved.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return {"cpu": torch.device("cpu"), "mps": torch.device("mps", 0)}.get(resolved.type, resolved)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Turn the parameter `precision` into the dtype of matrix products on `device`.

    "auto" is bfloat16 where the device computes it fast, else float32.
    """
    if precision != "auto":
        return DTYPES[precision]
    if device.type == "cuda":
        with torch.cuda.device(device):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        fast = _cpu_has_bf16()
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware (AVX512-BF16, AMX, Arm BF16)."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Context in which matrix products are in `dtype`, where that is a floating-point type."""
    enabled = dtype in (torch.bfloat16, torch.float16)
    return torch.autocast(device.type, dtype=dtype if enabled else None, enabled=enabled)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the CPU, had no room for a tensor."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's and MPS's have no type of their own.
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


def with_advice_on_memory(fit: Callable[Given, Fitted]) -> Callable[Given, Fitted]:
    """Decorate `fit`: say what to lower if it runs out of memory, and free what it holds.

    Raises
    ------
    torch.OutOfMemoryError
        Instead of whatever error it was.
    """

    @functools.wraps(fit)
    def advising(*args: Given.args, **kwargs: Given.kwargs) -> Fitted:
        try:
            return fit(*args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # What the frames hold would stay as long as the error is remembered, in a notebook
            # for ever: with it, the next try would fail, too.
            traceback.clear_frames(error.__traceback__)
            reason = str(error).strip().split("\n")[0]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        estimator: Any = args[0]
        raise torch.OutOfMemoryError(
            f"Out of memory in training ({reason}). Lower batch_size={estimator.batch_size} or "
            f"max_length={estimator.max_length}, with many labels also bottleneck_dim, or take a "
            "smaller encoder. The classifier is as it was before."
        )

    return advising
