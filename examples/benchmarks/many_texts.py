"""Measure memory and time of a fit on texts that lie on the disk, phase by phase.

    python examples/benchmarks/many_texts.py [--texts 5000000] [--labels 100000] [--folder FOLDER]

The script needs Linux and the extras [demo] and [table]. It writes texts to an Arrow file. Another
process maps this file into memory, clusters the labels and trains some steps. Peaks are those of
each phase. They include pages of mapped files, which the system may take back.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse as sp
from _common import MINILM

# Texts generated at once, size of the vocabulary, words per text that its labels decide, and words
# that belong to a label.
BLOCK, VOCABULARY, TOPIC_WORDS, LABEL_WORDS = 50_000, 200_000, 20, 12
# Exponent of the Zipf distribution of words. A label is drawn as this power of a random number.
WORD_EXPONENT, LABEL_POWER = 1.0, 1.5


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=5_000_000)
    parser.add_argument("--words", type=int, default=50, help="per text")
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--labels-per-text", type=int, default=3)
    parser.add_argument("--head-init", default="centroids", help="centroids, priors or random")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--folder", help="of texts and tokens, default: a temporary one")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.step:
        STEPS[arguments.step](arguments)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for step in STEPS:
            run_apart(arguments, step, folder)


def run_apart(arguments: argparse.Namespace, step: str, folder: str) -> None:
    """Run a step in a process of its own."""
    command = [sys.executable, __file__]
    for name, value in {**vars(arguments), "step": step, "folder": folder}.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    subprocess.run(command, check=True)


def generate(arguments: argparse.Namespace) -> None:
    """Write texts to an Arrow file, and labels to files of NumPy."""
    import pyarrow as pa

    rng = np.random.default_rng(0)
    vocabulary = make_vocabulary()
    shares = np.cumsum(np.arange(1, VOCABULARY + 1) ** -WORD_EXPONENT)
    folder, labels = Path(arguments.folder), []
    schema = pa.schema({"text": pa.string()})
    with pa.ipc.new_file(str(folder / "texts.arrow"), schema) as file:
        for start in range(0, arguments.texts, BLOCK):
            n_texts = min(BLOCK, arguments.texts - start)
            drawn = rng.random((n_texts, arguments.labels_per_text)) ** LABEL_POWER
            of_texts = (drawn * arguments.labels).astype(np.int64)
            words = np.searchsorted(shares, rng.random((n_texts, arguments.words)) * shares[-1])
            topics = rng.choice(arguments.labels_per_text, (n_texts, TOPIC_WORDS))
            owners = np.take_along_axis(of_texts, topics, axis=1)
            numbers = rng.integers(LABEL_WORDS, size=owners.shape)
            words[:, :TOPIC_WORDS] = (owners * 7919 + numbers * 104_729) % VOCABULARY
            texts = [" ".join(row) for row in vocabulary[words].tolist()]
            file.write(pa.record_batch([pa.array(texts)], schema=schema))
            labels.append(of_texts)
    np.save(folder / "labels.npy", np.concatenate(labels))


def make_vocabulary() -> np.ndarray:
    """Take words of the tokenizer, the shorter the more frequent, and then join two of them."""
    from skxmc._model.encoder import load_encoder

    known = load_encoder(MINILM).tokenizer.get_vocab()
    words = sorted((word for word in known if word.isalpha() and len(word) > 1), key=known.get)
    rng = np.random.default_rng(0)
    first, second = rng.integers(len(words), size=(2, VOCABULARY - len(words)))
    joined = [words[i] + words[j] for i, j in zip(first, second, strict=True)]
    return np.array(words + joined, dtype=object)


def train(arguments: argparse.Namespace) -> None:
    """Fit on the mapped file, and print each phase."""
    import pyarrow as pa

    import skxmc._classifier as recipe
    import skxmc._training.build as build
    from skxmc import LightXMLClassifier

    note = Notes()
    folder = Path(arguments.folder)
    texts = pa.ipc.open_file(pa.memory_map(str(folder / "texts.arrow"))).read_all()["text"]
    labels = np.load(folder / "labels.npy")
    indptr = np.arange(0, labels.size + 1, labels.shape[1])
    shape = (len(labels), arguments.labels)
    y = sp.csr_array((np.ones(labels.size, bool), labels.ravel(), indptr), shape=shape)
    del labels
    print(f"{len(texts):,} texts, {texts.nbytes / 1e9:.2f} GB in the file, {y.nnz:,} entries of y")
    note("read labels, map texts")
    clf = LightXMLClassifier(
        MINILM,
        head_init=arguments.head_init,
        max_epochs=1,
        memory=folder / "cache",
        random_state=0,
    )
    clf.set_callbacks(EndAfter(arguments.steps))
    with contextlib.ExitStack() as stack:
        for module, name, what in (
            (recipe, "check_column", "check texts"),
            (recipe, "check_labels", "check labels"),
            (build, "cached_clusters", "features and clusters of labels"),
            (build, "cached_tokens", "tokens"),
            (build, "_start_at_centroids", "start at centroids"),
        ):
            phase = note.around(getattr(module, name), what)
            stack.enter_context(mock.patch.object(module, name, phase))
        clf.fit(texts, y)
    note(f"training, {clf.history_[-1]['n_steps']} steps")
    size = sum(file.stat().st_size for file in (folder / "cache").rglob("*") if file.is_file())
    print(f"cache of tokens and clusters: {size / 1e9:.2f} GB")


class Notes:
    """Table of phases, with the memory and time of each."""

    def __init__(self) -> None:
        print("phase | peak GB | GB at its end, without files | CPU minutes | minutes")
        self.begin()

    def begin(self) -> None:
        """Begin a phase: forget the peak."""
        Path("/proc/self/clear_refs").write_text("5")
        self.started = time.process_time(), time.perf_counter()

    def __call__(self, what: str) -> None:
        """End a phase and begin the next."""
        cpu, wall = time.process_time() - self.started[0], time.perf_counter() - self.started[1]
        lines = Path("/proc/self/status").read_text().splitlines()
        memory = dict(line.split(":") for line in lines)
        peak, own = (int(memory[name].split()[0]) / 1e6 for name in ("VmHWM", "RssAnon"))
        print(f"{what} | {peak:.2f} | {own:.2f} | {cpu / 60:.2f} | {wall / 60:.2f}", flush=True)
        self.begin()

    def around(self, function: Callable[..., Any], what: str) -> Callable[..., Any]:
        """Return a function that is a phase."""

        def phase(*args: Any, **kwargs: Any) -> Any:
            self("between")
            result = function(*args, **kwargs)
            self(what)
            return result

        return phase


class EndAfter:
    """Callback of scikit-learn 1.9 that ends an epoch after some steps."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def setup(self, estimator: object, context: object) -> None:
        """Do nothing before a fit."""

    def teardown(self, estimator: object, context: object) -> None:
        """Do nothing after a fit."""

    def on_fit_task_begin(self, estimator: object, context: object) -> None:
        """Do nothing before a step."""

    def on_fit_task_end(self, estimator: object, context: Any) -> bool:
        """Return whether this was the last step."""
        return context.task_name == "step" and context.task_id + 1 >= self.n_steps


STEPS = {"generate": generate, "train": train}

if __name__ == "__main__":
    main()
