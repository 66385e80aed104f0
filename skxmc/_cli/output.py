"""Tables that ``skxmc predict`` writes: the rows of its input, with labels and scores."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from skxmc._utils.paths import user_path
from skxmc._utils.quoting import quoted
from skxmc.datasets._table_files import Table

OWN_COLUMN = re.compile(r"(label|score)_[0-9]+")


class Row(NamedTuple):
    """A text, and the cells of its row in a table."""

    text: str
    cells: Sequence[Any] = ()


# Writes a row, its labels and their scores.
Writer: TypeAlias = Callable[[Row, list[Any], list[float]], None]


def check_output(output: str, table: Table) -> None:
    """Check the name of the file, and that the table has no column that would be written."""
    file = user_path(output)
    if file.suffix.lower() not in (".csv", ".tsv"):
        raise ValueError(f"{output} cannot be written as a table. Give a name in .csv or .tsv.")
    if file.resolve() == user_path(table.name).resolve():
        raise ValueError(f"{output} is the table of the texts. Give another file as --output.")
    for name in filter(OWN_COLUMN.fullmatch, table.columns):
        raise ValueError(
            f"{table.name} has a column {quoted(name)}, which --output would add. Rename it."
        )


@contextlib.contextmanager
def open_output(output: str, table: Table, k: int) -> Iterator[Writer]:
    """Open a CSV or TSV file, which replaces an old one when it is complete.

    It is UTF-8. Delimiter and byte order mark are those of the table, so that a spreadsheet program
    opens both in the same way.

    Yields
    ------
    callable
        Writes a row with up to `k` labels.
    """
    file = user_path(output)
    part = file.with_name(f"{file.name}.part")
    delimiter = "," if table.delimiter == "\t" else table.delimiter
    if file.suffix.lower() == ".tsv":
        delimiter = "\t"
    encoding = "utf-8-sig" if table.has_mark else "utf-8"
    try:
        with part.open("w", encoding=encoding, errors="replace", newline="") as stream:
            rows = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
            added = [f"{name}_{rank}" for rank in range(1, k + 1) for name in ("label", "score")]
            rows.writerow([*table.columns, *added])

            def write(row: Row, labels: list[Any], scores: list[float]) -> None:
                pairs = [value for pair in zip(labels, scores, strict=True) for value in pair]
                blank = [""] * (2 * k - len(pairs))
                rows.writerow([*map(_as_cell, row.cells), *pairs, *blank])

            yield write
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _as_cell(value: Any) -> Any:
    """Convert the lists and objects of JSON and Parquet, for which CSV has no form, to JSON."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value
