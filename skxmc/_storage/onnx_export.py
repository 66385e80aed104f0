"""Export to ONNX: a graph from tokens to the best labels, and the tokenizer beside it.

The graph is traced. So it is compared with the network on texts of other numbers and lengths, in
case the trace has fixed a number that depends on them.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from skxmc._model.defaults import torch_defaults
from skxmc._model.fitted import Model
from skxmc._model.network import MIN_SCORE, LightXMLNetwork
from skxmc._model.pooling import pool
from skxmc._model.tokens import TokenBatch, TokenStore, tokenize
from skxmc._onnx_classifier import FORMAT_VERSION, INDEX, MODEL, TOKENIZER, import_runtime
from skxmc._storage.folder import check_target
from skxmc._utils.paths import user_path
from skxmc._utils.quoting import MAX_ERROR, quoted, quoted_path, shortened
from skxmc._version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = ("float32", "int8")
OPSET = 17
# Texts to trace the graph with, and groups of texts to compare it on.
TRACED = ["a text", "another text, which is longer"]
COMPARED = (["text"], ["", "a text of some more words than the others have", "a b c"])
TOLERANCE = 1e-4


class TopLabels(nn.Module):
    """A network from padded tokens to the columns and scores of its best labels.

    Parameters
    ----------
    network : LightXMLNetwork
        Network in float32, on the CPU.
    n_clusters : int
        Number of clusters to recall.
    k : int
        Number of labels.
    cls_last : bool
        Whether [CLS] is the last token of a text.
    """

    def __init__(self, network: LightXMLNetwork, n_clusters: int, k: int, cls_last: bool) -> None:
        super().__init__()
        self.network = network
        self.n_clusters = n_clusters
        self.k = k
        self.cls_last = cls_last

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return columns (B, k) int64 and scores (B, k) float32, best first."""
        network, table = self.network, self.network.label_table
        cls_position = mask.sum(dim=1) - 1 if self.cls_last else None
        batch = TokenBatch(ids, mask, cls_position, types, is_padded=True)
        states = [self._states(encoder, batch) for encoder in network.encoders]
        recall_features, rank_features = network._head_inputs(torch.cat(states, dim=1))
        z = network.bottleneck(rank_features)
        labels_of = network.layout.labels_of
        if network.direct:
            logits, best = F.linear(z, *table.by_label()).topk(self.k, dim=1)
            return labels_of[:, 0][best], logits.sigmoid().clamp_min(MIN_SCORE)
        recall_logits, chosen = network.recall_head(recall_features).topk(self.n_clusters, dim=1)
        weight = table.by_cluster()[chosen].flatten(1, 2)  # (B, b * s, d)
        logits = (weight @ z[:, :, None])[:, :, 0] + table.bias[chosen].flatten(1)
        rank = logits.sigmoid().unflatten(1, (self.n_clusters, -1))
        scores = (rank * recall_logits.sigmoid()[:, :, None]).flatten(1).clamp_min(MIN_SCORE)
        labels = labels_of[chosen].flatten(1)
        scores, best = scores.masked_fill(labels < 0, 0.0).topk(self.k, dim=1)
        return labels.gather(1, best), scores

    def _states(self, encoder: PreTrainedModel, batch: TokenBatch) -> torch.Tensor:
        """Compute pooled states, with a mask that a trace can follow."""
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if batch.token_type_ids is not None:
            inputs["token_type_ids"] = batch.token_type_ids
        n_layers, pooling = self.network.n_feature_layers, self.network.pooling
        layers = encoder(**inputs, output_hidden_states=True).hidden_states[: -n_layers - 1 : -1]
        return pool(layers, batch, pooling)


