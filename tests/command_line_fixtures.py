"""A tiny data folder, the arguments to train on it, and functions that run the command."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from classifier_fixtures import encoder_path, make_classifier
from dataset_files import lines, write, write_npz

from skxmc._cli import main
from skxmc.datasets import make_xmc

N_LABELS = 30
# The same parameters as in `make_classifier()`.
PARAMS = [
    "max_length=32",
    "n_feature_layers=2",
    "dropout=0.1",
    "clusterer__max_cluster_size=4",
    "bottleneck_dim=8",
    "max_epochs=2",
    "batch_size=16",
    "learning_rate=1e-3",
    "head_learning_rate=1e-2",
    "precision=fp32",
    "device=cpu",
    "random_state=0",
]


def write_data(folder: Path) -> Path:
    """Write 64 training and 32 test texts with named labels, in the layout of PECOS."""
    texts, y = make_xmc(96, N_LABELS, n_labels_per_sample=2, n_noise_words=2, random_state=0)
    folder.mkdir(exist_ok=True)
    write(folder / "X.trn.txt", lines(texts[:64]))
    write(folder / "X.tst.txt", lines(texts[64:]))
    write_npz(folder / "Y.trn.npz", y[:64].toarray())
    write_npz(folder / "Y.tst.npz", y[64:].toarray())
    write(folder / "output-items.txt", lines(names()))
    return folder


def names() -> list[str]:
    return [f"état {column}" for column in range(N_LABELS)]


def train_arguments(data: Any, model: Any, *more: str, language_only: bool = True) -> list[str]:
    arguments = ["train", str(data), "--model", str(model), "--encoder", encoder_path()]
    arguments += ["--language-only"] * language_only
    return [*arguments, *more, "--param", *PARAMS]


def same_classifier(mode: str = "two-stage", **params: Any) -> Any:
    """Make the unfitted classifier that `train_arguments` trains."""
    return make_classifier(mode, **params)


def run_main(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """Run the command in this process. Return exit code, standard output and error."""
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, *capsys.readouterr()


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Put `content` on standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


@contextlib.contextmanager
def process(*arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """Run the command in its own process, with piped streams, and kill it if it hangs.

    Its output is buffered, and its locale has no Unicode.
    """
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    environment.pop("PYTHONUNBUFFERED", None)
    with subprocess.Popen(
        [sys.executable, "-m", "skxmc", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    ) as started:
        timer = threading.Timer(600, started.kill)
        timer.start()
        try:
            yield started
        finally:
            timer.cancel()
            started.kill()
