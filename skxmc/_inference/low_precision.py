"""Copies of networks for prediction, with the weights of matrix products as they are multiplied."""

from __future__ import annotations

import copy
import warnings
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from skxmc._model.network import LightXMLNetwork
from skxmc._utils.parallel import ProcessLock


class _Copy(NamedTuple):
    """A copy, and what it was made of: the network's tensors as they were."""

    network: LightXMLNetwork
    dtype: torch.dtype
    tensors: list[torch.Tensor]
    versions: list[tuple[int, int]]


_copying = ProcessLock()
_copies: WeakKeyDictionary[LightXMLNetwork, _Copy] = WeakKeyDictionary()


def serving_copy(
    network: LightXMLNetwork, dtype: torch.dtype, device: torch.device | None = None
) -> LightXMLNetwork:
    """Copy a network in evaluation mode; made anew only when its weights have changed.

    Weights of linear layers are in `dtype`: autocast would convert them at every call, which
    takes longer than a short text itself. All other weights, the label table among them, are
    those of the network.

    Parameters
    ----------
    network : LightXMLNetwork
    dtype : torch.dtype
        float32, bfloat16, float16; or int8 for dynamic quantisation.
    device : torch.device, optional
        To predict on; the network is moved there if it is elsewhere.

    Raises
    ------
    ValueError
        If the network is to be quantised and is not on a CPU, or torch cannot.
    """
    with _copying:
        if device is not None and network.feature_mean.device != device:
            network.place_on(device)
        known = _copies.get(network)
        if known and known.dtype == dtype and known.versions == _versions(known.tensors):
            return known.network
        tensors = [*network.parameters(), *network.buffers()]
        versions = _versions(tensors)  # before the copy, so that a write meanwhile is noticed
        copied = _converted(network, dtype, tensors)
        _copies[network] = _Copy(copied, dtype, tensors, versions)
        return copied


def _converted(
    network: LightXMLNetwork, dtype: torch.dtype, tensors: list[torch.Tensor]
) -> LightXMLNetwork:
    with torch.no_grad():
        linear = {
            id(weight): nn.Parameter(weight.to(dtype), requires_grad=False)
            for module in network.modules()
            if isinstance(module, nn.Linear) and dtype != torch.int8
            for weight in module.parameters(recurse=False)
        }
    shared = {id(tensor): tensor for tensor in tensors}
    copied = copy.deepcopy(network, {**shared, **linear}).eval()
    if dtype == torch.int8:
        _quantize(copied)
    return copied


def _versions(tensors: list[torch.Tensor]) -> list[tuple[int, int]]:
    """What changes when a tensor is moved or written to.

    Those that were loaded under `torch.inference_mode` count no versions.
    """
    return [
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors
    ]


def check_int8(device: torch.device) -> None:
    """Check that precision="int8" can be had on `device`."""
    if device.type != "cpu":
        raise ValueError('precision="int8" is for CPUs; use "bf16" or "fp16" on a GPU.')


def _quantize(network: LightXMLNetwork) -> None:
    """Quantise linear layers: weights by output channel, inputs when they come, a batch as one."""
    check_int8(network.recall_head.weight.device)
    try:
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic
    except ImportError as error:
        raise ValueError(
            'precision="int8" needs torch.ao.quantization, which this version of torch '
            'does not have; use "auto".'
        ) from error
    with warnings.catch_warnings():
        # Deprecated, but nothing else is fast on a CPU without a compiler.
        warnings.filterwarnings("ignore", message=".*deprecated.*")
        quantize_dynamic(network, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
