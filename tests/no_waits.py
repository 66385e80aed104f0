"""Operations that wait for a GPU, found on a CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# They bring a number to the host, or the shape of their result depends on numbers.
WAITING = {
    "_coalesce",
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
# They wait if an index is a mask.
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class NoWaits(TorchDispatchMode):
    """Fail on each operation that would wait for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        is_masked = name in INDEXING and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        waits = name in WAITING or is_masked
        assert not waits, f"{func} waits for a GPU"
        return func(*args, **(kwargs or {}))
