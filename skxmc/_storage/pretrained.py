"""Networks and tokenizers as files: JSON, safetensors in several dtypes, tokenizer files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from sklearn.base import BaseEstimator

from skxmc._clusterer import BalancedLabelClusterer
from skxmc._input.per_label import plain_column
from skxmc._input.validation import label_array
from skxmc._model.defaults import torch_defaults
from skxmc._model.fitted import Model
from skxmc._model.network import LightXMLNetwork
from skxmc._storage.folder import damaged
from skxmc._storage.pickling import build_network, current_params
from skxmc._storage.plain import DESCRIPTION
from skxmc._utils.quoting import quoted

WEIGHTS = "weights.safetensors"
ENCODER, TOKENIZER = "encoder", "tokenizer"
# Suffix of the name of a matrix stored as int8, which makes the name of its scales.
SCALE = "/scale"
# Rows of a matrix converted at once.
ROWS_BLOCK = 64
DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}


@torch_defaults()
def write_model(
    content: Path,
    model: Model,
    params: Mapping[str, Any],
    history: list[dict[str, Any]],
    dtype: torch.dtype,
    weights: Mapping[str, torch.Tensor],
) -> None:
    """Write a model, the parameters of its estimator, the training history and all weights."""
    network, tokenizer, clusterer, classes, head_rate = model
    fitted = {name: int(getattr(clusterer, name)) for name in ("n_clusters_", "n_iter_")}
    is_numbered = np.array_equal(classes, np.arange(len(classes)))
    description = {
        "params": plain_params(params),
        "network": network.settings,
        "clusterer": {"params": plain_params(clusterer.get_params()), "fitted": fitted},
        "classes": None if is_numbered else classes.tolist(),
        "head_learning_rate": head_rate,
        "history": history,
    }
    # In ASCII, because UTF-8 cannot encode labels with lone surrogates.
    (content / DESCRIPTION).write_text(json.dumps(description, indent=1), encoding="ascii")
    network.encoder.config.save_pretrained(content / ENCODER)
    tokenizer.save_pretrained(content / TOKENIZER)
    tensors = {"clusters": torch.from_numpy(clusterer.labels_.astype(np.int32))}
    for name, tensor in weights.items():
        tensors |= _stored(name, tensor.detach(), dtype, network)
    write_tensors(tensors, content / WEIGHTS)


@torch_defaults()
def read_model(content: Path, description: dict[str, Any]) -> Model:
    """Read a model that `write_model` wrote, onto the CPU."""
    from transformers import AutoConfig, AutoTokenizer

    weights = _read_weights(content)
    clusterer = _make_clusterer(description["clusterer"]["params"])
    clusterer.labels_ = weights.pop("clusters").numpy().astype(np.int64)
    for name, value in description["clusterer"]["fitted"].items():
        setattr(clusterer, name, value)
    tokenizer = AutoTokenizer.from_pretrained(
        content / TOKENIZER, trust_remote_code=False, local_files_only=True
    )
    config = AutoConfig.from_pretrained(
        content / ENCODER, trust_remote_code=False, local_files_only=True
    )
    network = build_network(config, clusterer.labels_, description["network"], weights)
    classes = description["classes"]
    if classes is None:
        classes = np.arange(len(clusterer.labels_))
    # Earlier versions did not choose the rate.
    rate = description.get("head_learning_rate", description["params"].get("head_learning_rate"))
    return Model(network, tokenizer, clusterer, label_array(classes, "classes"), rate)


def write_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write tensors to a safetensors file.

    Raises
    ------
    OSError
        If the file cannot be written, for example if the disk is full.
    """
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(f"{str(path)!r} could not be written: {error}") from error


