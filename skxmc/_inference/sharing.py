"""Predictions that the processes of torch.distributed share.

A process cannot know whether the others will predict too. Many scripts predict in the first process
alone, and others give each process its own texts. A collective would wait for them forever, so none
is called. Instead, processes that compute the same for the same texts meet at a `Board`, in the
store of their process group. Each claims a block of texts, computes it, and claims the next. At the
end it reads the blocks of the others. A process that is alone claims all blocks.

If a process fails, the others compute its block. So a failure elsewhere raises no error here, and a
process waits only for a block that another one has begun.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast

import numpy as np
import scipy.sparse as sp
import torch
import torch.distributed as dist

from skxmc._model.tokens import TokenStore
from skxmc._utils.encode_once import shared_representations

if TYPE_CHECKING:
    from torch.distributed import Store

    from skxmc._inference.extractor import FeatureExtractor, Texts

# Blocks per process. With more, processes end at the same time. With fewer, there is less padding.
BLOCKS_PER_PROCESS = 8
# Maximum number of texts per block, which bounds the size of its results.
MAX_BLOCK = 8192
# A value of the store has at most 8 MiB.
PIECE_BYTES = 1 << 22
# Seconds between looks at the board, and the least time to wait for blocks of others.
POLL, PATIENCE = 0.005, 10.0

Extractor = TypeVar("Extractor", bound="FeatureExtractor")
Given = ParamSpec("Given")
# One row per text: an array, a tuple of arrays or a CSR matrix.
Rows = TypeVar("Rows")

_is_inherited = False


def _note_fork() -> None:
    """Note that the store of this process belongs to its parent, which uses it."""
    global _is_inherited
    _is_inherited = dist.is_available() and dist.is_initialized()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def shared_by_processes(
    method: Callable[Concatenate[Extractor, Texts, Given], Rows],
) -> Callable[Concatenate[Extractor, Texts, Given], Rows]:
    """Decorate a method that computes one row per text: let the processes share the texts.

    They do not share tokens and e, which `fit` has, nor few texts, nor texts that `fit` has
    represented.
    """

    @functools.wraps(method)
    def sharing(
        extractor: Extractor, texts: Texts, *args: Given.args, **kwargs: Given.kwargs
    ) -> Rows:
        store, n_least = store_of_group(), extractor.batch_size.n_texts
        represented = shared_representations()
        if (
            store is None
            or extractor.network.in_step
            or isinstance(texts, TokenStore | np.ndarray)
            or len(texts) < 2 * n_least
            or (represented is not None and not represented.grows)
        ):
            return method(extractor, texts, *args, **kwargs)
        # Texts of a block are of similar length. The longest come first.
        order = np.argsort([-len(text) for text in texts], kind="stable")
        size = dist.get_world_size()
        n_each = min(max(n_least, len(texts) // (BLOCKS_PER_PROCESS * size)), MAX_BLOCK)
        blocks = np.array_split(order, len(texts) // n_each)
        options = {name: value for name, value in kwargs.items() if name != "progress"}
        key = _digest(extractor, texts, f"{method.__qualname__} {args} {options} {len(blocks)}")
        progress = cast("Callable[[int], object] | None", kwargs.get("progress"))

        def compute(block: int) -> Rows:
            part = [texts[row] for row in blocks[block]]
            return method(extractor, part, *args, **kwargs)

        def note_read(block: int) -> None:
            if progress is not None:
                progress(len(blocks[block]))

        board = Board(store, key, len(blocks), compute, note_read)
        return _in_order(board.fill(first=dist.get_rank(), step=size), order)

    return sharing


class Board(Generic[Rows]):
    """The blocks of one computation: who computes them, and their results.

    Processes with the same key and `compute` share the blocks. The last that leaves clears the
    board. Its next use has another number.

    Parameters
    ----------
    store : Store
        Store that all processes see.
    key : str
        Digest of everything that the results depend on.
    n_blocks : int
    compute : callable
        Function that computes a block.
    note_read : callable
        Function that is called with each block that another process has computed.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        n_blocks: int,
        compute: Callable[[int], Rows],
        note_read: Callable[[int], object],
    ) -> None:
        self.uses = dist.PrefixStore(f"skxmc/{key}", store)
        self.store = self.uses
        self.n_blocks = n_blocks
        self.compute = compute
        self.note_read = note_read
        self.found: dict[int, Rows] = {}
        self.unpublished: list[int] = []
        self.patience = PATIENCE

    def fill(self, first: int, step: int) -> list[Rows]:
        """Return the results of all blocks, and claim those from `first` on, by `step`, first."""
        try:
            self._join()
            try:
                # The same process computes the same blocks if it can, see `encode_once`.
                for block in (*range(first, self.n_blocks, step), *range(self.n_blocks)):
                    if self.store.add(f"{block}/claims", 1) == 1:
                        self._compute(block)
                        self._publish()
                self._wait()
                self._publish()
            finally:
                self._leave()
        except dist.DistError:  # the process that keeps the store has ended
            self._compute_missing()
        return [self.found[block] for block in range(self.n_blocks)]

    def _compute(self, block: int) -> None:
        started = time.perf_counter()
        self.found[block] = self.compute(block)
        self.unpublished.append(block)
        self.patience = max(self.patience, 3 * (time.perf_counter() - started))

    def _compute_missing(self) -> None:
        for block in range(self.n_blocks):
            if block not in self.found:
                self._compute(block)

    def _wait(self) -> None:
        """Read the blocks of others, and compute those of processes that leave or do not answer."""
        deadline, has_others = time.perf_counter() + self.patience, True
        while self._read() and has_others and time.perf_counter() < deadline:
            time.sleep(POLL)
            has_others = self._has_others()  # before reading, as they publish before they leave
        self._compute_missing()

    def _join(self) -> None:
        while True:
            number = self.uses.add("number", 0)
            self.store = dist.PrefixStore(str(number), self.uses)
            self.store.add("members", 1)
            if self.uses.add("number", 0) == number:
                return
            self.store.add("members", -1)  # the last has just left

    def _leave(self) -> None:
        """Leave, and clear the board if no process is left.

        A process that joins now sees the new number, or is seen here.
        """
        if self.store.add("members", -1) > 0:
            return
        self.uses.add("number", 1)
        if self._n_members() > 0:
            return
        for block in range(self.n_blocks):
            for name in (f"{block}/claims", *self._pieces(block), str(block)):
                self.store.delete_key(name)

    def _n_members(self) -> int:
        return int(self.store.add("members", 0))

    def _has_others(self) -> bool:
        return self._n_members() > 1

    def _publish(self) -> None:
        """Write own results, if there is anyone to read them."""
        while self.unpublished and self._has_others():
            block = self.unpublished.pop()
            data = _packed(self.found[block])
            starts = range(0, len(data), PIECE_BYTES)
            for number, start in enumerate(starts):
                piece: Any = data[start : start + PIECE_BYTES]  # torch declares only str
                self.store.set(f"{block}/{number}", piece)
            self.store.set(str(block), str(len(starts)))

    def _pieces(self, block: int) -> list[str]:
        """Return the names of the values that hold a block, none if it is not published."""
        if not self.store.check([str(block)]):
            return []
        return [f"{block}/{number}" for number in range(int(self.store.get(str(block))))]

    def _read(self) -> bool:
        """Read what others have published, and return whether blocks are missing."""
        for block in range(self.n_blocks):
            if block not in self.found and (pieces := self._pieces(block)):
                data = b"".join(self.store.get(name) for name in pieces)
                self.found[block] = cast(Rows, _unpacked(data))
                self.note_read(block)
        return len(self.found) < self.n_blocks


