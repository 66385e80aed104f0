"""Prediction and validation during training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from skxmc._inference.extractor import Texts, resolve_batch_size
from skxmc._inference.low_precision import forget_copy, serving_copy
from skxmc._inference.predictor import Predictor
from skxmc._input.validation import Labels
from skxmc._model.encoder_check import check_ids
from skxmc._model.fitted import Model
from skxmc._model.network import LightXMLNetwork
from skxmc._model.windows import tokenize_long
from skxmc._storage.cache import cached_tokens
from skxmc._topk import TopK
from skxmc._training.settings import Settings
from skxmc.metrics import precision_at_k


def fit_predictor(model: Model, settings: Settings, dtype: torch.dtype) -> Predictor:
    """Make a predictor from the current weights."""
    return Predictor(
        network=serving_copy(model.network, dtype, settings.device),
        tokenizer=model.tokenizer,
        max_length=settings.max_length,
        n_candidate_clusters=settings.candidate_clusters(model.network.layout),
        batch_size=resolve_batch_size(settings.prediction_batch_size, settings.device),
        device=settings.device,
        dtype=dtype,
        long_text=settings.long_text,
    )


def make_validator(
    model: Model, held_out: tuple[list[str], Labels] | None, settings: Settings
) -> Callable[[LightXMLNetwork], float] | None:
    """Make a function that measures P@5 of a network on the held-out set, or None without one."""
    if held_out is None:
        return None
    texts, labels = held_out
    tokens = tokenize_long(
        model.tokenizer,
        texts,
        settings.max_length,
        settings.long_text,
        partial(cached_tokens, settings.memory),
    )
    check_ids(tokens, model.tokenizer, model.network.encoder, texts)
    k = min(5, len(model.classes))
    known: np.ndarray | None = None  # e, which a frozen encoder computes once

    def validate(network: LightXMLNetwork) -> float:
        nonlocal known
        current = model._replace(network=network)
        predictor = fit_predictor(current, settings, settings.prediction_dtype)
        read: Texts = tokens
        # If labels are in parts, all processes predict together, but maybe not all of them know e.
        if settings.freeze_encoder and not network.in_parts:
            if known is None:
                width = len(network.encoders) * network.n_features
                known = predictor.array(tokens, width, lambda e: e)
            read = known
        found = TopK(*predictor.top_k(read, k))
        forget_copy(network)
        return precision_at_k(labels.matrix, found, k=k)

    return validate