@contextlib.contextmanager
def open_weights(content: Path) -> Iterator[safe_open]:
    """Open the tensors of a saved model without reading them."""
    try:
        with safe_open(content / WEIGHTS, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise damaged(content / WEIGHTS, str(error)) from error


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Replace random generators, caches and other values that JSON cannot hold by None.

    Arrays and tuples become lists. A dict becomes ``{"items": [...]}``, because its keys may be
    numbers.
    """
    return {name: _plain(value) for name, value in params.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseEstimator):
        return plain_params(value.get_params(deep=False))
    value = plain_column(value)
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    elif isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, dict):
        return {"items": _plain(list(value.items()))}
    if value is None or isinstance(value, str | int | float):
        return value
    return [_plain(item) for item in value] if isinstance(value, Sequence) else None


def value_from_plain(value: Any) -> Any:
    """Return a value of `plain_params` as users write it, which matters for a dict."""
    return dict(value["items"]) if isinstance(value, dict) and "items" in value else value


def params_from_plain(params: dict[str, Any]) -> dict[str, Any]:
    """Make the parameters of a classifier from those that `write_model` wrote."""
    params = current_params(params)
    if params["clusterer"] is not None:
        params["clusterer"] = _make_clusterer(params["clusterer"])
    params["label_weight"] = value_from_plain(params["label_weight"])
    return params


def _make_clusterer(params: dict[str, Any]) -> BalancedLabelClusterer:
    """Make a clusterer from saved parameters, without those that a subclass has added."""
    known = BalancedLabelClusterer().get_params()
    return BalancedLabelClusterer(**{name: params[name] for name in known if name in params})


def _stored(
    name: str, tensor: torch.Tensor, dtype: torch.dtype, network: LightXMLNetwork
) -> dict[str, torch.Tensor]:
    """Convert a tensor to its stored form. int8 matrices of the heads have a scale per label.

    Raises
    ------
    ValueError
        If the tensor holds NaN or inf. Its own device finds them, because a GPU is faster.
    """
    is_real = tensor.is_floating_point()
    if is_real and not _is_finite(tensor):
        raise ValueError(
            f"The weights {quoted(name)} hold NaN or inf: training has diverged. Train again with "
            "a lower learning_rate and head_learning_rate."
        )
    tensor = tensor.cpu()
    if not is_real:
        return {name: tensor.contiguous()}
    if dtype == torch.int8 and name in ("label_table.weight", "recall_head.weight"):
        dim = network.embedding_dim if name.startswith("label_table") else tensor.shape[1]
        rows = tensor.unflatten(1, (-1, dim))
        numbers = torch.empty(rows.shape, dtype=torch.int8)
        scale = torch.empty(*rows.shape[:2], 1)
        for start in range(0, len(rows), ROWS_BLOCK):
            part = slice(start, start + ROWS_BLOCK)
            largest = rows[part].float().abs().amax(dim=2, keepdim=True)
            scale[part] = largest.clamp_min(torch.finfo(torch.float32).tiny) / 127
            numbers[part] = (rows[part] / scale[part]).round()
        return {name: numbers, name + SCALE: scale}
    stored = tensor.to(torch.float32 if dtype == torch.float32 else torch.float16).contiguous()
    if stored.dtype == torch.float16 and not _is_finite(stored):
        raise ValueError(
            f"The weights {quoted(name)} do not fit float16. Save with dtype='float32'."
        )
    return {name: stored}


def _is_finite(weights: torch.Tensor) -> bool:
    """Return whether weights are finite, without a copy of them."""
    if not weights.numel():
        return True
    lowest, highest = weights.aminmax()  # NaN if any is
    return bool(lowest.isfinite() & highest.isfinite())


def _read_weights(content: Path) -> dict[str, torch.Tensor]:
    """Read all tensors, as float32.

    Label embeddings stay in half precision unless the file holds float32. They are most of a large
    model, and prediction only looks them up. Tensors in float32 are copied, because they are
    aligned differently in the file, which may change rounding.
    """
    weights = {}
    with open_weights(content) as file:
        names = set(file.keys())
        for name in sorted(names):
            if name.endswith(SCALE):
                continue
            tensor = file.get_tensor(name)
            if name + SCALE in names:
                tensor = _dequantized(tensor, file.get_tensor(name + SCALE))
            is_table = name == "label_table.weight"
            if tensor.dtype == torch.float32:
                tensor = tensor.clone()
            elif tensor.dtype == torch.half and not is_table:
                tensor = tensor.float()
            weights[name] = tensor
    return weights


def _dequantized(numbers: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Undo int8 storage, in float16 and block by block."""
    restored = torch.empty(numbers.shape, dtype=torch.half)
    for start in range(0, len(numbers), ROWS_BLOCK):
        part = slice(start, start + ROWS_BLOCK)
        restored[part] = numbers[part] * scale[part]
    return restored.flatten(1)