def store_of_group() -> Store | None:
    """Return the store of the process group, or None without other processes."""
    if not dist.is_available() or not dist.is_initialized() or _is_inherited:
        return None
    if dist.get_world_size() == 1:
        return None
    return dist.distributed_c10d._get_default_store()


def digest_of_call(extractor: FeatureExtractor, texts: Sequence[str], call: str) -> str:
    """Return a digest of everything but the weights that the result of a call depends on."""
    settings = {
        field.name: getattr(value := getattr(extractor, field.name), "__qualname__", value)
        for field in fields(extractor)
        if field.name not in ("network", "tokenizer", "batch_size", "device")
    }
    digest = hashlib.blake2b(f"{call} {settings} {extractor.network.settings}".encode())
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()


def _digest(extractor: FeatureExtractor, texts: Sequence[str], call: str) -> str:
    """Return a digest of everything that the result of a call depends on."""
    digest = hashlib.blake2b(digest_of_call(extractor, texts, call).encode())
    for tensor in _tensors(extractor.network):
        has_rows = tensor.is_floating_point() and tensor.ndim > 1
        # Sums of rows tell weights apart, and take a tenth of the time of all bytes.
        values = tensor.sum(-1, dtype=torch.float32) if has_rows else tensor
        digest.update(values.cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(network: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Yield weights and buffers, also those of quantized layers."""
    yield from network.buffers()
    for state in network.state_dict().values():
        for value in state if isinstance(state, tuple) else (state,):
            if isinstance(value, torch.Tensor):
                yield value.detach().dequantize() if value.is_quantized else value.detach()


def _packed(rows: Any) -> bytes:
    """Write an array, a tuple of arrays or a CSR matrix as the bytes of an .npz file."""
    arrays = rows if isinstance(rows, tuple) else (rows,)
    if sp.issparse(rows):
        arrays = (rows.data, rows.indices, rows.indptr, np.array(rows.shape))
    file = io.BytesIO()
    np.savez(file, *arrays, kind=np.array(type(rows).__name__))
    return file.getvalue()


def _unpacked(data: bytes) -> Any:
    """Read what `_packed` has written."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = tuple(file[f"arr_{number}"] for number in range(len(file) - 1))
        kind = str(file["kind"])
    if kind == "ndarray":
        return arrays[0]
    if kind == "tuple":
        return arrays
    return sp.csr_matrix(arrays[:3], shape=tuple(arrays[3]))


def _in_order(blocks: Sequence[Any], order: np.ndarray) -> Any:
    """Stack rows that are in `order`, and put them in the order of the texts."""
    if isinstance(blocks[0], tuple):
        return tuple(_in_order(arrays, order) for arrays in zip(*blocks, strict=True))
    is_array = isinstance(blocks[0], np.ndarray)
    stacked = np.concatenate(blocks) if is_array else sp.vstack(blocks, format="csr")
    return stacked[np.argsort(order)]
