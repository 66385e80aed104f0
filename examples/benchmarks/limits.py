"""Measure peak memory: prediction of very many texts, training on a very wide label matrix.

    python examples/benchmarks/limits.py [--texts 10000 1000000] [--matrix 500000 3000000]

The script needs the extra [demo] for its tokenizer. The encoder is small and has random weights,
because only memory that grows with texts and labels matters. Each row has a process of its own.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import torch
from _common import MINILM, memory_of

TEXT_BLOCK = 10_000
CPU = torch.device("cpu")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument("--matrix", type=int, nargs="*", default=[500_000, 3_000_000])
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.step:
        name, *rest = arguments.step
        STEPS[name](*rest)
        return
    with tempfile.TemporaryDirectory() as folder:
        run_apart("prepare", folder)
        for n_texts in arguments.texts:
            run_apart("predict", folder, n_texts, "list")
            run_apart("predict", folder, n_texts, "chunks")
        if arguments.matrix:
            run_apart("train", folder, *arguments.matrix)


def run_apart(*step: object) -> None:
    """Run a step in a process of its own."""
    subprocess.run([sys.executable, __file__, "--step", *map(str, step)], check=True)


def note(what: str, started: float) -> None:
    """Print the peak memory of this process so far."""
    seconds = time.perf_counter() - started
    print(f"{what:<60} peak {memory_of(CPU):6.2f} GB, {seconds:7.1f} s", flush=True)


def prepare(folder: str) -> None:
    """Save a small encoder, and a model of 10,000 labels on top of it."""
    from transformers import AutoConfig

    from skxmc import LightXMLClassifier
    from skxmc._model.encoder import build_encoder, load_encoder
    from skxmc.datasets import make_xmc

    tokenizer = load_encoder(MINILM).tokenizer
    tokenizer.save_pretrained(f"{folder}/encoder")
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    torch.manual_seed(0)
    build_encoder(config).save_pretrained(f"{folder}/encoder")
    texts, y = make_xmc(2_000, 10_000, random_state=0)
    clf = LightXMLClassifier(f"{folder}/encoder", n_feature_layers=2, max_length=32, max_epochs=1)
    clf.fit(texts, y).save_pretrained(f"{folder}/model")


def many_texts(n_texts: int) -> Iterator[str]:
    """Generate texts of seven words, one at a time."""
    words = [
        "heart",
        "failure",
        "lung",
        "chronic",
        "acute",
        "left",
        "right",
        "fracture",
        "of",
        "with",
        "without",
        "pain",
    ]
    for i in range(n_texts):
        yield " ".join(words[(i // 7**j) % len(words)] for j in range(6)) + f" {i}"


def predict(folder: str, n_texts: str, form: str) -> None:
    """Predict the best five labels of texts from a list, or from chunks of a generator."""
    from skxmc import LightXMLClassifier

    clf = LightXMLClassifier.from_pretrained(f"{folder}/model")
    clf.set_params(prediction_batch_size=512).predict_topk(["warm"], k=5)
    note("load model", time.perf_counter())
    texts = many_texts(int(n_texts))
    started = time.perf_counter()
    if form == "list":
        listed = list(texts)
        note(f"{int(n_texts):,} texts in a list", started)
        started = time.perf_counter()
        found = len(clf.predict_topk(listed, k=5).labels)
    else:
        found = 0
        while chunk := [text for _, text in zip(range(TEXT_BLOCK), texts, strict=False)]:
            found += len(clf.predict_topk(chunk, k=5).labels)
    assert found == int(n_texts)
    note(f"predict_topk of {int(n_texts):,} texts, from {form}", started)


def train(folder: str, n_texts: str, n_labels: str) -> None:
    """Check, cluster and train on a label matrix whose dense form would be terabytes."""
    from skxmc import LightXMLClassifier
    from skxmc._input.validation import check_labels
    from skxmc.datasets import make_xmc

    started = time.perf_counter()
    texts, y = make_xmc(int(n_texts), int(n_labels), label_exponent=0.5, random_state=0)
    dense = y.shape[0] * y.shape[1] * 4 / 1e12
    print(f"label matrix {y.shape}, {y.nnz:,} entries, {dense:,.1f} TB if dense")
    note("make texts and labels", started)
    started = time.perf_counter()
    check_labels(y)
    note("check labels", started)
    clf = LightXMLClassifier(
        f"{folder}/encoder",
        n_feature_layers=2,
        max_length=16,
        bottleneck_dim=16,
        max_epochs=1,
        batch_size=128,
        prediction_batch_size=1024,
        random_state=0,
    )
    started = time.perf_counter()
    clf.fit(texts, y)
    epoch = clf.history_[0]
    steps = f"{clf.clusterer_.n_clusters_:,} clusters, {epoch['n_steps']} steps"
    note(f"fit: {steps}, {epoch['seconds']:.0f} s of them", started)
    started = time.perf_counter()
    clf.predict_topk(texts[:TEXT_BLOCK], k=5)
    note(f"predict_topk of {TEXT_BLOCK:,} texts", started)


STEPS = {"prepare": prepare, "predict": predict, "train": train}

if __name__ == "__main__":
    main()
