"""Batched representation of texts by an encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from sklearn.utils import gen_batches

from skxmc._inference.sharing import shared_by_processes
from skxmc._model.defaults import torch_defaults
from skxmc._model.device import autocast, copy_back, copy_to, is_out_of_memory
from skxmc._model.encoder_check import check_ids
from skxmc._model.text_network import TextNetwork
from skxmc._model.tokens import TokenStore, prediction_batches
from skxmc._model.windows import WindowStore, tokenize_long
from skxmc._utils.encode_once import shared_representations
from skxmc._utils.parallel import map_ahead, one_behind
from skxmc._utils.warnings import warn_user

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts tokenized at once, so that tokens take bounded memory.
TEXTS_BLOCK = 65_536
# The same on a GPU, which computes a block while a thread tokenizes the next one.
GPU_TEXTS_BLOCK = 16_384
# Numbers of texts and tokens of a batch with batch_size="auto". Fewer tokens would leave a GPU
# waiting for the host. More texts would take much memory for their scores.
CPU_BATCH_TEXTS = 64
GPU_BATCH_TEXTS = 512
GPU_BATCH_TOKENS = 32_768

# Raw or tokenized texts, or their e: (n_texts, n_encoders * n_feature_layers * hidden) float32.
Texts = Sequence[str] | TokenStore | np.ndarray
# Rows of a batch, and their e or all tokens.
Batch = tuple[np.ndarray, torch.Tensor | TokenStore]
# Computes something from e.
Compute = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]


class BatchSize(NamedTuple):
    """Maximum numbers of texts, and of tokens if they are bounded, of a batch."""

    n_texts: int
    n_tokens: int | None = None


def resolve_batch_size(batch_size: int | str, device: torch.device) -> BatchSize:
    """Resolve the parameter `batch_size`, a number of texts or "auto"."""
    if batch_size != "auto":
        return BatchSize(int(batch_size))
    if device.type == "cuda":
        return BatchSize(GPU_BATCH_TEXTS, GPU_BATCH_TOKENS)
    return BatchSize(CPU_BATCH_TEXTS)


@dataclass
class FeatureExtractor:
    """A network, its tokenizer, and the settings of computation in batches.

    Parameters
    ----------
    network : TextNetwork
        Network in evaluation mode on `device`: a `serving_copy`.
    tokenizer : Hugging Face tokenizer
    max_length : int
        Maximum number of tokens per text, or per window.
    batch_size : BatchSize
        Texts at once. Their number is halved when the device runs out of memory.
    device : torch.device
    dtype : torch.dtype
        Precision of matrix products, int8 if linear layers are quantized.
    long_text : {"truncate", "windows"}
        Whether to cut longer texts or to average the representations of their windows.
    """

    network: TextNetwork
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    batch_size: BatchSize
    device: torch.device
    dtype: torch.dtype
    long_text: str

    # The parameter of the estimator that sets `batch_size`, for a warning.
    batch_size_param: ClassVar[str] = "batch_size"

    @property
    def on_gpu(self) -> bool:
        """Whether the host prepares what a GPU computes next."""
        return self.device.type == "cuda"

    @shared_by_processes
    def features(self, texts: Texts, progress: Callable[[int], object] | None = None) -> np.ndarray:
        """Return representations e, (n, n_feature_layers * hidden) float32.

        `progress` is called with the number of texts in each finished batch.
        """
        width = self.network.n_features  # of the first encoder, if there are two
        return self.array(texts, width, lambda e: e[:, :width], progress)

    def array(
        self,
        texts: Texts,
        width: int,
        compute: Callable[[torch.Tensor], torch.Tensor],
        progress: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """Return what `compute` makes of e, (n, width) float32."""
        array = np.empty((len(texts), width), dtype=np.float32)
        for rows, (found,) in self.results(texts, lambda e: (compute(e),)):
            array[rows] = found
            if progress is not None:
                progress(len(rows))
        return array

    def results(
        self, texts: Texts, compute: Compute
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield the rows of each batch, and what `compute` makes of their e, as arrays."""
        if isinstance(texts, TokenStore | np.ndarray):
            yield from self._results(self._batches(texts), compute)
            return
        blocks = self._blocks(texts)
        tokens_of = map_ahead if self.on_gpu else map
        start = 0
        for block, tokens in zip(blocks, tokens_of(self._new_tokens, blocks), strict=True):
            for rows, arrays in self._results(self._batches_of_texts(block, tokens), compute):
                yield start + rows, arrays
            start += len(block)

    def _blocks(self, texts: Sequence[str]) -> list[Sequence[str]]:
        size = GPU_TEXTS_BLOCK if self.on_gpu else TEXTS_BLOCK
        return [texts[start : start + size] for start in range(0, len(texts), size)]

    def _new_tokens(self, texts: Sequence[str]) -> TokenStore | None:
        """Tokenize texts, unless their e are known by `encode_once`."""
        shared = shared_representations()
        is_known = shared is not None and self._key(texts) in shared
        return None if is_known else self._tokenize(texts)

    def _batches_of_texts(self, texts: Sequence[str], tokens: TokenStore | None) -> Iterator[Batch]:
        """Yield batches of tokens, or of e that are known by `encode_once`."""
        shared = shared_representations()
        if tokens is not None:
            if shared is None or not shared.grows:
                yield from self._batches(tokens)
                return
            found = self._results(self._batches(tokens), lambda e: (e,))
            e_of_batches = [(rows, torch.from_numpy(e)) for rows, (e,) in found]
            shared[self._key(texts)] = self.network, e_of_batches
        assert shared is not None
        yield from shared[self._key(texts)][1]

    def _key(self, texts: Sequence[str]) -> tuple[object, ...]:
        return id(self.network), self.max_length, self.long_text, tuple(texts)

    def share(self, texts: Sequence[str], features: np.ndarray) -> None:
        """Within `encode_once`, take `features` as the representations e of these texts."""
        shared = shared_representations()
        if shared is None:
            return
        start = 0
        for block in self._blocks(texts):
            e = torch.from_numpy(features[start : start + len(block)])
            shared[self._key(block)] = self.network, [(np.arange(len(block)), e)]
            start += len(block)

    def _batches(self, tokens: TokenStore | np.ndarray) -> Iterator[Batch]:
        """Yield batches of tokens, or of e if it is given or a mean over windows."""
        if isinstance(tokens, np.ndarray):
            for part in gen_batches(len(tokens), self.batch_size.n_texts):
                yield np.arange(part.start, part.stop), torch.from_numpy(tokens[part])
            return
        if isinstance(tokens, WindowStore):
            width = len(self.network.encoders) * self.network.n_features
            for rows, windows, text_of in tokens.blocks():
                e = torch.zeros(len(rows), width, dtype=torch.float32, device="cpu")
                for found, (part,) in self._results(self._batches(windows), lambda e: (e,)):
                    e.index_add_(0, torch.from_numpy(text_of[found]), torch.from_numpy(part))
                yield rows, e / torch.from_numpy(tokens.n_windows[rows, None])
            return
        for rows in prediction_batches(tokens.lengths, *self.batch_size):
            yield rows, tokens

    def _represent(self, batch: Batch, part: slice) -> torch.Tensor:
        rows, source = batch
        if isinstance(source, torch.Tensor):
            return copy_to(source[part], self.device)
        tokens = source.batch(rows[part], self.on_gpu)
        return self.network.represent(tokens.to(self.device))

    def _tokenize(self, texts: Sequence[str]) -> TokenStore:
        tokens = tokenize_long(self.tokenizer, texts, self.max_length, self.long_text)
        check_ids(tokens, self.tokenizer, self.network.encoder, texts)
        return tokens

    def _results(
        self, batches: Iterable[Batch], compute: Compute
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Compute batches. A GPU has the next batch when the results of the last are read."""
        started = (part for batch in batches for part in self._start(batch, compute))
        for rows, wait in one_behind(started):
            yield rows, wait()

    def _start(
        self, batch: Batch, compute: Compute
    ) -> Iterator[tuple[np.ndarray, Callable[[], list[np.ndarray]]]]:
        """Start a batch, in parts if memory runs out, and yield functions that wait for results."""
        wanted, done = batch[0], 0
        while done < len(wanted):
            part = slice(done, done + self.batch_size.n_texts)
            rows = wanted[part]
            try:
                with (
                    torch_defaults(),
                    torch.inference_mode(),
                    autocast(self.device, self.dtype),
                ):
                    wait = copy_back(compute(self._represent(batch, part)))
            except (RuntimeError, MemoryError) as error:
                if len(rows) == 1 or self.network.in_step or not is_out_of_memory(error):
                    raise
                self._lower_batch_size(len(rows) // 2)
                continue
            yield rows, wait
            done += len(rows)

    def _lower_batch_size(self, n_texts: int) -> None:
        self.batch_size = self.batch_size._replace(n_texts=n_texts)
        torch.cuda.empty_cache()
        warn_user(
            f"The device ran out of memory in prediction. Continuing with batches of "
            f"{n_texts} texts. Set {self.batch_size_param}={n_texts} to avoid this warning.",
            RuntimeWarning,
        )
