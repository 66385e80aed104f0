"""Values of the first process, which the others receive."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist

from skxmc._utils.spill import SpilledArray

if TYPE_CHECKING:
    from skxmc._training.distributed import ManyProcesses

Value = TypeVar("Value")

# Arrays of more bytes are sent in messages of so many.
BYTES_BLOCK = 1 << 24


class _Pickler(pickle.Pickler):
    """Pickler that replaces each long array by its number, and keeps it."""

    def __init__(self, file: io.BytesIO, block: int) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.block = block
        self.arrays: dict[int, np.ndarray] = {}

    def persistent_id(self, value: object) -> int | None:
        """Return the number of a long array, and None for all other objects."""
        if not isinstance(value, np.ndarray) or value.nbytes <= self.block or value.dtype.hasobject:
            return None
        self.arrays[id(value)] = value
        return list(self.arrays).index(id(value))


class _Unpickler(pickle.Unpickler):
    """Unpickler that puts arrays in place of their numbers."""

    def __init__(self, file: io.BytesIO, arrays: list[np.ndarray]) -> None:
        super().__init__(file)
        self.arrays = arrays

    def persistent_load(self, number: int) -> np.ndarray:
        """Return the array of a number."""
        return self.arrays[number]


def broadcast_value(group: ManyProcesses, value: Value, *, block: int = BYTES_BLOCK) -> Value:
    """Return the value of the first process in all.

    Long arrays are sent in blocks. If the first process has an array in a file that is mapped into
    memory, such as many tokens, each of the others writes it to a temporary file of its own.

    Parameters
    ----------
    group : ManyProcesses
    value : object
        Value that can be pickled. Only that of the first process counts.
    block : int, default=BYTES_BLOCK
        Maximum number of bytes of an array in one message.
    """
    file = io.BytesIO()
    pickler = _Pickler(file, block)
    pickler.dump(value if group.rank == 0 else None)
    arrays = list(pickler.arrays.values())
    found = [(file.getvalue(), [(a.dtype, a.shape, _is_mapped(a)) for a in arrays])]
    group.call(dist.broadcast_object_list, found, src=0)
    pickled, kinds = found[0]
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
    return cast(Value, _Unpickler(io.BytesIO(pickled), arrays).load())


def _is_mapped(array: object) -> bool:
    while type(array) is np.ndarray:
        array = array.base
    return isinstance(array, np.memmap)
