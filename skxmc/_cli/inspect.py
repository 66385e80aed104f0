"""``skxmc inspect``: describes a table, a data folder or a model folder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch

from skxmc._classifier import LightXMLClassifier
from skxmc._cli.data import is_table, load_data
from skxmc._cli.report import PARAMETERS, distribution, folder_size, print_json, print_lines
from skxmc._clusterer import BalancedLabelClusterer, count_clusters, largest_cluster
from skxmc._model.encoder import load_encoder
from skxmc._model.tokens import ANY_LENGTH, TOKENIZER_BLOCK, tokenize
from skxmc._storage.estimators import CLASSIFIER, INDEX, open_model
from skxmc._storage.plain import DESCRIPTION, PlainReader, class_named
from skxmc._storage.pretrained import ENCODER, WEIGHTS, open_weights, value_from_plain
from skxmc._training.settings import auto_epochs
from skxmc._utils.paths import user_path
from skxmc.datasets._xmc import layout_of

# Dtypes of save_pretrained by their names in safetensors.
DTYPES = {"F32": "float32", "F16": "float16", "I8": "int8"}


def run(args: argparse.Namespace) -> None:
    """Describe the model in a folder, or its data if it holds no model."""
    folder = user_path(args.data)
    if (folder / INDEX).is_file():
        report = describe_model(folder)
    else:
        tokenizer = None if args.encoder is None else load_encoder(args.encoder).tokenizer
        layout = "table" if is_table(args.data) else layout_of(folder)
        data = load_data(args)
        report = {"kind": "data", "layout": layout} | describe_data(data, tokenizer)
    (print_json if args.json else print_lines)(report)


# ---------------------------------------------------------------------- data


def describe_data(data: Bunch, tokenizer: Any = None) -> dict[str, Any]:
    """Compute statistics of both parts that matter for training."""
    texts_a_label = np.bincount(data.y_train.indices, minlength=len(data.label_names))
    report = {
        "labels": len(data.label_names),
        "first_labels": list(data.label_names[:3]),
        "labels_without_training_text": int((texts_a_label == 0).sum()),
        "training_texts_a_label": distribution(texts_a_label),
        "training": _describe_part(data.X_train, data.y_train, 0, tokenizer),
        "test": None,
    }
    if data.X_test is not None:
        known = set(data.X_train)
        report["test"] = {
            **_describe_part(data.X_test, data.y_test, data.n_unknown_test, tokenizer),
            "texts_that_are_in_training": sum(text in known for text in data.X_test),
            "true_labels_unknown_in_training": int(data.n_unknown_test.sum()),
        }
    report["LightXMLClassifier_would_choose"] = choices(*data.y_train.shape)
    return report


def choices(n_texts: int, n_labels: int) -> dict[str, Any] | None:
    """Return the values of parameters that are "auto", or None if there is nothing to learn."""
    if not (n_texts and n_labels):
        return None
    size = largest_cluster(BalancedLabelClusterer().max_cluster_size, n_labels)
    return {
        "mode": mode_of(count_clusters(size, n_labels), n_labels),
        "clusters": count_clusters(size, n_labels),
        "max_epochs": auto_epochs(n_texts),
    }


def mode_of(n_clusters: int, n_labels: int) -> str:
    """Name the mode, which is direct if each cluster has one label."""
    return "direct" if n_clusters == n_labels else "two-stage"


def _describe_part(
    texts: list[str], y: sparse.csr_array, n_unknown: Any, tokenizer: Any
) -> dict[str, Any]:
    labels_a_text = np.diff(y.indptr) + n_unknown
    report = {
        "texts": len(texts),
        "empty_texts": sum(not text.strip() for text in texts),
        "repeated_texts": len(texts) - len(set(texts)),
        "texts_without_label": int((labels_a_text == 0).sum()),
        "labels_a_text": distribution(labels_a_text),
        "words_a_text": distribution([len(text.split()) for text in texts]),
    }
    if tokenizer is not None:
        lengths = [
            tokenize(tokenizer, texts[start : start + TOKENIZER_BLOCK], ANY_LENGTH).lengths
            for start in range(0, len(texts), TOKENIZER_BLOCK)
        ]
        report["tokens_a_text"] = distribution(np.concatenate([[], *lengths]).astype(int))
    return report


# ---------------------------------------------------------------------- models


def describe_model(folder: Path) -> dict[str, Any]:
    """Describe a model and check that no file is damaged, without loading its weights."""
    with open_model(folder) as (description, content):
        describe = describe_tree if "class" in description else describe_classifier
        report = describe(description, content)
    return {
        "kind": "model",
        "skxmc_version": description["skxmc_version"],
        "all_files_bytes": folder_size(folder),
        **report,
    }


def describe_classifier(description: dict[str, Any], content: Path) -> dict[str, Any]:
    """Describe a LightXMLClassifier whose files are in the folder `content`."""
    config = json.loads((content / ENCODER / "config.json").read_text(encoding="utf-8"))
    with open_weights(content) as weights:
        n_labels = weights.get_slice("clusters").get_shape()[0]
        is_old = "label_table.weight" not in set(weights.keys())
        table = "recall_head.weight" if is_old else "label_table.weight"
        dtype = weights.get_slice(table).get_dtype()
    n_clusters = description["clusterer"]["fitted"]["n_clusters_"]
    classes = description["classes"]
    return {
        "class": CLASSIFIER,
        "encoder": description["params"]["encoder"],
        "encoder_type": config["model_type"],
        "labels": n_labels,
        "first_labels": list(range(min(3, n_labels))) if classes is None else classes[:3],
        "mode": mode_of(n_clusters, n_labels),
        "clusters": n_clusters,
        "weights": DTYPES.get(dtype, dtype),
        "weights_bytes": (content / WEIGHTS).stat().st_size,
        PARAMETERS: changed_params(description["params"]),
        "history": description["history"],
    }


def describe_tree(description: dict[str, Any], content: Path) -> dict[str, Any]:
    """Describe an estimator of any other class, and those inside, as `PlainWriter` wrote them."""
    report: dict[str, Any] = {"class": description["class"]}
    if "classes_" in description["fitted"]:
        classes = PlainReader(content, {}).read(description["fitted"]["classes_"])
        report |= {"labels": len(classes), "first_labels": classes[:3].tolist()}
    found = {node["place"]: node for node in _estimators_in(description)}
    return report | _describe_node(description, found, content)


def _describe_node(
    node: dict[str, Any], found: dict[str, dict[str, Any]], content: Path
) -> dict[str, Any]:
    node = found[node["same"]] if "same" in node else node
    if node["class"] == "FrozenEstimator":
        return _describe_node(node["params"]["estimator"], found, content)
    if "params" not in node:
        folder = content / node["place"]
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return describe_classifier(description, folder)
    defaults = signature(class_named(node["class"])).parameters
    report = {
        "class": node["class"],
        PARAMETERS: {
            name: value
            for name, value in node["params"].items()
            if not isinstance(value, dict | list) and value != defaults[name].default
        },
    }
    fitted = node["fitted"]
    inside = {"estimator": fitted["estimator_"]} if "estimator_" in fitted else {}
    if "named_estimators_" in fitted:
        named = fitted["named_estimators_"]["dict"]
        inside = {name: member for name, member in named.items() if member != "drop"}
    if inside:
        members = {name: _describe_node(part, found, content) for name, part in inside.items()}
        report["members"] = members
    return report


def _estimators_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the descriptions of all estimators in a tree."""
    if isinstance(value, dict):
        if isinstance(value.get("place"), str):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _estimators_in(part)


def changed_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters that differ from their defaults. In JSON, --param takes them."""
    defaults = LightXMLClassifier().get_params()
    clusterer_defaults = BalancedLabelClusterer().get_params()
    changed: dict[str, Any] = {}
    for name, value in params.items():
        if name == "clusterer" and value is not None:
            changed |= {
                f"clusterer__{inner}": inner_value
                for inner, inner_value in value.items()
                if inner_value != clusterer_defaults[inner]
            }
        elif name != "encoder" and value != defaults[name]:
            changed[name] = value_from_plain(value)
    return changed
