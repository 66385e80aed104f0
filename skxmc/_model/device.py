"""Devices, the precision of matrix products, and errors when memory runs out."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
import torch

from skxmc._utils.quoting import quoted
from skxmc._utils.warnings import warn_user

Given = ParamSpec("Given")
Fitted = TypeVar("Fitted")


class _Sized(Protocol):
    """An estimator with the parameters that decide the memory of training."""

    batch_size: int
    accumulate_steps: int
    max_length: int


Estimator = TypeVar("Estimator", bound=_Sized)

# Compute capability of the first GPUs with fast products in float16: V100, T4, RTX 20.
TENSOR_CORES = (7, 0)

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,  # in prediction only
}


def resolve_device(device: str) -> torch.device:
    """Resolve the parameter `device` to the name that tensors on that device report.

    Raises
    ------
    ValueError
        If the name is unknown, or if this machine has no such device.
    """
    if device == "auto":
        on_mac = "mps" if torch.backends.mps.is_available() else "cpu"
        device = "cuda" if torch.cuda.is_available() else on_mac
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f'device={quoted(device)} is not a device name. Use "auto", "cpu", "cuda", "cuda:1" or '
            '"mps".'
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
            f'device={quoted(device)} is not available: this machine has {gpus}. Use device="auto" '
            "to "
            "choose an available device."
        )
    if resolved.type == "cuda" and resolved.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return {"cpu": torch.device("cpu"), "mps": torch.device("mps", 0)}.get(resolved.type, resolved)


def prediction_device(device: str) -> torch.device:
    """Resolve `device`, or return the CPU if this machine lacks the GPU of a loaded model.

    Warns
    -----
    RuntimeWarning
        If the device is not there.
    """
    try:
        return resolve_device(device)
    except ValueError as error:
        warn_user(f"{error} Using the CPU.", RuntimeWarning)
        return torch.device("cpu")


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Resolve the parameter `precision` to the dtype of matrix products on `device`.

    "auto" is bfloat16 if the device computes it fast. On an older GPU with tensor cores it is
    float16, else float32.
    """
    if precision != "auto":
        return DTYPES[precision]
    if device.type == "cuda":
        with torch.cuda.device(device):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        if not fast and torch.cuda.get_device_capability(device) >= TENSOR_CORES:
            return torch.float16
    elif device.type == "cpu":
        fast = _cpu_has_bf16()
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def _cpu_has_bf16() -> bool:
    """Return whether the CPU has instructions for bfloat16: AVX512-BF16, AMX or Arm BF16."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def copy_to(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor of the host to `device`. A GPU copies it later, and no one waits for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def copy_back(tensors: Sequence[torch.Tensor]) -> Callable[[], list[np.ndarray]]:
    """Start to copy results to the host, floats as float32, and return a function that waits.

    A GPU copies them when they are ready, and the host goes on until it calls the function.
    """
    results = [tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors]
    device = results[0].device
    if device.type != "cuda":
        arrays = [result.cpu().numpy() for result in results]
        return lambda: arrays
    pinned = [
        torch.empty(result.shape, dtype=result.dtype, pin_memory=True).copy_(
            result, non_blocking=True
        )
        for result in results
    ]
    copied = torch.cuda.current_stream(device).record_event()

    def wait() -> list[np.ndarray]:
        copied.synchronize()
        return [result.numpy().copy() for result in pinned]  # whose memory serves the next batch

    return wait


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Make a context with matrix products in `dtype`, which int8 and float32 leave unchanged."""
    enabled = dtype in (torch.bfloat16, torch.float16)
    return torch.autocast(device.type, dtype=dtype if enabled else None, enabled=enabled)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error says that the CPU or another device ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The errors of the CPU, MPS, cuBLAS and cuDNN have no type of their own.
    words = ("out of memory", "can't allocate memory", "alloc_failed", "allocation_failed")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


def with_advice_on_memory(
    fit: Callable[Concatenate[Estimator, Given], Fitted],
) -> Callable[Concatenate[Estimator, Given], Fitted]:
    """Decorate `fit`: if memory runs out, free it and say which parameters to lower.

    Raises
    ------
    torch.OutOfMemoryError
        It replaces the original error.
    """

    @functools.wraps(fit)
    def advising(estimator: Estimator, *args: Given.args, **kwargs: Given.kwargs) -> Fitted:
        try:
            return fit(estimator, *args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # The frames of the traceback hold tensors. A notebook remembers its last error, so
            # these tensors would stay in memory, and the next `fit` would fail too.
            traceback.clear_frames(error.__traceback__)
            reason = str(error).strip().split("\n")[0]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise torch.OutOfMemoryError(
            f"Out of memory in training ({reason}). The classifier is unchanged. Set "
            "gradient_checkpointing=True, or raise "
            f"accumulate_steps={estimator.accumulate_steps}: both take time, but give the same "
            f"steps. Or lower batch_size={estimator.batch_size} or "
            f"max_length={estimator.max_length}. With many labels, also lower bottleneck_dim. "
            "Otherwise choose a smaller encoder."
        )

    return advising
