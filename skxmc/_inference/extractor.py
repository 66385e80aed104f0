"""Batched representation of texts by an encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from skxmc._model.defaults import torch_defaults
from skxmc._model.device import autocast, copy_to, is_out_of_memory
from skxmc._model.encoder_check import check_ids
from skxmc._model.network import TextNetwork
from skxmc._model.tokens import TokenStore, prediction_batches, tokenize
from skxmc._utils.encode_once import shared_representations
from skxmc._utils.warnings import warn_user

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts tokenized at once, so that tokens take bounded memory.
TEXTS_BLOCK = 65_536

# Raw or tokenized texts.
Texts = Sequence[str] | TokenStore
# Rows of a batch, and their e or all tokens.
Batch = tuple[np.ndarray, torch.Tensor | TokenStore]


@dataclass
class FeatureExtractor:
    """A network, its tokenizer, and the settings of computation in batches.

    Parameters
    ----------
    network : TextNetwork
        Network in evaluation mode on `device`: a `serving_copy`.
    tokenizer : Hugging Face tokenizer
    max_length : int
        Maximum number of tokens per text.
    batch_size : int
        Number of texts at once. It is halved when the device runs out of memory.
    device : torch.device
    dtype : torch.dtype
        Precision of matrix products, int8 if linear layers are quantized.
    """

    network: TextNetwork
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    batch_size: int
    device: torch.device
    dtype: torch.dtype

    # The parameter of the estimator that sets `batch_size`, for a warning.
    batch_size_param: ClassVar[str] = "batch_size"

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
        self, texts: Texts, compute: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield the rows of each batch, and what `compute` makes of their e, as arrays."""
        if isinstance(texts, TokenStore):
            yield from self._results(self._batches(texts), compute)
            return
        for start in range(0, len(texts), TEXTS_BLOCK):
            batches = self._batches_of_texts(texts[start : start + TEXTS_BLOCK])
            for rows, arrays in self._results(batches, compute):
                yield start + rows, arrays

    def _batches_of_texts(self, texts: Sequence[str]) -> Iterator[Batch]:
        """Yield batches of raw texts, whose e may be known by `encode_once`."""
        shared = shared_representations()
        key = None if shared is None else self._key(texts)
        if shared is None or (key not in shared and not shared.grows):
            yield from self._batches(self._tokenize(texts))
            return
        if key not in shared:
            found = self._results(self._batches(self._tokenize(texts)), lambda e: (e,))
            shared[key] = self.network, [(rows, torch.from_numpy(e)) for rows, (e,) in found]
        yield from shared[key][1]

    def _key(self, texts: Sequence[str]) -> tuple[object, ...]:
        return id(self.network), self.max_length, tuple(texts)

    def share(self, texts: Sequence[str], features: np.ndarray) -> None:
        """Within `encode_once`, take `features` as the representations e of these texts."""
        shared = shared_representations()
        if shared is None:
            return
        for start in range(0, len(texts), TEXTS_BLOCK):
            block, e = texts[start : start + TEXTS_BLOCK], features[start : start + TEXTS_BLOCK]
            batches = [(np.arange(len(block)), torch.from_numpy(e))]
            shared[self._key(block)] = self.network, batches

    def _batches(self, tokens: TokenStore) -> Iterator[Batch]:
        for rows in prediction_batches(tokens.lengths, self.batch_size):
            yield rows, tokens

    def _represent(self, batch: Batch, part: slice) -> torch.Tensor:
        rows, source = batch
        if isinstance(source, torch.Tensor):
            return copy_to(source[part], self.device)
        return self.network.represent(source.batch(rows[part]).to(self.device))

    def _tokenize(self, texts: Sequence[str]) -> TokenStore:
        tokens = tokenize(self.tokenizer, texts, self.max_length)
        check_ids(tokens, self.tokenizer, self.network.encoder, texts)
        return tokens

    def _results(
        self,
        batches: Iterator[Batch],
        compute: Callable[[torch.Tensor], tuple[torch.Tensor, ...]],
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        for batch in batches:
            wanted, done = batch[0], 0
            while done < len(wanted):
                part = slice(done, done + self.batch_size)
                try:
                    with (
                        torch_defaults(),
                        torch.inference_mode(),
                        autocast(self.device, self.dtype),
                    ):
                        arrays = [
                            result.cpu().float().numpy()
                            if result.is_floating_point()
                            else result.cpu().numpy()
                            for result in compute(self._represent(batch, part))
                        ]
                except (RuntimeError, MemoryError) as error:
                    if self.batch_size == 1 or not is_out_of_memory(error):
                        raise
                    self._halve_batch_size()
                    continue
                yield wanted[part], arrays
                done += len(wanted[part])

    def _halve_batch_size(self) -> None:
        self.batch_size //= 2
        torch.cuda.empty_cache()
        warn_user(
            f"The device ran out of memory in prediction. Continuing with batches of "
            f"{self.batch_size} texts. Set {self.batch_size_param}={self.batch_size} to avoid "
            "this warning.",
            RuntimeWarning,
        )
