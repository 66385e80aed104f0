"""Measure memory in training and serving, and size on disk, by the number of labels.

python examples/benchmarks/memory.py [--quick] [--labels 500000] [--label-moments full compact]

Each figure comes from a process of its own. It only calls `fit`, `save_pretrained`,
`from_pretrained` and `predict_topk`. Texts and labels are random, and there are enough texts to
train most clusters.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _common import MINILM, load_shape, memory_of, random_labels, use_label_moments

WORDS = 110  # words per text, about 128 tokens or more


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, nargs="+", default=[100_000, 500_000, 3_000_000])
    parser.add_argument("--encoder", choices=["minilm", "bert-base"], default="minilm")
    parser.add_argument("--dim", type=int, default=400)
    parser.add_argument("--cluster-size", type=int, help="default: auto")
    parser.add_argument("--label-moments", nargs="+", default=["compact"], help="full or compact")
    parser.add_argument("--dtype", nargs="+", default=["float16", "int8"], help="of the files")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--texts", type=int, default=512, help="training texts")
    parser.add_argument("--quick", action="store_true", help="use 100,000 labels and one file")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.step:
        print(json.dumps(STEPS[arguments.step](arguments)))
        return
    if arguments.quick:
        arguments.labels, arguments.dtype = [100_000], ["float16"]
        arguments.texts = 128
    print(f"{arguments.encoder}, d = {arguments.dim}, peak memory of the process in GB")
    print("empty process with the packages imported:", run_apart(arguments, "nothing")["peak"])
    for n_labels in arguments.labels:
        for moments in arguments.label_moments:
            with tempfile.TemporaryDirectory() as folder:
                found = run_apart(
                    arguments, "train", labels=n_labels, label_moments=moments, folder=folder
                )
                print(f"\nL = {n_labels:,}, C = {found.pop('clusters'):,}, moments {moments}")
                for name, gigabytes in found.items():
                    print(f"  {name:<42} {gigabytes:6.2f}")
                if moments != arguments.label_moments[-1]:
                    continue
                for dtype in arguments.dtype:
                    path = Path(folder) / dtype
                    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e9
                    serving = run_apart(arguments, "serve", labels=n_labels, folder=str(path))
                    print(f"  {dtype + ' on disk':<42} {size:6.2f}")
                    print(f"  {'serving, peak':<42} {serving['peak']:6.2f}")


def run_apart(arguments: argparse.Namespace, step: str, **changes: Any) -> dict[str, Any]:
    """Run a step in a process of its own, and read what it prints."""
    command = [sys.executable, __file__, "--step", step]
    for name, value in {**vars(arguments), **changes}.items():
        if name not in ("step", "quick") and value is not None:
            values = value if isinstance(value, list) else [value]
            command += [f"--{name.replace('_', '-')}", *map(str, values)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def nothing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the memory of Python and the packages."""
    import transformers  # noqa: F401

    import skxmc

    return {"peak": memory_of(skxmc._model.device.resolve_device(arguments.device))}


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit for an epoch, save, and split the memory by use."""
    from skxmc import BalancedLabelClusterer, LightXMLClassifier

    rng = np.random.default_rng(0)
    (n_labels,), (moments,) = arguments.labels, arguments.label_moments
    use_label_moments(moments)
    clf = LightXMLClassifier(
        encoder_path(arguments),
        bottleneck_dim=arguments.dim,
        clusterer=BalancedLabelClusterer(arguments.cluster_size or "auto", random_state=0),
        max_epochs=1,
        batch_size=16,
        precision="bf16",
        device=arguments.device,
        random_state=0,
    )
    texts = random_words(arguments.texts, rng)
    clf.fit(texts, random_labels(len(texts), n_labels, 5, rng))
    peak = memory_of(next(clf.network_.parameters()).device)
    for dtype in arguments.dtype:
        clf.save_pretrained(Path(arguments.folder) / dtype, dtype=dtype)
    sizes = {name: p.numel() * 4 / 1e9 for name, p in clf.network_.named_parameters()}
    table = sum(size for name, size in sizes.items() if name.startswith("label_table."))
    others = sum(sizes.values()) - table
    words = math.prod(clf.network_.encoder.get_input_embeddings().weight.shape) * 4 / 1e9
    of_moments = table * (2 if moments == "full" else 0.5)
    return {
        "clusters": clf.clusterer_.n_clusters_,
        "label embeddings": table,
        "moments of label embeddings": of_moments,
        "encoder, recall head, bottleneck": others,
        "moments of these (AdamW)": 2 * others,
        "gradients of these (words: rows only)": others - words,
        "rest: packages, activations, buffers": peak - table - of_moments - 4 * others + words,
        "training, peak": peak,
    }


def serve(arguments: argparse.Namespace) -> dict[str, Any]:
    """Load a model and predict."""
    from skxmc import LightXMLClassifier

    clf = LightXMLClassifier.from_pretrained(arguments.folder)
    clf.predict_topk(random_words(64, np.random.default_rng(1)))
    return {"peak": memory_of(next(clf.network_.parameters()).device)}


def encoder_path(arguments: argparse.Namespace) -> str:
    """Return MiniLM's name, or save an encoder of BERT-base's shape with its tokenizer."""
    if arguments.encoder == "minilm":
        return MINILM
    from skxmc._model.encoder import load_encoder

    path = Path(arguments.folder) / "bert-base"
    load_shape("bert-base").save_pretrained(path)
    load_encoder(MINILM).tokenizer.save_pretrained(path)
    return str(path)


def random_words(n_texts: int, rng: np.random.Generator) -> list[str]:
    """Make texts of random words."""
    letters = np.array(list("aeioulnrst"))
    vocabulary = ["".join(rng.choice(letters, 5)) for _ in range(5000)]
    return [" ".join(rng.choice(vocabulary, WORDS)) for _ in range(n_texts)]


STEPS = {"nothing": nothing, "train": train, "serve": serve}

if __name__ == "__main__":
    main()
