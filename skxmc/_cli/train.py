"""``skxmc train``: trains on a table or a data folder, and writes a model folder."""

from __future__ import annotations

import argparse
import difflib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sklearn.utils import Bunch

from skxmc._base import TextRankerMixin
from skxmc._classifier import LightXMLClassifier
from skxmc._cli.data import is_table, load_data
from skxmc._cli.evaluate import RANKS
from skxmc._cli.report import folder_size, megabytes, print_json, print_lines
from skxmc._clusterer import BalancedLabelClusterer
from skxmc._ensemble import LightXMLEnsemble
from skxmc._make_classifier import make_classifier
from skxmc._model.device import resolve_device
from skxmc._omikuji_io import import_omikuji
from skxmc._storage.estimators import INDEX
from skxmc._storage.folder import check_target
from skxmc._utils.paths import user_path
from skxmc._utils.quoting import MAX_QUOTED, shortened
from skxmc._utils.warnings import warn_user
from skxmc.metrics import precision_at_k

# Parameters that --param does not set, and how to set them.
SET_ELSEWHERE = {
    "encoder": "use --encoder",
    "time_limit": "use --minutes",
    "verbose": "use --quiet",
    "clusterer": "set parameters of the clusterer, such as clusterer__max_cluster_size",
    "warm_start": "the command always trains a new model",
}


def run(args: argparse.Namespace) -> None:
    """Check everything that is cheap to check, then train and save."""
    language = make_language(args.encoder, args.params)
    clf = language if args.language_only else add_members(language)
    if args.keep_texts:
        if args.language_only:
            raise argparse.ArgumentError(
                None, "--keep-texts: --language-only has no neighbors, which keep the texts"
            )
        clf.set_params(neighbors__keep_texts=True)
    folder = user_path(args.model).resolve()
    check_writable(folder, args.overwrite)
    data = load_data(args, test="auto")
    is_measured = is_table(args.data) and bool(data.X_test)
    if not args.quiet:
        held_out = f", and {len(data.X_test):,} test texts" if is_measured else ""
        print(
            f"{len(data.X_train):,} texts, {len(data.label_names):,} labels{held_out}",
            file=sys.stderr,
        )
    started = time.perf_counter()
    language.set_params(
        verbose=0 if args.quiet else 1,
        time_limit=None if args.minutes is None else 60 * args.minutes,
    )
    clf.fit(
        data.X_train,
        data.y_train,
        label_names=data.label_names,
        label_texts=data.label_names if args.label_texts else None,
    )
    seconds = time.perf_counter() - started
    trained = clf if clf is language else clf.named_estimators_["language"]
    language.verbose = trained.verbose = 0
    clf.save_pretrained(folder, dtype=args.dtype)
    n_bytes = folder_size(folder)
    test = measure_test(clf, data) if is_measured and (args.json or not args.quiet) else None
    if args.json:
        print_json(
            {
                "texts": len(data.X_train),
                "labels": clf.n_labels_,
                "epochs": trained.n_iter_,
                "seconds": seconds,
                "bytes": n_bytes,
                "test": test,
                "history": trained.history_,
            }
        )
    elif test is not None and not args.quiet:
        print_lines(test)
    if not args.quiet:
        print(
            f"Trained in {seconds:,.0f} s (epochs: {trained.n_iter_}), saved to {args.model} "
            f"({megabytes(n_bytes)})",
            file=sys.stderr,
        )


def measure_test(clf: TextRankerMixin, data: Bunch) -> dict[str, Any]:
    """Measure P@1, P@3 and P@5 on the test part, also of the linear model in an ensemble alone."""
    report: dict[str, Any] = {"test_texts": len(data.X_test), **_precisions(clf, data)}
    words = getattr(clf, "named_estimators_", {}).get("words")
    if words is not None:
        report["words_alone"] = _precisions(words, data)
    return report


def _precisions(clf: TextRankerMixin, data: Bunch) -> dict[str, float]:
    """Measure the precisions at `RANKS`, or at those up to the number of labels."""
    top = clf.predict_topk(data.X_test, min(clf.n_labels_, max(RANKS)))
    ranks = [rank for rank in RANKS if rank <= clf.n_labels_]
    return {f"P@{k}": precision_at_k(data.y_test, top, k=k, classes=clf.classes_) for k in ranks}


def make_language(encoder: str, params: list[tuple[str, Any]]) -> LightXMLClassifier:
    """Make the classifier that reads language. Check that its parameters exist and are in range."""
    known = LightXMLClassifier(clusterer=BalancedLabelClusterer()).get_params()
    known = sorted(set(known) - set(SET_ELSEWHERE))
    for name, _ in params:
        if name in SET_ELSEWHERE:
            raise argparse.ArgumentError(None, f"--param {name}: {SET_ELSEWHERE[name]}")
        if name not in known:
            guess = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {guess[0]}? " if guess else ""
            raise argparse.ArgumentError(
                None,
                f"--param {shortened(name, MAX_QUOTED)}: unknown. {hint}Known are "
                f"{', '.join(known)}",
            )
    clf = LightXMLClassifier(encoder)
    if any(name.startswith("clusterer__") for name, _ in params):
        clf.clusterer = BalancedLabelClusterer()
    try:
        clf.set_params(**dict(params))
        for estimator in (clf, clf.clusterer):
            if estimator is not None:
                estimator._validate_params()
        resolve_device(clf.device)
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentError(None, f"--param: {error}") from error
    return clf


def add_members(language: LightXMLClassifier) -> LightXMLEnsemble:
    """Make the recommended ensemble around a classifier, without words if omikuji is missing."""
    try:
        import_omikuji()
        words = True
    except ImportError:
        words = False
        warn_user(
            "omikuji is not installed, so the model has no member that reads words. To add it, run "
            "pip install omikuji, and train again."
        )
    # A seed of its own, so that a resumed training holds out the same texts.
    seed = 0 if language.random_state is None else language.random_state
    clf = make_classifier(words=words, n_jobs=language.n_jobs, random_state=seed)
    return clf.set_params(language=language)


def check_writable(folder: Path, overwrite: bool) -> None:
    """Check that the trained model can be written to `folder`."""
    check_target(folder, INDEX)
    if (folder / INDEX).is_file() and not overwrite:
        raise ValueError(
            f"{str(folder)!r} holds a model. Give another folder, or pass --overwrite."
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent).cleanup()
    except OSError as error:
        raise ValueError(
            f"{str(folder)!r} cannot be written ({error}). Give another folder as --model."
        ) from error
