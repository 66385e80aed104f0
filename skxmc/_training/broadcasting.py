"""Values of the first process, which the others receive."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist

from skxmc._model.tokens import TokenStore
from skxmc._utils.spill import SpilledArray

if TYPE_CHECKING:
    from skxmc._training.distributed import ManyProcesses

Value = TypeVar("Value")

# Arrays of more bytes are sent in messages of so many.
BYTES_BLOCK = 1 << 24


class _Place(NamedTuple):
    """Place of a long array among those of a value."""

    number: int


def broadcast_value(group: ManyProcesses, value: Value, *, block: int = BYTES_BLOCK) -> Value:
    """Return the value of the first process in all.

    A long array, or those of a token store, are sent in blocks. If the first process has an array
    in a file that is mapped into memory, such as many tokens, each of the others writes it to a
    temporary file of its own.

    Parameters
    ----------
    group : ManyProcesses
    value : object
        Value that can be pickled. Only that of the first process counts.
    block : int, default=BYTES_BLOCK
        Maximum number of bytes of an array in one message.
    """
    arrays: list[np.ndarray] = []
    rest = _without(arrays, value, block) if group.rank == 0 else None
    found = [(rest, [(a.dtype, a.shape, _is_mapped(a)) for a in arrays])]
    group.call(dist.broadcast_object_list, found, src=0)
    rest, kinds = found[0]
    if group.rank == 0:
        for array in arrays:
            entries = array.reshape(-1).view(np.uint8)
            for start in range(0, len(entries), block):
                group.broadcast(torch.from_numpy(entries[start : start + block].copy()))
        return value
    arrays = []
    for dtype, shape, is_mapped in kinds:
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        received = SpilledArray(np.uint8, 0 if is_mapped else n_bytes)
        for start in range(0, n_bytes, block):
            part = np.empty(min(block, n_bytes - start), np.uint8)
            group.broadcast(torch.from_numpy(part))
            received.append(part)
        arrays.append(received.array().view(dtype).reshape(shape))
    return cast(Value, _with(arrays, rest))


def _without(arrays: list[np.ndarray], value: Any, block: int) -> Any:
    """Append the long arrays of a value to `arrays`, and return it with places instead."""
    if isinstance(value, np.ndarray) and value.nbytes > block and not value.dtype.hasobject:
        for number, array in enumerate(arrays):
            if array is value:
                return _Place(number)
        arrays.append(value)
        return _Place(len(arrays) - 1)
    if isinstance(value, TokenStore):
        value = copy.copy(value)
        for name, part in vars(value).items():
            setattr(value, name, _without(arrays, part, block))
    return value


def _with(arrays: list[np.ndarray], value: Any) -> Any:
    """Undo `_without`."""
    if isinstance(value, _Place):
        return arrays[value.number]
    if isinstance(value, TokenStore):
        for name, part in vars(value).items():
            setattr(value, name, _with(arrays, part))
    return value


def _is_mapped(array: object) -> bool:
    while type(array) is np.ndarray:
        array = array.base
    return isinstance(array, np.memmap)
