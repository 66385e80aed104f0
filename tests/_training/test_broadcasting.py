"""Values of the first process, which the others receive."""

import copy

import numpy as np
import pytest
import torch

from skxmc._model.tokens import TokenStore
from skxmc._model.windows import WindowStore
from skxmc._training.broadcasting import broadcast_value

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="needs torch.distributed"
)


class Wire:
    """Stand in for the processes of a group, one after the other."""

    def __init__(self):
        self.rank = 0
        self.messages = []
        self.left = None

    def call(self, collective, found, src):
        if self.rank == 0:
            self.messages.append(list(found))
        else:
            found[:] = copy.deepcopy(self.left.pop(0))

    def broadcast(self, tensor):
        if self.rank == 0:
            self.messages.append(tensor.clone())
        else:
            tensor.copy_(self.left.pop(0))

    def send(self, value, **options):
        """Return what another process receives."""
        assert broadcast_value(self, value, **options) is value
        self.rank, self.left = 1, list(self.messages)
        received = broadcast_value(self, None, **options)
        assert self.left == []
        return received


def test_broadcast_value_keeps_mapped_arrays_in_files_and_others_in_memory(tmp_path):
    mapped = np.memmap(tmp_path / "mapped", np.int32, "w+", shape=(100,))
    mapped[:] = np.arange(100)
    offsets = np.arange(0, 101, 5)
    store = TokenStore(np.asarray(mapped), offsets, None, 7, cls_last=True)
    value = WindowStore(store, 4, (1, 0))
    wire = Wire()
    received = wire.send(value, block=64)
    assert type(received) is WindowStore
    assert (received.lengths == value.lengths).all()
    assert received.whole.ids is received.ids
    assert (received.whole.pad_id, received.whole.cls_last) == (7, True)
    for name in ("ids", "offsets"):
        base = getattr(received.whole, name)
        assert base.dtype == getattr(store, name).dtype
        assert (base == getattr(store, name)).all()
        while type(base) is np.ndarray:
            base = base.base
        assert isinstance(base, np.memmap) == (name == "ids")
    assert isinstance(store.ids.base, np.memmap)  # the value of the first process is as it was
    ((rest, _),), *blocks = wire.messages
    assert max(map(len, blocks)) == 64
    assert not isinstance(rest.whole.ids, np.ndarray)


@pytest.mark.parametrize("value", [None, 3, {"a": np.arange(4)}, np.array(["x" * 99], object)])
def test_broadcast_value_without_long_numeric_arrays_is_one_message(value):
    wire = Wire()
    assert repr(wire.send(value, block=64)) == repr(value)
    assert len(wire.messages) == 1


def test_broadcast_value_in_other_memory_order_arrives():
    value = np.arange(60.0).reshape(6, 10).T
    assert (Wire().send(value, block=64) == value).all()
