"""Helpers of the runners: read the data, time training and prediction, and save what they give.

A runner is called as `python RUNNER SYSTEM FOLDER`, by the Python of its environment. The folder
holds texts, labels and options. The runner saves the model to `model` and the best labels to
`top.npz`. Environments have no skxmc.
"""

import json
import math
import os
import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

TOP = 5
N_THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))


class Data(NamedTuple):
    """Texts and labels to train on, the options, and the folder for the model."""

    X: list
    y: sp.csr_matrix
    options: dict
    folder: Path


def main(train):
    """Train the system that the command line names, and predict the test texts.

    `train(system, data)` returns a function from texts to their best labels, best first. A text
    may have fewer than TOP.
    """
    system, folder = sys.argv[1], Path(sys.argv[2])
    options = json.loads((folder / "options.json").read_text())
    if options["minutes"]:
        seconds = math.ceil(60 * options["minutes"])
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    X, X_test = json.loads((folder / "texts.json").read_text())
    y = sp.csr_matrix(sp.load_npz(folder / "labels.npz"), dtype=np.float32)
    (folder / "model").mkdir()
    started = processor_seconds()
    predict = train(system, Data(X, y, options, folder / "model"))
    trained = processor_seconds()
    labels = np.full((len(X_test), TOP), -1)
    for row, best in zip(labels, predict(X_test), strict=True):
        row[: len(best)] = best
    predicted = processor_seconds()
    np.savez(
        folder / "top.npz",
        labels=labels,
        training=trained - started,
        prediction=predicted - trained,
        memory=peak_memory(),
    )


def processor_seconds():
    """Return the processor time of this process, its threads and its former children."""
    return time.process_time() + sum(os.times()[2:4])


def peak_memory():
    """Return the peak memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def learn_words(data):
    """Return the vectorizer of words and pairs of words, and its features of the texts."""
    import joblib
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), dtype=np.float32)
    features = vectorizer.fit_transform(data.X)
    joblib.dump(vectorizer, data.folder / "words.joblib")
    return vectorizer, features


def labels_of_rows(y):
    """Return the labels of each text as a list."""
    return [labels.tolist() for labels in np.split(y.indices, y.indptr[1:-1])]


def best_of_csr(scores):
    """Return the stored columns of each row, best first."""
    for start, end in zip(scores.indptr, scores.indptr[1:], strict=False):
        yield scores.indices[start:end][np.argsort(-scores.data[start:end], kind="stable")][:TOP]


def load_tokenizer(data):
    """Return the encoder's tokenizer, and the tokens of the longest text, at most 512."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(data.options["encoder"])
    lengths = [len(ids) for ids in tokenizer(data.X, truncation=True, max_length=512)["input_ids"]]
    return tokenizer, max(lengths)


def encoder_rate(data):
    """Return the recipes' learning rate for BERT-base, or a higher one for a smaller encoder."""
    from transformers import AutoConfig

    width = AutoConfig.from_pretrained(data.options["encoder"]).hidden_size
    return 5e-5 if width >= 768 else 2e-4
