"""Time a grid search with and without `memory`, which caches tokens and clusters.

    python examples/benchmarks/cache.py [DATA_DIR] [--texts 20000] [--pairs 3]

DATA_DIR is a folder that `load_xmc` reads. The default is the embedded ICD-10-CM texts. The search
tries three values of `bottleneck_dim` on two folds. The encoder has one small layer and trains in
seconds. With a larger encoder, `memory` saves as many seconds, but of a longer search.
"""

import argparse
import tempfile
import time

import numpy as np
from _common import MINILM
from sklearn.model_selection import GridSearchCV, KFold
from transformers import AutoConfig, AutoModel

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc._model.encoder import load_encoder
from skxmc.datasets import load_icd10cm, load_xmc
from skxmc.metrics import precision_at_k_scorer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    data = load_xmc(arguments.data) if arguments.data else load_icd10cm()
    rows = np.random.default_rng(0).permutation(len(data.X_train))[: arguments.texts]
    X, y = [data.X_train[i] for i in rows], data.y_train[rows]
    with tempfile.TemporaryDirectory() as folder:
        encoder = save_small_encoder(folder)
        pairs = [
            (search_seconds(encoder, X, y, None), search_with_memory(encoder, X, y))
            for _ in range(arguments.pairs)
        ]
    without, with_memory = np.median(pairs, axis=0)
    low, middle, high = np.quantile([a / b for a, b in pairs], [0.25, 0.5, 0.75])
    print(f"{len(X):,} texts, {y.shape[1]:,} labels, 6 fits")
    print(f"without memory: {without:.1f} s, with memory: {with_memory:.1f} s")
    print(f"time without, relative to with: {middle:.2f} ({low:.2f}-{high:.2f})")
    print(f"saved: {without - with_memory:.1f} s")


def save_small_encoder(folder: str) -> str:
    """Save an encoder with MiniLM's tokenizer, one layer and random weights."""
    tokenizer = load_encoder(MINILM).tokenizer
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def search_with_memory(encoder: str, X: list[str], y) -> float:
    with tempfile.TemporaryDirectory() as cache:
        return search_seconds(encoder, X, y, cache)


def search_seconds(encoder: str, X: list[str], y, memory: str | None) -> float:
    clf = LightXMLClassifier(
        encoder,
        clusterer=BalancedLabelClusterer(max_cluster_size=16),
        n_feature_layers=1,
        head_init="random",
        max_epochs=1,
        batch_size=512,
        memory=memory,
        random_state=0,
        device="cpu",
    )
    search = GridSearchCV(
        clf,
        {"bottleneck_dim": [8, 16, 32]},
        scoring=precision_at_k_scorer(k=5),
        cv=KFold(2),
        refit=False,
    )
    started = time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
