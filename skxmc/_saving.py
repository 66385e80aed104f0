"""Models as folders: JSON, safetensors, and the files of tokenizer and encoder. No pickle."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from sklearn.base import BaseEstimator

from ._clusterer import BalancedLabelClusterer
from ._network import LightXMLNetwork
from ._persistence import build_network

FORMAT_VERSION = 1
DESCRIPTION = "skxmc.json"
WEIGHTS = "weights.safetensors"
ENCODER, TOKENIZER = "encoder", "tokenizer"
# The scale of a row that is stored as int8 is stored under the name of its matrix and this.
SCALE = "/scale"
# Rows of a matrix that are converted at once.
ROWS_AT_ONCE = 64
DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}


def save_model(clf: Any, folder: str | os.PathLike[str], dtype: str) -> None:
    """Write a fitted classifier to `folder`, which is there as a whole or not at all."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, got {dtype!r}.")
    target = Path(folder)
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as aside:
        written = Path(aside) / "new"
        written.mkdir()
        _write(clf, written, dtype)
        if target.exists():
            os.replace(target, Path(aside) / "old")
        os.replace(written, target)


def check_target(folder: Path) -> None:
    """Refuse a folder that is there and holds something else than a saved model."""
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        is_empty = folder.is_dir() and not any(folder.iterdir())
        if not is_empty:
            raise ValueError(
                f"{str(folder)!r} is there already and is no saved model; it is left alone. "
                "Give a new folder."
            )


def read_description(source: Path) -> dict[str, Any]:
    """Read all of a saved model that is in JSON: parameters, labels, history."""
    if not (source / DESCRIPTION).is_file():
        raise ValueError(
            f"{str(source)!r} is no saved model: it has no {DESCRIPTION}. Give a folder that "
            "save_pretrained has written."
        )
    try:
        description = json.loads((source / DESCRIPTION).read_text(encoding="utf-8"))
        is_newer = description["format_version"] > FORMAT_VERSION
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(_damaged(source / DESCRIPTION, error)) from error
    if is_newer:
        raise ValueError(
            f"{str(source)!r} was written by skxmc {description['skxmc_version']}, in a format "
            "newer than this version reads. Install that version or a later one."
        )
    return cast("dict[str, Any]", description)


