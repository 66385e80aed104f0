"""Measure the fraction of padding tokens in batches of training and prediction, on real texts.

python examples/benchmarks/padding.py [DATA_DIR] [--max-length 128] [--quick]

DATA_DIR is a folder that `load_xmc` reads. The default is the embedded ICD-10-CM texts.
"""

import argparse

import numpy as np
from _common import MINILM

from skxmc._model.encoder import load_encoder
from skxmc._model.tokens import prediction_batches, tokenize, training_batches
from skxmc.datasets import load_icd10cm, load_xmc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 128])
    parser.add_argument("--quick", action="store_true", help="use the first 2,000 texts")
    arguments = parser.parse_args()
    data = load_xmc(arguments.data) if arguments.data else load_icd10cm()
    texts = list(data.X_train)[: 2000 if arguments.quick else None]
    lengths = tokenize(load_encoder(MINILM).tokenizer, texts, arguments.max_length).lengths
    low, middle, high = np.quantile(lengths, [0.1, 0.5, 0.9])
    print(f"{len(texts):,} texts of {middle:.0f} tokens (80% have {low:.0f}-{high:.0f})")
    print("batch | padding in training | prediction | random batches | one batch of all texts")
    for size in arguments.batches:
        rng = np.random.default_rng(0)
        order = rng.permutation(len(lengths))
        ways = [
            training_batches(lengths, size, rng),
            list(prediction_batches(lengths, size)),
            np.array_split(order, -(-len(order) // size)),
            [order],
        ]
        shares = [share_of_padding(lengths, batches) for batches in ways]
        print(f"{size} | " + " | ".join(f"{100 * share:.2f} %" for share in shares))


def share_of_padding(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Compute the fraction of padding among the tokens of all batches."""
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1 - int(lengths.sum()) / padded


if __name__ == "__main__":
    main()
