"""Copies of networks for prediction, with weights in the dtype of matrix products."""

from __future__ import annotations

import copy
import warnings
from typing import NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn

from skxmc._model.defaults import torch_defaults
from skxmc._model.text_network import Network, TextNetwork
from skxmc._utils.parallel import ProcessLock


class _Copy(NamedTuple):
    """A copy, and the tensors of the original with their versions."""

    network: TextNetwork
    dtype: torch.dtype
    tensors: list[torch.Tensor]
    versions: list[tuple[int, int]]


_copying = ProcessLock()
_copies: WeakKeyDictionary[TextNetwork, _Copy] = WeakKeyDictionary()


@torch_defaults()
def serving_copy(
    network: Network, dtype: torch.dtype, device: torch.device | None = None
) -> Network:
    """Copy a network in evaluation mode, or return the last copy if no weight has changed.

    The copy has weights of linear layers in `dtype`. Autocast would convert them at every call,
    which takes longer than a short text itself. The same holds for the label table in the direct
    mode. The copy shares all other weights with the network.

    Parameters
    ----------
    network : TextNetwork
    dtype : torch.dtype
        float32, bfloat16 or float16, or int8 for dynamic quantization.
    device : torch.device, optional
        Device of prediction. A network on another device is moved there.

    Raises
    ------
    ValueError
        If dtype is int8, and the network is not on a CPU or torch cannot quantize.
    """
    with _copying:
        if device is not None and network.encoder.device != device:
            network.place_on(device)
        known = _copies.get(network)
        if known and known.dtype == dtype and known.versions == _versions(known.tensors):
            return cast(Network, known.network)
        tensors = [*network.parameters(), *network.buffers()]
        versions = _versions(tensors)  # before the copy, so that a write during the copy is noticed
        copied = _converted(network, dtype, tensors)
        _copies[network] = _Copy(copied, dtype, tensors, versions)
        return copied


def forget_copy(network: TextNetwork) -> None:
    """Free the memory of the copy of `network`, whose weights are about to change."""
    with _copying:
        _copies.pop(network, None)


def on_host(network: Network) -> Network:
    """Copy a network to the CPU, or return it if it is there.

    Predictions in other threads go on with the original, which then leaves its device.
    """
    host = torch.device("cpu")
    if network.encoder.device == host:
        return network
    memo: dict[int, torch.Tensor] = {
        id(weight): nn.Parameter(weight.detach().to(host), weight.requires_grad)
        for weight in network.parameters()
    }
    memo |= {id(values): values.to(host) for values in network.buffers()}
    return copy.deepcopy(network, memo).place_on(host)


def _converted(network: Network, dtype: torch.dtype, tensors: list[torch.Tensor]) -> Network:
    float_dtype = torch.float32 if dtype == torch.int8 else dtype
    with torch.no_grad():
        converted = {
            id(weight): nn.Parameter(weight.to(float_dtype), requires_grad=False)
            for weight in network.product_weights
        }
    shared = {id(tensor): tensor for tensor in tensors}
    copied = copy.deepcopy(network, {**shared, **converted}).eval()
    if dtype == torch.int8:
        _quantize(copied)
    return copied


def _versions(tensors: list[torch.Tensor]) -> list[tuple[int, int]]:
    """Return address and version of each tensor, one of which changes if it is moved or written.

    Tensors loaded under `torch.inference_mode` have no versions.
    """
    return [
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors
    ]


def check_int8(device: torch.device) -> None:
    """Check that `device` supports precision="int8"."""
    if device.type != "cpu":
        raise ValueError('precision="int8" is for CPUs. Use "bf16" or "fp16" on a GPU.')


def _quantize(network: TextNetwork) -> None:
    """Quantize linear layers: weights per output channel, inputs per batch when they arrive."""
    check_int8(network.encoder.device)
    try:
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic
    except ImportError as error:
        raise ValueError(
            'precision="int8" needs torch.ao.quantization, which this version of torch '
            'does not have. Use "auto".'
        ) from error
    with warnings.catch_warnings():
        # It is deprecated, but nothing else is fast on a CPU without a compiler.
        warnings.filterwarnings("ignore", message=".*deprecated.*")
        quantize_dynamic(network, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
