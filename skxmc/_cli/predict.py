"""``skxmc predict``: reads one text per line, and writes labels and scores chunk by chunk."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice

from skxmc._cli.model import choose_k, load_model
from skxmc._cli.report import count_texts
from skxmc._utils.paths import user_path
from skxmc._utils.warnings import warn_user
from skxmc.datasets._lines import decode_lines, read_lines
from skxmc.datasets._xmc import read_json_texts

# Longer texts are cut in the readable output.
MAX_CHARACTERS = 100


def run(args: argparse.Namespace) -> None:
    """Predict chunk by chunk, so that memory does not grow with the number of texts."""
    clf = load_model(args)
    k = choose_k(args.k, clf.n_labels_)
    format_text = _as_json if args.json else _as_columns
    with count_texts() as counter:
        for texts in _chunks(_read_texts(args.texts, args.fields, args.encoding), args.chunk_size):
            top = clf.predict_topk(texts, k)
            for text, labels, scores in zip(texts, top.labels.tolist(), top.scores, strict=True):
                n_kept = int((scores >= args.threshold).sum())
                # A float32 has seven digits. Converted to float, it would show more.
                kept = [float(f"{score:.7g}") for score in scores[:n_kept]]
                print(format_text(text, labels[:n_kept], kept))
            sys.stdout.flush()
            counter.update(len(texts))


def _read_texts(file: str, fields: list[str], encoding: str) -> Iterator[str]:
    if file != "-":
        path = user_path(file)
        if path.name.removesuffix(".gz").endswith((".json", ".jsonl", ".ndjson")):
            return read_json_texts(path, fields, encoding)
        return _told_of_json(read_lines(path, encoding), file)
    if sys.stdin.isatty():
        print("Enter one text per line. End with Ctrl-D.", file=sys.stderr)
    return _told_of_json(decode_lines(sys.stdin.buffer, "standard input", encoding), "-")


def _told_of_json(lines: Iterator[str], name: str) -> Iterator[str]:
    """Warn if the first line is a JSON object, which is read as a text."""
    for number, line in enumerate(lines):
        if number == 0 and line.startswith("{") and line.rstrip().endswith("}"):
            warn_user(
                f"{name} seems to hold JSON objects, which are read as texts. Give a file whose "
                "name ends in .jsonl, and the fields of a text as --fields."
            )
        yield line


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(texts)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _as_json(text: str, labels: list[str | int], scores: list[float]) -> str:
    return json.dumps({"labels": labels, "scores": scores}, ensure_ascii=False)


def _as_columns(text: str, labels: list[str | int], scores: list[float]) -> str:
    shown = _in_one_line(text)
    if len(shown) > MAX_CHARACTERS:
        shown = shown[: MAX_CHARACTERS - 3] + "..."
    rows = [
        f"  {score:.3f}  {_in_one_line(str(label))}"
        for label, score in zip(labels, scores, strict=True)
    ]
    return "\n".join([shown or "(empty text)", *(rows or ["  (no label)"]), ""])


def _in_one_line(text: str) -> str:
    return " ".join(text.split())
