"""Fit and predict in several processes whose labels stay in parts, and write what each gets.

    python sharded_predictions.py ENCODER FOLDER

`test_sharded.py` runs it. One process imports everything and then forks groups of processes.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
from distributed_training import CASES, choose_in_first, classifier, data, out_of_memory
from process_groups import kill, rank, run

import skxmc
from skxmc import LightXMLClassifier
from skxmc._inference import joint_calls, sharded
from skxmc._inference.extractor import FeatureExtractor
from skxmc._model.network import LightXMLNetwork
from skxmc._model.tokens import TokenBatch
from skxmc._training import build, sharding
from skxmc._training.sharding import Shards
from skxmc._training.trainer import Trainer

MODES = ("dynamic", "direct")


@contextlib.contextmanager
def labels_in_parts() -> Iterator[mock.Mock]:
    """Let the weights of all labels not fit into the second process, and gather them in none.

    It yields what stands in for `fit_into_memory`.
    """

    def gather(*_: object) -> Any:
        raise AssertionError("gathered")

    with (
        mock.patch.object(sharding, "fit_into_memory", return_value=rank() != 1) as fits,
        mock.patch.object(Shards, "whole_rows", gather),
    ):
        yield fits


def predictions(clf: LightXMLClassifier) -> dict[str, np.ndarray]:
    """Predict by all methods. Names say which of the results are labels."""
    X, y = data()
    some, names = X[:9], clf.classes_
    found = {
        "scores of all": clf.decision_function(some).toarray(),
        "scores of top 2": clf.decision_function(some, top_k=2).toarray(),
        "labels of predict": clf.predict(some).toarray(),
        "labels by rank": clf._predictor().true_labels_by_rank(X, y),
        "score": np.array(clf.score(X, y)),
    }
    for name, top in {
        "k=3": clf.predict_topk(X, k=3),
        "k=25": clf.predict_topk(some, k=25),  # in more clusters than n_candidate_clusters
        "one text": clf.predict_topk(X[:1], k=2),
        "exclude": clf.predict_topk(some, k=4, exclude=names[::3]),
        "allow": clf.predict_topk(some, k=4, allow=names[:7], threshold=0.01),
    }.items():
        found |= {f"labels of {name}": top.labels, f"scores of {name}": top.scores}
    return found


def error_of(call: Callable[[], object]) -> str:
    """Return the error of a call."""
    try:
        call()
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def represented_texts(clf: LightXMLClassifier) -> int:
    """Predict, and return the number of texts that this process represents."""
    counts, represent = [], LightXMLNetwork.represent

    def note(self: LightXMLNetwork, batch: TokenBatch) -> torch.Tensor:
        counts.append(len(batch.input_ids))
        return represent(self, batch)

    with mock.patch.object(LightXMLNetwork, "represent", note):
        clf.predict_topk(data()[0][:20])
    return sum(counts)


class Predicting:
    """Callback that predicts after each epoch and at the end, and notes the errors."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}

    def setup(self, estimator: Any, context: Any) -> None:
        """Note nothing."""

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> None:
        """Predict with what would be fitted now."""
        if context.task_name != "step":
            error = error_of(lambda: fitted_estimator.predict_topk(data()[0]))
            self.errors[context.task_name] = error


