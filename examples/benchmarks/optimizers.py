"""Train a two-stage classifier with each optimizer of the label table, and compare P@k.

python examples/benchmarks/optimizers.py [--epochs 2] [--only full compact dense]

"full" and "compact" are the moments of small and large label tables. Both update only the rows of
a step. "dense" is PyTorch's AdamW on all rows at every step.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import joblib
import torch
from _common import MINILM, use_label_moments

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc._training.optim import BETAS, EPS
from skxmc.datasets import load_icd10cm
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k

SETTINGS = {
    "max_length": 32,
    "dropout": 0.3,
    "encoder_dropout": 0.0,
    "batch_size": 128,
    "learning_rate": 3e-4,
    "head_learning_rate": 4e-3,
    "random_state": 0,
}


class DenseAdamW(torch.optim.AdamW):
    """AdamW that updates whole tables although their gradients are sparse."""

    def __init__(self, groups: list[dict[str, object]]) -> None:
        kept = ("params", "lr", "weight_decay")
        groups = [{name: group[name] for name in kept} for group in groups]
        super().__init__(groups, betas=BETAS, eps=EPS, fused=True)

    def coalesce(self) -> None:
        """Make the gradients dense."""
        for group in self.param_groups:
            for table in group["params"]:
                table.grad = table.grad.to_dense()


@contextmanager
def dense_optimizer() -> Iterator[None]:
    """Let a classifier train with `DenseAdamW`."""
    with (
        mock.patch("skxmc._training.optim.RowAdamW", DenseAdamW),
        mock.patch("skxmc._training.trainer.RowAdamW", DenseAdamW),
    ):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    names = ["full", "compact", "dense"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--save", type=Path, help="folder for the models")
    arguments = parser.parse_args()
    data = load_icd10cm()
    propensities = label_propensities(data.y_train)
    print("optimizer | loss | P@1 / 3 / 5 | PSP@5 | minutes of training steps")
    for name in arguments.only:
        clf = LightXMLClassifier(
            MINILM,
            clusterer=BalancedLabelClusterer(max_cluster_size=16),
            max_epochs=arguments.epochs,
            **SETTINGS,
        )
        use_label_moments("compact" if name == "compact" else "full")
        started = time.perf_counter()
        if name == "dense":
            with dense_optimizer():
                clf.fit(data.X_train, data.y_train)
        else:
            clf.fit(data.X_train, data.y_train)
        minutes = (time.perf_counter() - started) / 60
        top = clf.predict_topk(data.X_test, k=5)
        p = " / ".join(f"{100 * precision_at_k(data.y_test, top, k=k):.1f}" for k in (1, 3, 5))
        psp = 100 * psp_at_k(data.y_test, top, k=5, propensities=propensities)
        loss = clf.history_[-1]["loss"]
        print(f"{name} | {loss:.2f} | {p} | {psp:.1f} | {minutes:.1f}", flush=True)
        if arguments.save:
            joblib.dump(clf, arguments.save / f"{name}.joblib")


if __name__ == "__main__":
    main()
