"""``skxmc predict``: reads texts, and writes labels and scores chunk by chunk."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

from skxmc._cli.data import FIELDS, check_columns
from skxmc._cli.model import choose_k, load_model
from skxmc._cli.output import Row, Writer, check_output, open_output
from skxmc._cli.report import count_texts
from skxmc._utils.paths import user_path
from skxmc._utils.warnings import warn_user
from skxmc.datasets._lines import decode_lines, read_lines
from skxmc.datasets._table import join_texts
from skxmc.datasets._table_files import Table, is_json_file, is_table_file, open_table
from skxmc.datasets._xmc import read_json_texts

# Longer texts are cut in the readable output.
MAX_CHARACTERS = 100


def run(args: argparse.Namespace) -> None:
    """Predict chunk by chunk, so that memory does not grow with the number of texts."""
    table = _open_table(args)
    rows: Iterator[Row]
    if table is None:
        texts = _read_texts(args.texts, args.text or FIELDS, args.encoding)
        rows = (Row(text) for text in texts)
    else:
        rows = _read_rows(table, args.text)
        if args.output is not None:
            check_output(args.output, table)
    clf = load_model(args)
    k = choose_k(args.k, clf.n_labels_)
    output: AbstractContextManager[Writer]
    if table is None or args.output is None:
        output = nullcontext(_print_json if args.json else _print_columns)
    else:
        output = open_output(args.output, table, k)
    with output as write, count_texts(are_printed=args.output is None) as counter:
        for chunk in _chunks(rows, args.chunk_size):
            top = clf.predict_topk([row.text for row in chunk], k, threshold=args.threshold)
            for row, labels, scores in zip(chunk, top.to_lists(), top.scores, strict=True):
                # A float32 has seven digits. Converted to float, it would show more.
                kept = [float(f"{score:.7g}") for score in scores[: len(labels)]]
                write(row, labels, kept)
            sys.stdout.flush()
            counter.update(len(chunk))


def _open_table(args: argparse.Namespace) -> Table | None:
    """Open a table. Other files have one text per line, JSON lines too if they are only printed."""
    is_table = args.texts != "-" and is_table_file(user_path(args.texts))
    if args.output is None:
        is_table = is_table and not is_json_file(user_path(args.texts))
    elif not is_table:
        raise argparse.ArgumentError(
            None, f"--output adds columns to a table, such as texts.csv, but FILE is {args.texts}"
        )
    if not is_table:
        return None
    check_columns(args.texts, args, "text")
    return open_table(args.texts, args.text, args.encoding)


def _read_rows(table: Table, text: list[str]) -> Iterator[Row]:
    """Read the rows of a table with all their cells."""
    indices = [table.find(name) for name in text]
    rows = table.rows(range(len(table.columns)))
    return (
        Row(join_texts(table, position, text, [cells[i] for i in indices]), cells)
        for position, cells in rows
    )


def _read_texts(file: str, fields: Sequence[str], encoding: str) -> Iterator[str]:
    if file != "-":
        path = user_path(file)
        if is_json_file(path):
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
                "name ends in .jsonl, and the fields of a text as --text."
            )
        yield line


def _chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _print_json(row: Row, labels: list[Any], scores: list[float]) -> None:
    print(json.dumps({"labels": labels, "scores": scores}, ensure_ascii=False))


def _print_columns(row: Row, labels: list[Any], scores: list[float]) -> None:
    shown = _in_one_line(row.text)
    if len(shown) > MAX_CHARACTERS:
        shown = shown[: MAX_CHARACTERS - 3] + "..."
    ranked = [
        f"  {score:.3f}  {_in_one_line(str(label))}"
        for label, score in zip(labels, scores, strict=True)
    ]
    print("\n".join([shown or "(empty text)", *(ranked or ["  (no label)"]), ""]))


def _in_one_line(text: str) -> str:
    return " ".join(text.split())