class Group:
    """Tasks of groups of processes.

    Parameters
    ----------
    encoder : str
    folder : Path
        Folder of results.
    """

    def __init__(self, encoder: str, folder: Path) -> None:
        self.encoder = encoder
        self.folder = folder
        build.choose_head_rate = choose_in_first
        cast(Any, sharded.Part.rows_for_first).__kwdefaults__["block"] = 1000
        classifier(encoder, max_epochs=1).fit(*data()).predict_topk(data()[0])  # late imports

    def fit(self, **params: Any) -> LightXMLClassifier:
        """Fit a model whose labels stay in parts. No epoch copies its weights for callbacks."""
        with labels_in_parts() as fits, mock.patch.object(Trainer, "kept_network", None):
            clf = classifier(self.encoder, **params).fit(*data())
        self.n_bytes = fits.call_args.args[0]
        return clf

    def predicting(self, size: int) -> dict[str, Any]:
        """Predict with labels in parts, and with all that the model has written."""
        found = {}
        for mode in MODES:
            params = {name: value for name, value in CASES[mode].items() if name != "label_texts"}
            clf = self.fit(**{**params, "max_epochs": 1})
            folder = self.folder / f"{mode} {size}"
            clf.save_pretrained(folder)
            found[mode] = {
                "in parts": predictions(clf),
                "whole": predictions(skxmc.from_pretrained(folder)),
                "n_texts": represented_texts(clf),
                "n_rows": len(clf.network_.own.label_table.bias),
                "n_clusters": clf.network_.layout.n_clusters,
                "n_bytes": self.n_bytes,
            }
        return found

    def validating(self) -> dict[str, Any]:
        """Fit with validation, several phases and averages, with labels in parts and without."""
        found = {}
        for name in ("static", "averaged"):
            params = {**CASES[name], "early_stopping": True}
            whole, clf = classifier(self.encoder, **params).fit(*data()), self.fit(**params)
            clf.save_pretrained(self.folder / name)
            loaded = skxmc.from_pretrained(self.folder / name)
            found[name] = {
                "histories": [clf.history_, whole.history_],
                "weights": [loaded.network_.state_dict(), whole.network_.state_dict()],
            }
        return found

    def refused(self, clf: LightXMLClassifier) -> dict[str, str]:
        """Do what one process cannot do."""
        X, y = data()
        e = torch.zeros(1, 32)
        calls: dict[str, Callable[[], object]] = {
            "pickle": lambda: pickle.dumps(clf),
            "copy": lambda: copy.copy(clf),
            "deepcopy": lambda: copy.deepcopy(clf),
            "explain_topk": lambda: clf.explain_topk(X[0]),
            "add_labels": lambda: clf.add_labels([99], label_texts=["a text"]),
            "remove_labels": lambda: clf.remove_labels(clf.classes_[:1]),
            "export_onnx": lambda: clf.export_onnx(self.folder / "onnx"),
            "push_to_hub": lambda: clf.push_to_hub("user/name"),
            "warm_start": lambda: clf.set_params(warm_start=True).fit(X, y),
            "label table": lambda: clf.network_.label_table,
            "recall head": lambda: clf.network_.recall_head,
            "scores": lambda: clf.network_.scores(e, 1),
            "recall logits": lambda: clf.network_.recall_logits(e),
        }
        errors = {name: error_of(call) for name, call in calls.items()}
        clf.set_params(warm_start=False)
        return errors

    def failing(self) -> dict[str, Any]:
        """Call what fails, in one process or in all, and predict after each failure."""
        X, y = data()
        clf = self.fit(max_epochs=1)
        found: dict[str, Any] = {"refused": self.refused(clf)}
        if hasattr(clf, "set_callbacks"):  # scikit-learn 1.9
            with labels_in_parts():
                callback = Predicting()
                classifier(self.encoder, max_epochs=1).set_callbacks(callback).fit(X, y)
                found["callback"] = callback.errors
        for caller in range(2):
            if rank() == caller:
                with mock.patch.object(joint_calls, "WAIT", timedelta(seconds=0.2)):
                    found["saving"] = error_of(lambda: clf.save_pretrained(self.folder / "alone"))
                    found["alone"] = error_of(lambda: clf.predict_topk(X))
                found["shapes"] = [clf.encode(X[:9]).shape, clf.transform(X).shape]
            torch.distributed.barrier()
        found["other texts"] = error_of(lambda: clf.predict_topk(X[: 30 + rank()]))
        found["other k"] = error_of(lambda: clf.predict_topk(X, k=2 + rank()))
        clf.set_params(prediction_batch_size=8 + rank())
        found["other batches"] = error_of(lambda: clf.predict_topk(X))
        clf.set_params(prediction_batch_size="auto")
        tops = [clf.predict_topk(X, k=3)]
        found["out of memory"] = self.predict_failing(clf, out_of_memory)
        tops.append(clf.predict_topk(X, k=3))
        (self.folder / "taken").mkdir(exist_ok=True)
        (self.folder / "taken" / "file").touch()
        found["saving to another folder"] = error_of(
            lambda: clf.save_pretrained(self.folder / "taken")
        )
        tops.append(clf.predict_topk(X, k=3))
        error_of(lambda: self.fail_at_end(clf))
        tops.append(clf.predict_topk(X, k=3))
        found["labels"] = [top.labels for top in tops]
        found["killed"] = self.predict_failing(clf, kill)
        torch.distributed.destroy_process_group()
        found["closed"] = error_of(lambda: clf.predict_topk(X))
        os.environ["WORLD_SIZE"] = "1"
        found["fitted alone"] = clf.fit(X, y).network_.in_parts
        return found

    def predict_failing(self, clf: LightXMLClassifier, fail: Callable[[], object]) -> str:
        """Predict, and fail in the second process."""
        represent = (lambda *_: fail()) if rank() else FeatureExtractor._represent
        with mock.patch.object(FeatureExtractor, "_represent", represent):
            return error_of(lambda: clf.predict_topk(data()[0]))

    def fail_at_end(self, clf: LightXMLClassifier) -> None:
        """Fail in the second process when the first needs it no more."""
        with clf.network_.together("a call"):
            if rank():
                raise RuntimeError


def main(encoder: str, folder: Path) -> None:
    """Run all groups."""
    torch.set_num_threads(1)
    group = Group(encoder, folder)
    for size in (2, 3):
        run(size, functools.partial(group.predicting, size), folder / f"predicting {size}")
    for task in ("validating", "failing"):
        run(2, getattr(group, task), folder / task)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
