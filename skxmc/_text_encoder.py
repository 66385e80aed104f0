"""TextEncoder: a pretrained encoder as a transformer of raw texts."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skxmc._inference.extractor import FeatureExtractor, resolve_batch_size
from skxmc._inference.low_precision import serving_copy
from skxmc._input.texts import check_texts
from skxmc._input.types import Texts
from skxmc._model.defaults import torch_defaults
from skxmc._model.device import prediction_device, resolve_device, resolve_precision
from skxmc._model.encoder import encoder_source, load_encoder
from skxmc._model.encoder_check import check_length, check_representations, check_words
from skxmc._model.pooling import trained_pooling
from skxmc._model.text_network import TextNetwork
from skxmc._model.windows import LONG_TEXT, tokenize_long
from skxmc._storage.mixin import PretrainedMixin
from skxmc._storage.pickling import model_from_state, model_state
from skxmc._utils.params import check_params
from skxmc._utils.progress import slow_bar

# `fit` checks that the tokenizer knows the words of so many texts.
MAX_CHECKED_TEXTS = 1000


class TextEncoder(
    PretrainedMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Transformer of raw texts to dense vectors, by a pretrained encoder as it comes.

    A text becomes the state of the encoder's last layer, pooled as the encoder was trained. Nothing
    is trained here. Sentence encoders, such as the default, put texts of similar meaning near each
    other, which `NeighborsClassifier` needs. For a representation that is trained on your labels,
    use the ``transform`` of a fitted `LightXMLClassifier`.

    Read more in the user guide: :doc:`/guide/neighbors`.

    Parameters
    ----------
    encoder : str or path, default="sentence-transformers/all-MiniLM-L6-v2"
        Hub id or local directory of a Hugging Face encoder with a [CLS] token. With the extra
        ``[demo]``, the default needs no network.
    max_length : int, default=128
        Maximum number of tokens that the encoder reads at once, special tokens included.
    long_text : {"truncate", "windows"}, default="truncate"
        What to read of a text with more than `max_length` tokens. "truncate" is its start.
        "windows" is all of it, in windows of `max_length` tokens that overlap by a quarter or more.
        The vector of the text is the mean of theirs. See :doc:`/guide/long_texts`.
    pooling : {"auto", "cls", "mean"}, default="auto"
        State of a text: that of its [CLS] token, or the mean over its tokens. "auto" is what the
        encoder was trained for, if it has a file of sentence-transformers that says so. Otherwise
        it is "cls".
    batch_size : int or "auto", default="auto"
        Number of texts that the encoder reads at once. The result does not depend on it. "auto" is
        64. On a CUDA GPU, it is as many texts as have 32,768 tokens, but at most 512.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}, default="auto"
        Precision of matrix products. "auto" is bf16 if the device computes it fast, fp16 on older
        GPUs with tensor cores (V100, T4, RTX 20), else fp32.
        "int8" is for CPUs. It can be set after `fit`.
    device : str, default="auto"
        Device such as "cuda", "cuda:1", "mps" or "cpu". "auto" is a GPU if there is one.
    verbose : int, default=0
        1 shows a progress bar in `transform` if it takes some seconds.

    Attributes
    ----------
    network_ : torch.nn.Module
        The encoder.
    tokenizer_ : tokenizer
        Tokenizer of the encoder.

    See Also
    --------
    NeighborsClassifier : Lets the nearest texts vote for their labels.
    LightXMLClassifier : Trains an encoder. Its ``transform`` is a representation too.

    Examples
    --------
    >>> from skxmc import TextEncoder
    >>> TextEncoder().fit_transform(["stocks fell again", "a cat bond fell"]).shape
    (2, 384)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "encoder": [str, os.PathLike],
        "max_length": [Interval(Integral, 2, None, closed="left")],
        "long_text": [StrOptions({*LONG_TEXT})],
        "pooling": [StrOptions({"auto", "cls", "mean"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "precision": [StrOptions({"auto", "fp32", "bf16", "fp16", "int8"})],
        "device": [str],
        "verbose": ["verbose"],
    }

    # They may be set after `fit`.
    _transform_params = ("max_length", "long_text", "batch_size", "precision", "device", "verbose")

    def __init__(
        self,
        encoder: str | os.PathLike[str] = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        max_length: int = 128,
        long_text: str = "truncate",
        pooling: str = "auto",
        batch_size: int | str = "auto",
        precision: str = "auto",
        device: str = "auto",
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.max_length = max_length
        self.long_text = long_text
        self.pooling = pooling
        self.batch_size = batch_size
        self.precision = precision
        self.device = device
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    @torch_defaults()
    def fit(self, X: Texts, y: Any = None) -> TextEncoder:
        """Load the encoder. Nothing is learned from the texts.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts.
        y : object, default=None
            Ignored.

        Returns
        -------
        TextEncoder
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, or if the encoder or the device is missing. The message
            says what to do.
        TypeError
            If X holds no texts.

        Warns
        -----
        UserWarning
            If the tokenizer does not know the words of the first 1,000 texts.
        """
        texts = check_texts(X)
        name, max_length = os.fspath(self.encoder), int(self.max_length)
        device = resolve_device(self.device)
        tokenizer, encoder = load_encoder(name)
        pooling = self.pooling
        if pooling == "auto":
            pooling = trained_pooling(encoder_source(name))
        check_representations(encoder.eval(), tokenizer, 1, pooling, name=name)
        check_length(encoder, tokenizer, max_length, name=name)
        some = texts[:MAX_CHECKED_TEXTS]
        tokens = tokenize_long(tokenizer, some, max_length, self.long_text)
        check_words(tokens, tokenizer, some, name=name)
        network = TextNetwork(encoder, n_feature_layers=1, pooling=pooling)
        self.network_, self.tokenizer_ = network.place_on(device).eval(), tokenizer
        return self

    def transform(self, X: Texts) -> np.ndarray:
        """Represent texts by vectors.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts.

        Returns
        -------
        ndarray of shape (n_texts, hidden), float32
            One vector per text.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        TypeError, ValueError
            If X holds no texts, or a parameter that was set after `fit` is out of range.

        Warns
        -----
        RuntimeWarning
            If the device runs out of memory. The batch is halved.
        """
        check_is_fitted(self)
        check_params(self, self._transform_params)
        texts = check_texts(X, allow_empty=True)
        network, device = self.network_, prediction_device(self.device)
        dtype = resolve_precision(self.precision, device)
        max_length = int(self.max_length)
        check_length(network.encoder, self.tokenizer_, max_length, name=os.fspath(self.encoder))
        extractor = FeatureExtractor(
            network=serving_copy(network, dtype, device),
            tokenizer=self.tokenizer_,
            max_length=max_length,
            batch_size=resolve_batch_size(self.batch_size, device),
            device=device,
            dtype=dtype,
            long_text=self.long_text,
        )
        with slow_bar(self.verbose, desc="encoding texts", total=len(texts)) as bar:
            return extractor.features(texts, progress=bar.update)

    @property
    def _n_features_out(self) -> int:
        return self.network_.n_features

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = True
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = []  # texts have none
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return model_state(dict(super().__getstate__()))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(model_from_state(state))
