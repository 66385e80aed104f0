"""What processes compare to notice that their data or parameters differ."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from skxmc._input.per_label import LabelTexts, check_label_texts
from skxmc._input.split import HeldOut
from skxmc._input.text_column import TEXTS_BLOCK
from skxmc._input.validation import Labels
from skxmc._storage.pretrained import plain_params

# Parameters that may differ: those of the process itself, and those that the first one decides.
OWN_PARAMS = ("checkpoint_dir", "device", "memory", "n_jobs", "random_state", "verbose")
# What to do if data or parameters differ.
SAME_DATA = (
    "Pass the same data to fit in all processes, in the same order. fit deals the texts out by "
    "itself."
)
SAME_PARAMS = "Set the same parameters in all processes."


def describe_data(
    texts: Sequence[str],
    labels: Labels,
    weights: np.ndarray | None,
    label_texts: LabelTexts | None,
    held_out: HeldOut | None,
) -> dict[str, int]:
    """Compute numbers that tell data apart, also those that differ in their order only.

    Parameters
    ----------
    texts : sequence of str
        Texts, which are read block by block.
    labels : Labels
    weights : ndarray of shape (n_texts,) or None
    label_texts : array-like of shape (n_labels,), Series, dict or None
        See `LightXMLClassifier.fit`.
    held_out : tuple (texts, Labels) or None
        The validation data.

    Returns
    -------
    dict
        Counts, whose names begin with ``n_``, and digests of 64 bits of the arguments of `fit`.
    """
    matrix, classes = labels.matrix, [str(label) for label in labels.classes.tolist()]
    about: list[str] = []
    if label_texts is not None:
        about = check_label_texts(label_texts, labels.classes, len(texts))
    validation: list[np.ndarray | bytes] = []
    if held_out is not None:
        true = held_out[1].matrix
        validation = [*_parts_of(held_out[0]), true.indptr, true.indices]
    return {
        "n_texts": len(texts),
        "n_labels": len(classes),
        "n_labels_of_texts": matrix.nnz,
        "X": _digest(_parts_of(texts)),
        "y": _digest([matrix.indptr, matrix.indices, *_parts_of(classes)]),
        "sample_weight": _digest([] if weights is None else [weights]),
        "label_texts": _digest(_parts_of(about)),
        "validation_data": _digest(validation),
    }


def describe_params(params: Mapping[str, Any]) -> dict[str, int]:
    """Compute a digest of 64 bits of each parameter that must be the same in all processes.

    A folder of an encoder may lie elsewhere on another machine, so its path does not count. Nor
    does the order of a dict, which may come from a set of `str`.

    Parameters
    ----------
    params : dict
        Parameters of the estimator, from ``get_params(deep=False)``.
    """
    plain = plain_params(
        {
            name: sorted(value.items(), key=str) if isinstance(value, dict) else value
            for name, value in params.items()
            if name not in OWN_PARAMS
        }
    )
    if os.path.isdir(plain["encoder"]):
        plain["encoder"] = "folder"
    return {name: _digest([json.dumps(value).encode()]) for name, value in plain.items()}


def _digest(parts: Iterable[np.ndarray | bytes]) -> int:
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        found.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return int.from_bytes(found.digest(), "little", signed=True)


def _parts_of(texts: Sequence[str]) -> Iterator[np.ndarray | bytes]:
    """Yield lengths and characters of the texts of each block."""
    for start in range(0, len(texts), TEXTS_BLOCK):
        block = texts[start : start + TEXTS_BLOCK]
        yield np.fromiter(map(len, block), np.int64)
        for text in block:
            yield text.encode("utf-8", "surrogatepass")
