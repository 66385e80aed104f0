"""Files of omikuji, its models as bytes, and silence for its output."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.datasets import dump_svmlight_file

from skxmc._utils.parallel import ProcessLock

# Features have at most length 1, and the spacing of float32 near 1 is 6e-8.
DECIMALS = 7


def import_omikuji() -> Any:
    """Import omikuji, or say how to install it."""
    try:
        return import_module("omikuji")
    except ImportError as error:
        raise ImportError(
            "OmikujiClassifier needs omikuji, which is not installed. Run: pip install omikuji"
        ) from error


def train_model(
    features: sp.csr_matrix, labels: sp.csr_array, settings: Any, n_threads: int, verbose: int
) -> Any:
    """Train a model of omikuji, which reads its data from a path."""
    omikuji = import_omikuji()
    with silenced(verbose), training_data(features, labels) as path:
        return omikuji.Model.train_on_data(path, settings, n_threads)


@contextmanager
def training_data(features: sp.csr_matrix, labels: sp.csr_array) -> Iterator[str]:
    """Yield a path with the data in the format of the Extreme Classification Repository.

    The path is that of a pipe, so no disk has to hold the data. Windows has no such paths, so there
    it is that of a temporary file.
    """
    if not os.path.isdir("/dev/fd"):
        with TemporaryDirectory(prefix="skxmc-") as folder:
            path = str(Path(folder) / "train.txt")
            write_training_data(path, features, labels)
            yield path
        return
    reading, writing = os.pipe()
    # The reading end is closed first, so if omikuji fails, the writer does not wait for it.
    with ThreadPoolExecutor(1) as pool, open(reading, "rb"):
        written = pool.submit(write_training_data, writing, features, labels)
        yield f"/dev/fd/{reading}"
        written.result()


def write_training_data(file: str | int, features: sp.csr_matrix, labels: sp.csr_array) -> None:
    """Write data to a path or a file descriptor, which is closed."""
    with open(file, "wb") as opened:
        # omikuji cannot read the line of a row without features, so such a row gets a stored 0.
        is_empty = np.diff(features.indptr) == 0
        places = features.indptr[:-1][is_empty]
        starts = features.indptr + np.concatenate([[0], np.cumsum(is_empty)])
        # omikuji holds the text in memory while it reads, and float32 needs no more digits.
        values = np.round(np.insert(features.data, places, 0).astype(np.float64), DECIMALS)
        features = sp.csr_matrix(
            (values, np.insert(features.indices, places, 0), starts), shape=features.shape
        )
        opened.write(f"{features.shape[0]} {features.shape[1]} {labels.shape[1]}\n".encode())
        dump_svmlight_file(features, labels, opened, multilabel=True)


def model_to_files(model: Any) -> dict[str, bytes]:
    """Return the contents of the files that omikuji saves a model to, by name."""
    with TemporaryDirectory(prefix="skxmc-") as folder:
        with silenced():
            model.save(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def model_from_files(files: dict[str, bytes]) -> Any:
    """Load the model that `model_to_files` saved."""
    omikuji = import_omikuji()
    trees = [files[f"tree{number}.cbor"] for number in range(len(files) - 1)]
    with TemporaryDirectory(prefix="skxmc-") as folder:
        for name in files:
            # The last part of a name, because that of a stranger may lead out of the folder.
            Path(folder, Path(name).name).write_bytes(files[name])
        # omikuji adds up trees in the order in which the folder lists them, and rounding depends on
        # the order. So the trees go, in their order, into the files as listed.
        listed = [name for name in os.listdir(folder) if name.startswith("tree")]
        for name, tree in zip(listed, trees, strict=True):
            Path(folder, name).write_bytes(tree)
        with silenced():
            return omikuji.Model.load(folder)


output_lock = ProcessLock()


@contextmanager
def silenced(verbose: int = 0) -> Iterator[None]:
    """Close standard output and error, to which omikuji writes from Rust, unless `verbose`."""
    # By descriptor, because Rust knows no sys.stderr and omikuji has no switch. One thread at a
    # time, or a second thread would save and restore the null device of the first.
    if verbose:
        yield
        return
    with output_lock, ExitStack() as stack:
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        for descriptor in (1, 2):
            try:
                saved = os.dup(descriptor)
            except OSError:  # closed, as in a daemon: no other file may get this number
                stack.callback(os.close, descriptor)
            else:
                stack.callback(os.close, saved)
                stack.callback(os.dup2, saved, descriptor)
            os.dup2(null, descriptor)
        yield
