"""Time BalancedLabelClusterer against the Indexer of PECOS, and compare their clusters.

python -m venv pecos && pecos/bin/pip install libpecos
python examples/benchmarks/clustering.py --pecos pecos/bin/python [--quick]

PECOS (C++) needs older packages than skxmc, so it runs in an environment of its own. Both get the
same matrix and the same number of threads. The times include no files and no conversions.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from _common import cpu_name, spread
from sklearn.preprocessing import normalize

from skxmc import BalancedLabelClusterer

PECOS = """
import sys, time
import numpy as np
import scipy.sparse as sp
from pecos.xmc import Indexer

folder, size, threads, seed = sys.argv[1], *map(int, sys.argv[2:])
X = sp.load_npz(folder + "/features.npz").tocsr()
started = time.perf_counter()
chain = Indexer.gen(X, max_leaf_size=size, threads=threads, seed=seed, spherical=True)
print(time.perf_counter() - started)
np.save(folder + "/labels.npy", chain[-1].tocsr().indices)
"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pecos", required=True, help="Python of an environment with libpecos")
    parser.add_argument("--labels", type=int, default=400_000)
    parser.add_argument("--words", type=int, default=54, help="words to draw per label, some twice")
    parser.add_argument("--topics", type=int, default=5000)
    parser.add_argument("--size", type=int, default=64, help="maximum labels per cluster")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="use fewer labels and pairs")
    return parser.parse_args()


def made_up_features(n_labels: int, n_drawn: int, n_topics: int) -> sp.csr_matrix:
    """Make TF-IDF-like rows: half of a label's words come from its topic, all are Zipfian."""
    rng = np.random.default_rng(0)
    n_words = 100_000
    topic_words = rng.integers(n_words, size=(n_topics, 400))
    # Zipf: the logarithm of a word's rank is uniform.
    shape = (n_labels, n_drawn)
    ranks = np.exp(rng.random(shape) * np.log(400)).astype(np.int64)
    of_topic = topic_words[rng.integers(n_topics, size=n_labels)[:, np.newaxis], ranks]
    of_all = np.exp(rng.random(shape) * np.log(n_words)).astype(np.int64)
    columns = np.where(rng.random(shape) < 0.5, of_topic, of_all).ravel()
    indptr = np.arange(n_labels + 1) * n_drawn
    ones = np.ones(len(columns), dtype=np.float32)
    counts = sp.csr_matrix((ones, columns, indptr), shape=(n_labels, n_words))
    counts.sum_duplicates()
    frequency = np.maximum(np.bincount(counts.indices, minlength=n_words), 1)
    counts.data *= np.log(n_labels / frequency)[counts.indices].astype(np.float32)
    return normalize(counts)


def mean_cosine(X: sp.csr_matrix, labels: np.ndarray) -> float:
    """Compute the mean cosine of rows to the centroids of their clusters."""
    one_hot = sp.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))))
    return float(X.multiply(normalize(one_hot @ X)[labels]).sum() / X.shape[0])


def main() -> None:
    arguments = parse()
    if arguments.quick:
        arguments.labels, arguments.pairs = arguments.labels // 10, 3
    X = made_up_features(arguments.labels, arguments.words, arguments.topics)
    print(f"{cpu_name()}, {arguments.threads} threads")
    print(f"{X.shape[0]:,} labels x {X.nnz / X.shape[0]:.0f} non-zeros, {arguments.pairs} pairs")
    times = np.empty((arguments.pairs, 2))
    with tempfile.TemporaryDirectory() as folder:
        sp.save_npz(Path(folder) / "features.npz", X)
        for pair in range(arguments.pairs):
            options = [str(x) for x in (arguments.size, arguments.threads, pair)]
            command = [arguments.pecos, "-c", PECOS, folder, *options]
            found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            times[pair, 0] = float(found.stdout.split()[-1])
            clusterer = BalancedLabelClusterer(
                arguments.size, n_jobs=arguments.threads, random_state=pair
            )
            started = time.perf_counter()
            clusterer.fit(X)
            times[pair, 1] = time.perf_counter() - started
        of_pecos = np.load(Path(folder) / "labels.npy")
    for name, part, labels in [
        ("PECOS", times[:, 0], of_pecos),
        ("skxmc", times[:, 1], clusterer.labels_),
    ]:
        sizes = np.bincount(labels)
        print(
            f"{name}: {spread(part, ' s')}, {len(sizes):,} clusters of {sizes.min()} to "
            f"{sizes.max()}, mean cosine to the centroid {mean_cosine(X, labels):.4f}"
        )
    print("time relative to PECOS:", spread(times[:, 1] / times[:, 0]))


if __name__ == "__main__":
    main()
