"""Estimators as plain values for JSON, arrays and files, and back, without pickle and torch.

Values that JSON lacks are dicts with one key: ``{"tuple": [...]}``, ``{"dict": {...}}``,
``{"items": [...]}`` of a dict, ``{"array": name}`` in the safetensors file,
``{"transposed": array}``, ``{"csr": [...]}``, ``{"growing": array}``, ``{"exact": array}``,
``{"approximate": dict}``, ``{"objects": [...]}``, ``{"file": name}``, ``{"dtype": name}`` and
``{"same": place}``.

An estimator is a dict with its ``class``, its ``place`` in the tree, its ``params`` and what was
``fitted``. If its class has a format of its own, params and fitted values are in the folder of this
place instead.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import scipy.sparse as sp
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.base import BaseEstimator

from skxmc._input.per_label import plain_column
from skxmc._nearest.approximate import ApproximateKeys
from skxmc._nearest.exact import ExactKeys, GrowingArray
from skxmc._storage.folder import damaged
from skxmc._utils.quoting import quoted

DESCRIPTION = "model.json"
ARRAYS = "arrays.safetensors"
# The classes that folders may name, and the modules that hold them.
CLASSES = {
    **dict.fromkeys(
        [
            "BalancedLabelClusterer",
            "CalibratedClassifier",
            "HierarchicalClassifier",
            "LightXMLClassifier",
            "LightXMLEnsemble",
            "NeighborsClassifier",
            "OmikujiClassifier",
            "PropensityRanker",
            "TextEncoder",
            "TunedThresholdClassifier",
        ],
        "skxmc",
    ),
    "FrozenEstimator": "sklearn.frozen",
    "Pipeline": "sklearn.pipeline",
    "FeatureUnion": "sklearn.pipeline",
    "CountVectorizer": "sklearn.feature_extraction.text",
    "TfidfTransformer": "sklearn.feature_extraction.text",
    "TfidfVectorizer": "sklearn.feature_extraction.text",
    "Normalizer": "sklearn.preprocessing",
    "PCA": "sklearn.decomposition",
    "TruncatedSVD": "sklearn.decomposition",
}
# Parameters of these types have no effect on predictions. They are saved as None.
DROPPED = (np.random.RandomState, np.random.Generator, joblib.Memory)


def class_named(name: object) -> Any:
    """Return the class of this name.

    Raises
    ------
    ValueError
        If the name is none of `CLASSES`.
    """
    if not isinstance(name, str) or name not in CLASSES:
        raise ValueError(
            f"The model holds {quoted(name)}, which is no class that this version of skxmc loads. "
            "Install a later version if that wrote the model. Otherwise, do not trust the model."
        )
    return getattr(import_module(CLASSES[name]), name)


class PlainWriter:
    """Writes one estimator, and what it holds, to a folder.

    Parameters
    ----------
    content : Path
        The folder.
    dtype : str
        Type of the weights of estimators whose classes have a format of their own.
    """

    def __init__(self, content: Path, dtype: str) -> None:
        self.content = content
        self.dtype = dtype
        self._arrays: dict[str, np.ndarray] = {}
        self._places: dict[int, str] = {}  # of estimators, by their identity

    def write(self, estimator: BaseEstimator) -> dict[str, Any]:
        """Write arrays and files, and return the rest as values for JSON."""
        described = self._estimator(estimator, "")
        path = self.content / ARRAYS
        try:
            save_file(self._arrays, path)
        except SafetensorError as error:
            raise OSError(f"{str(path)!r} could not be written: {error}") from error
        return described

    def _estimator(self, estimator: BaseEstimator, place: str) -> dict[str, Any]:
        if id(estimator) in self._places:
            return {"same": self._places[id(estimator)]}
        self._places[id(estimator)] = place
        kind = type(estimator)
        if kind.__name__ not in CLASSES or class_named(kind.__name__) is not kind:
            raise _not_plain(f"an estimator of the class {kind.__name__}", place)
        described = {"class": kind.__name__, "place": place}
        if hasattr(kind, "_write_files") and estimator.__sklearn_is_fitted__():
            folder = self.content / place
            folder.mkdir(parents=True, exist_ok=True)
            estimator._write_files(folder, self.dtype)
            return described
        state = dict(estimator.__getstate__())
        state.pop("_skl_callbacks", None)  # they belong to fits, and need pickle
        params = {name: state.pop(name) for name in estimator.get_params(deep=False)}
        for part, values in (("params", params), ("fitted", state)):
            described[part] = {
                name: self._value(value, f"{place}/{name}" if place else name)
                for name, value in values.items()
            }
        return described

    def _value(self, value: Any, place: str) -> Any:
        value = plain_column(value)
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, DROPPED):
            return None
        if isinstance(value, list | tuple):
            items = [self._value(item, f"{place}/{i}") for i, item in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {k: self._value(item, f"{place}/{k}") for k, item in value.items()}}
        if isinstance(value, dict):  # with keys of other types, such as labels
            return {"items": self._value(list(value.items()), place)}
        if sp.issparse(value):
            csr = sp.csr_array(value)
            return {"csr": self._value([csr.data, csr.indices, csr.indptr, csr.shape], place)}
        if isinstance(value, bytes):
            path = self.content / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value)
            return {"file": place}
        if isinstance(value, np.ndarray) and value.dtype.kind in "buif":
            if value.flags.fnc:  # keep the order in memory, on which rounding depends
                return {"transposed": self._value(value.T, place)}
            self._arrays[place] = np.ascontiguousarray(value)
            return {"array": place}
        if isinstance(value, np.ndarray) and value.ndim == 1:
            return {"objects": self._value(value.tolist(), place)}
        if isinstance(value, ApproximateKeys):
            return {"approximate": self._value(value.__getstate__(), place)}
        if isinstance(value, ExactKeys):
            return {"exact": self._value(value.values, place)}
        if isinstance(value, GrowingArray):
            return {"growing": self._value(value.values, place)}
        if isinstance(value, type) and issubclass(value, np.generic):
            return {"dtype": np.dtype(value).name}
        if isinstance(value, BaseEstimator):
            return self._estimator(value, place)
        raise _not_plain(quoted(value), place)


class PlainReader:
    """Reads what `PlainWriter` wrote.

    Parameters
    ----------
    content : Path
        The folder, whose files have been verified.
    replaced : dict
        Parameters that replace those of all estimators that have them.
    """

    def __init__(self, content: Path, replaced: dict[str, Any]) -> None:
        self.content = content
        self.replaced = replaced
        # Files are found by name, because the name of a stranger may lead out of the folder.
        self._files = {path.relative_to(content).as_posix(): path for path in content.rglob("*")}
        self._estimators: dict[str, Any] = {}

    def read(self, described: Any) -> Any:
        """Make the estimator that `PlainWriter.write` described, or a value inside.

        Raises
        ------
        ValueError
            If a class is none of `CLASSES`, or if something is missing.
        """
        try:
            with safe_open(self.content / ARRAYS, framework="np") as self._arrays:
                return self._value(described)
        except (KeyError, SafetensorError) as error:
            reason = f"it names {error}, which is missing"
            raise damaged(self.content / DESCRIPTION, reason) from error

    def _value(self, value: Any) -> Any:
        match value:
            case list():
                return [self._value(item) for item in value]
            case {"class": _}:
                return self._estimator(value)
            case {"same": place}:
                return self._estimators[place]
            case {"tuple": items}:
                return tuple(self._value(items))
            case {"dict": items}:
                return {key: self._value(item) for key, item in items.items()}
            case {"items": items}:
                return dict(self._value(items))
            case {"csr": parts}:
                *arrays, shape = self._value(parts)
                return sp.csr_array(tuple(arrays), shape=shape)
            case {"file": name}:
                return self._files[name].read_bytes()
            case {"array": name}:
                return self._arrays.get_tensor(name)
            case {"transposed": array}:
                return self._value(array).T
            case {"objects": items}:
                return np.array(items, dtype=object)
            case {"growing": array}:
                return GrowingArray(self._value(array))
            case {"exact": array}:
                return ExactKeys(self._value(array))
            case {"approximate": state}:
                keys = ApproximateKeys.__new__(ApproximateKeys)
                keys.__setstate__(self._value(state))
                return keys
            case {"dtype": name}:
                return np.dtype(name).type
        return value

    def _estimator(self, described: dict[str, Any]) -> Any:
        kind, place = class_named(described["class"]), described["place"]
        if "params" in described:
            estimator = kind(**{k: self._value(v) for k, v in described["params"].items()})
            fitted = {name: self._value(value) for name, value in described["fitted"].items()}
            if fitted:
                estimator.__setstate__(fitted)
        else:
            estimator = kind._read_files(self._files[place])
        known = estimator.get_params(deep=False)
        estimator.set_params(**{k: value for k, value in self.replaced.items() if k in known})
        self._estimators[place] = estimator
        return estimator


def _not_plain(what: str, place: str) -> TypeError:
    return TypeError(
        f"{place or 'The model'} is {what}, which a folder without pickle cannot hold. Use "
        "joblib.dump instead."
    )