@torch_defaults()
def export_onnx(
    model: Model,
    folder: str | os.PathLike[str],
    *,
    max_length: int,
    n_candidate_clusters: int,
    max_k: int,
    dtype: str,
    name: str,
) -> None:
    """Write a model to a folder that `skxmc.serving.OnnxClassifier` reads.

    Parameters
    ----------
    model : Model
    folder : str or path
        Folder to create, or that of an earlier export.
    max_length : int
        Maximum number of tokens per text.
    n_candidate_clusters : int
        Number of clusters to recall.
    max_k : int
        Largest number of labels per text, if there are so many in the recalled clusters.
    dtype : {"float32", "int8"}
    name : str
        Encoder in error messages.
    """
    if dtype not in DTYPES:
        raise ValueError(
            f"dtype must be one of {', '.join(map(repr, DTYPES))}, got {quoted(dtype)}."
        )
    for package in ("onnx", "onnxruntime"):
        import_runtime(package)
    target = user_path(folder)
    check_target(target, INDEX)
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(
            f"encoder={quoted_path(name)} has a tokenizer in Python, which ONNX cannot hold. Use "
            "an encoder that has a tokenizer.json."
        )
    network = copy.deepcopy(model.network).float().place_on(torch.device("cpu")).eval()
    layout = network.layout
    n_clusters = layout.n_clusters if network.direct else n_candidate_clusters
    k = min(max_k, layout.n_labels, n_clusters * layout.min_size)
    traced = tokenize(model.tokenizer, TRACED, max_length)
    # In evaluation mode as a whole, because the exporter restores the mode of the outermost module.
    top_labels = TopLabels(network, n_clusters, k, traced.cls_last).eval()
    is_numbered = np.array_equal(model.classes, np.arange(len(model.classes)))
    index = {
        "format_version": FORMAT_VERSION,
        "skxmc_version": __version__,
        "dtype": dtype,
        "n_labels": layout.n_labels,
        "classes": None if is_numbered else model.classes.tolist(),
        "max_k": k,
        "max_length": max_length,
        "truncation_side": model.tokenizer.truncation_side,
        "pad_id": traced.pad_id,
        "has_types": traced.type_ids is not None,
    }
    with TemporaryDirectory(prefix="skxmc-") as temporary:
        files = Path(temporary)
        with _not_exported(name):
            _trace(top_labels, traced, files / MODEL)
        for texts in COMPARED:
            _compare(top_labels, tokenize(model.tokenizer, texts, max_length), files / MODEL, name)
        if dtype == "int8":
            _quantize(files / MODEL)
        backend.save(str(files / TOKENIZER))
        # In ASCII, because UTF-8 cannot encode labels with lone surrogates.
        (files / INDEX).write_text(json.dumps(index, indent=1), encoding="ascii")
        shutil.copytree(files, target, dirs_exist_ok=True)


def _inputs(tokens: TokenStore) -> dict[str, torch.Tensor]:
    batch = tokens.batch(np.arange(len(tokens)))
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    return inputs


def _trace(top_labels: TopLabels, tokens: TokenStore, path: Path) -> None:
    """Write the graph, with any number of texts and tokens."""
    inputs = _inputs(tokens)
    by_text = {name: {0: "texts"} for name in ("columns", "scores")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about the trace, which is compared below
        torch.onnx.export(
            top_labels,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=["columns", "scores"],
            dynamic_axes={**{name: {0: "texts", 1: "tokens"} for name in inputs}, **by_text},
            opset_version=OPSET,
            dynamo=False,  # the other exporter needs onnxscript
        )


def _compare(top_labels: TopLabels, tokens: TokenStore, path: Path, name: str) -> None:
    """Check that the graph gives the scores of the network.

    Raises
    ------
    ValueError
        If it does not.
    """
    inputs = _inputs(tokens)
    with torch.no_grad():
        expected = top_labels(*inputs.values())[1].numpy()
    with _not_exported(name):
        arrays = {key: tensor.numpy() for key, tensor in inputs.items()}
        found = session(path).run(["scores"], arrays)[0]
        difference = np.abs(found - expected).max()
        if not difference < TOLERANCE:
            raise ValueError(f"its scores differ by {difference:.2g}")


def session(path: Path, n_threads: int = 1) -> Any:
    """Open a graph on the CPU."""
    onnxruntime = import_runtime("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 4  # errors are raised
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _not_exported(name: str) -> Iterator[None]:
    """Replace errors of tracing, which are of many kinds, by one that names the encoder."""
    try:
        yield
    except Exception as error:
        reason = shortened(" ".join(str(error).split()), MAX_ERROR)
        raise ValueError(
            f"encoder={quoted_path(name)} could not be exported to ONNX ({reason}). Use another "
            "encoder, such as BERT, RoBERTa or MiniLM, or serve the model with torch."
        ) from error


def _quantize(path: Path) -> None:
    """Quantize the linear layers of the encoder to int8. The heads stay in float32."""
    model = import_runtime("onnx").load(path)
    # Without this mark, onnxruntime logs the advice to fold constants, as the exporter has done.
    mark = model.metadata_props.add()
    mark.key, mark.value = "onnx.quant.pre_process", "onnxruntime.quant"
    quantize = import_runtime("onnxruntime.quantization").quantize_dynamic
    quantized = path.with_suffix(".int8")
    quantize(model, quantized, op_types_to_quantize=["MatMul"], per_channel=True)
    os.replace(quantized, path)
