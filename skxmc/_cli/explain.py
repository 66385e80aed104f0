"""``skxmc explain``: says why a model predicts the labels of a text."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from skxmc._cli.model import choose_k, load_any
from skxmc._cli.report import print_json
from skxmc._meta.rescoring import ranks_texts
from skxmc._topk import explain_topk, innermost
from skxmc._utils.quoting import quoted


def run(args: argparse.Namespace) -> None:
    """Explain the best labels of the text, also by a pipeline that ends in a classifier."""
    model = load_any(args)
    clf = innermost(model)[0]
    if not ranks_texts(clf):
        raise ValueError(
            f"{args.model} holds {quoted(type(clf).__name__)}, which is no classifier of skxmc. "
            "Give a classifier, an ensemble, or a pipeline that ends in one."
        )
    k = choose_k(args.k, len(clf.classes_))
    explanation = explain_topk(model, args.text, k, n_words=args.words)
    if args.json:
        fields = [field.name for field in dataclasses.fields(explanation)]
        report = {name: _plain(getattr(explanation, name)) for name in fields}
        print_json({**report, "is_unfamiliar": explanation.is_unfamiliar})
    else:
        print(explanation)


def _plain(value: Any) -> Any:
    """Turn named tuples into dicts."""
    if hasattr(value, "_asdict"):
        return {name: _plain(inner) for name, inner in value._asdict().items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value
