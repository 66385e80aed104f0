"""Folders of fitted estimators: JSON, safetensors and tokenizer files, without pickle."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sklearn.utils.validation import check_is_fitted

from skxmc._storage.folder import locked, read_index, replace_content, verified_content
from skxmc._storage.model_card import fitted_parts
from skxmc._storage.plain import DESCRIPTION, PlainReader, PlainWriter, class_named
from skxmc._utils.paths import user_path
from skxmc._utils.quoting import quoted
from skxmc._version import __version__

INDEX = "skxmc.json"
# Format 3 is that of a classifier with a format of its own, format 4 that of any estimator.
OWN_FORMAT, FORMAT_VERSION = 3, 4
OF_FORMAT_1 = ("weights.safetensors", "encoder", "tokenizer")
DTYPES = ("float32", "float16", "int8")
# The class of folders that name none.
CLASSIFIER = "LightXMLClassifier"


def save_pretrained(estimator: Any, folder: str | os.PathLike[str], dtype: str = "float32") -> None:
    """Save a fitted estimator in a folder of JSON, safetensors and tokenizer files, without pickle.

    Estimators of this package have it as a method. The function also takes pipelines of them. If
    the labels of a model are in parts, call it in all processes: see :doc:`/guide/distributed`.

    Read more in the user guide: :doc:`/guide/saving_and_serving`.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator of this package, or a ``Pipeline``. Estimators inside may be of this
        package, or a ``FrozenEstimator``, ``Pipeline``, ``FeatureUnion``, ``CountVectorizer``,
        ``TfidfVectorizer``, ``Normalizer``, ``PCA`` or ``TruncatedSVD``.
    folder : str or path
        Folder to create. A model that is there already is replaced as a whole.
    dtype : {"float32", "float16", "int8"}, default="float32"
        Type of the weights of each `LightXMLClassifier` in the file, see its `save_pretrained`.

    Raises
    ------
    ValueError
        If `folder` holds something else, or if the weights do not fit `dtype`.
    TypeError
        If the estimator holds something that needs pickle, such as a function.
    NotFittedError
        If the estimator is not fitted.
    OSError
        If the disk is full or the folder cannot be written. A model that was there stays.
    RuntimeError
        If labels are in parts, and another process fails or does not call it.

    Examples
    --------
    See `skxmc.from_pretrained`.
    """
    check_is_fitted(estimator)
    if dtype not in DTYPES:
        raise ValueError(
            f"dtype must be one of {', '.join(map(repr, DTYPES))}, got {quoted(dtype)}."
        )
    has_own_format = hasattr(type(estimator), "_write_files")

    def write(content: Path) -> None:
        if has_own_format:
            estimator._write_files(content, dtype)
            return
        described = PlainWriter(content, dtype).write(estimator)
        # In ASCII, because UTF-8 cannot encode labels with lone surrogates.
        (content / DESCRIPTION).write_text(json.dumps(described), encoding="ascii")

    def replace() -> None:
        version = OWN_FORMAT if has_own_format else FORMAT_VERSION
        description = {"format_version": version, "skxmc_version": __version__}
        replace_content(user_path(folder), INDEX, description, write, obsolete=OF_FORMAT_1)

    in_parts = [network for network in networks_in(estimator) if network.in_parts]
    if not in_parts:
        replace()
        return
    with in_parts[0].together(f"save_pretrained with dtype={dtype}") as processes:
        if processes.rank == 0:
            replace()
        else:  # sends its labels to the first
            with TemporaryDirectory(prefix="skxmc-") as unread:
                write(Path(unread))
        processes.wait_for_all()


def networks_in(estimator: Any) -> list[Any]:
    """Return the networks of an estimator and of all fitted ones inside."""
    return [part.network_ for part in fitted_parts(estimator) if hasattr(part, "network_")]


def load_estimator(
    folder: str | os.PathLike[str], cls: type | None = None, replaced: dict[str, Any] | None = None
) -> Any:
    """Load an estimator, of the class `cls` if it is given.

    Parameters
    ----------
    folder : str or path
    cls : type, default=None
        The class that the folder must hold, or a subclass with a format of its own.
    replaced : dict, default=None
        Parameters that replace those of the estimator, and of all inside that have them.
    """
    replaced = replaced or {}
    with open_model(user_path(folder)) as (description, content):
        name = description.get("class", CLASSIFIER)
        if cls is not None and name not in {base.__name__ for base in cls.__mro__}:
            raise ValueError(
                f"{str(folder)!r} holds {quoted(name)}, not {cls.__name__}. Load it with "
                "skxmc.from_pretrained, which loads any class."
            )
        if "class" not in description:
            kind: Any = cls or class_named(name)
            return kind._read_files(content, description).set_params(**replaced)
        return PlainReader(content, replaced).read(description)


@contextlib.contextmanager
def open_model(folder: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Verify a saved model, and yield its description and the folder of its content.

    A lock keeps other processes from replacing the model until the context ends.

    Raises
    ------
    ValueError
        If `folder` is not a saved model, or if the model is damaged or in a newer format.
    """
    if not (folder / INDEX).is_file():
        raise ValueError(
            f"{str(folder)!r} is not a saved model: it has no {INDEX}. Give a folder that "
            "save_pretrained has written."
        )
    with locked(folder, to_write=False):
        yield _read_description(folder)


def _read_description(folder: Path) -> tuple[dict[str, Any], Path]:
    index = read_index(folder, INDEX)
    version = index.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ValueError(
            f"{str(folder)!r} was written by skxmc {index.get('skxmc_version')}, in a format "
            "newer than this version reads. Install that version or a later one."
        )
    if version == 1 and "checksum" not in index:
        # Format 1 had no checksums, and its index held the description.
        return index, folder
    content = verified_content(folder, INDEX)
    description = json.loads((content / DESCRIPTION).read_text(encoding="utf-8"))
    return {**description, "skxmc_version": index["skxmc_version"]}, content