@contextlib.contextmanager
def open_weights(source: Path) -> Iterator[Any]:
    """Open the tensors of a saved model, none of which is read yet."""
    try:
        with safe_open(source / WEIGHTS, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(_damaged(source / WEIGHTS, error)) from error


def _damaged(file: Path, error: Exception) -> str:
    return f"{str(file)!r} is damaged ({error!r}). Copy it again, or save the model again."


def load_model(cls: type, folder: str | os.PathLike[str]) -> Any:
    """Read a classifier that `save_model` wrote, onto the CPU."""
    from transformers import AutoConfig, AutoTokenizer

    source = Path(folder)
    description = read_description(source)
    weights = _read_weights(source)
    clusterer = BalancedLabelClusterer(**description["clusterer"]["params"])
    clusterer.labels_ = weights.pop("clusters").numpy().astype(np.int64)
    for name, value in description["clusterer"]["fitted"].items():
        setattr(clusterer, name, value)
    params = description["params"]
    if params["clusterer"] is not None:
        params["clusterer"] = BalancedLabelClusterer(**params["clusterer"])
    clf = cls(**params)
    clf.tokenizer_ = AutoTokenizer.from_pretrained(
        source / TOKENIZER, trust_remote_code=False, local_files_only=True
    )
    config = AutoConfig.from_pretrained(
        source / ENCODER, trust_remote_code=False, local_files_only=True
    )
    clf.network_ = build_network(config, clusterer.labels_, description["network"], weights)
    clf.clusterer_ = clusterer
    classes = description["classes"]
    clf.n_labels_ = len(clusterer.labels_)
    clf.classes_ = np.arange(clf.n_labels_) if classes is None else np.asarray(classes)
    clf.history_ = description["history"]
    clf.n_iter_ = len(clf.history_)
    return clf


def _write(clf: Any, folder: Path, dtype: str) -> None:
    from . import __version__

    fitted = {name: int(getattr(clf.clusterer_, name)) for name in ("n_clusters_", "n_iter_")}
    is_numbered = np.array_equal(clf.classes_, np.arange(clf.n_labels_))
    description = {
        "format_version": FORMAT_VERSION,
        "skxmc_version": __version__,
        "params": _plain_params(clf),
        "network": clf.network_.settings,
        "clusterer": {"params": _plain_params(clf.clusterer_), "fitted": fitted},
        "classes": None if is_numbered else clf.classes_.tolist(),
        "history": clf.history_,
    }
    text = json.dumps(description, ensure_ascii=False, indent=1)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    clf.network_.encoder.config.save_pretrained(folder / ENCODER)
    clf.tokenizer_.save_pretrained(folder / TOKENIZER)
    tensors = {"clusters": torch.from_numpy(clf.clusterer_.labels_.astype(np.int32))}
    for name, tensor in clf.network_.state_dict().items():
        tensors |= _stored(name, tensor.detach().cpu(), DTYPES[dtype], clf.network_)
    save_file(tensors, folder / WEIGHTS)


def _plain_params(estimator: BaseEstimator) -> dict[str, Any]:
    """Parameters that JSON knows; generators and caches, which belong to a process, become None."""
    params = {}
    for name, value in estimator.get_params(deep=False).items():
        if isinstance(value, BaseEstimator):
            value = _plain_params(value)
        elif isinstance(value, np.generic):
            value = value.item()
        is_plain = value is None or isinstance(value, str | int | float | dict)
        params[name] = value if is_plain else None
    return params


def _stored(
    name: str, tensor: torch.Tensor, dtype: torch.dtype, network: LightXMLNetwork
) -> dict[str, torch.Tensor]:
    """A tensor as it is written: with int8, the matrices of the heads, one scale for each label."""
    if not tensor.is_floating_point():
        return {name: tensor.contiguous()}
    if dtype == torch.int8 and name in ("label_table.weight", "recall_head.weight"):
        dim = network.label_table.dim if name.startswith("label_table") else tensor.shape[1]
        rows = tensor.unflatten(1, (-1, dim))
        numbers = torch.empty(rows.shape, dtype=torch.int8)
        scale = torch.empty(*rows.shape[:2], 1)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            largest = rows[part].float().abs().amax(dim=2, keepdim=True)
            scale[part] = largest.clamp_min(torch.finfo(torch.float32).tiny) / 127
            numbers[part] = (rows[part] / scale[part]).round()
        return {name: numbers, name + SCALE: scale}
    stored = tensor.to(torch.float32 if dtype == torch.float32 else torch.float16).contiguous()
    if not stored.isfinite().all():
        raise ValueError(
            f"The weights {name!r} do not fit float16; save with dtype='float32'. Were they finite?"
        )
    return {name: stored}


def _read_weights(source: Path) -> dict[str, torch.Tensor]:
    """All tensors as they were before `_stored`, as float32.

    Label embeddings stay in half precision unless they are float32 in the file: most of a large
    model is they, and they are only looked up.
    """
    weights = {}
    with open_weights(source) as file:
        names = set(file.keys())
        for name in sorted(names):
            if name.endswith(SCALE):
                continue
            tensor = file.get_tensor(name)
            if name + SCALE in names:
                tensor = _dequantized(tensor, file.get_tensor(name + SCALE))
            is_table = name == "label_table.weight"
            weights[name] = (
                tensor.float() if tensor.dtype == torch.half and not is_table else tensor
            )
    return weights


def _dequantized(numbers: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Undo int8 storage, in float16, a part at a time."""
    restored = torch.empty(numbers.shape, dtype=torch.half)
    for start in range(0, len(numbers), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        restored[part] = numbers[part] * scale[part]
    return restored.flatten(1)
