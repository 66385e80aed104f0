"""Tables of users, read row by row: CSV, TSV, JSON lines and Parquet files, and frames."""

from __future__ import annotations

import codecs
import csv
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from skxmc._input.values import as_list
from skxmc._utils.paths import user_path
from skxmc._utils.quoting import listed, quoted
from skxmc.datasets._lines import open_binary, read_lines, read_records

CSV, TSV, JSON, PARQUET = ".csv", ".tsv", (".jsonl", ".ndjson", ".json"), ".parquet"
# Excel writes semicolons where the comma is the decimal mark.
DELIMITERS = (",", ";", "\t", "|")
# Python's default limit of 131,072 characters per cell is less than a long text has.
MAX_CELL = 2**31 - 1


class Table(NamedTuple):
    """A table, whose rows are read when they are needed.

    Attributes
    ----------
    name : str
        Name in error messages.
    unit : str
        What positions count: "line" from 1, or "row" from 0.
    columns : list of str
        Names of the columns.
    rows : callable
        ``rows(indices)`` iterates over the rows, as the position and the cells of these columns.
    delimiter : str
        Character between cells of a CSV file.
    has_mark : bool
        Whether the file begins with the byte order mark of UTF-8, which Excel needs.
    """

    name: str
    unit: str
    columns: list[str]
    rows: Callable[[Sequence[int]], Iterator[tuple[int, Sequence[Any]]]]
    delimiter: str = ","
    has_mark: bool = False

    def find(self, name: str) -> int:
        """Return the index of a column."""
        count = self.columns.count(name)
        if count == 1:
            return self.columns.index(name)
        known = f"Its columns are {listed(self.columns)}."
        if count:
            raise ValueError(
                f"{self.name} has {count} columns {quoted(name)}. Rename all but one of them."
            )
        guess = difflib.get_close_matches(name, self.columns, n=1, cutoff=0.5)
        hint = f"Did you mean {quoted(guess[0])}? " if guess else ""
        raise ValueError(f"{self.name} has no column {quoted(name)}. {hint}{known}")

    def place(self, position: int, column: str) -> str:
        """Name a cell for a message."""
        return f"{self.name}, {self.unit} {position}, column {quoted(column)}"


def is_table_file(file: Path) -> bool:
    """Return whether the name of a file says that it is a table."""
    return _suffix(file) in (CSV, TSV, *JSON, PARQUET)


def is_json_file(file: Path) -> bool:
    """Return whether the name of a file says that it holds JSON lines."""
    return _suffix(file) in JSON


def open_table(table: Any, expected: Iterable[str], encoding: str) -> Table:
    """Find the columns of a file or frame.

    Parameters
    ----------
    table : str, path-like or frame
        A file, whose format its name says, or a frame of pandas, polars or pyarrow.
    expected : iterable of str
        Names of columns. The delimiter of a CSV file is the one that finds most of them.
    encoding : str
        Encoding of CSV, TSV and JSON files.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ImportError
        If the file is a Parquet file, and pyarrow is not installed.
    TypeError
        If `table` is neither a path nor a frame.
    ValueError
        If the name of the file is not that of a table, or the file is malformed.
    """
    if hasattr(table, "columns"):
        return _frame(table)
    if not isinstance(table, str | PathLike):
        raise TypeError(
            f"a table must be a path or a frame, got {type(table).__name__}. Pass the name of a "
            "file, or a DataFrame."
        )
    file = user_path(table)
    suffix = _suffix(file)
    if suffix == CSV:
        return _csv_file(file, set(expected), encoding, DELIMITERS)
    if suffix == TSV:
        return _csv_file(file, set(expected), encoding, ("\t",))
    if suffix in JSON:
        return _json_file(file, encoding)
    if suffix == PARQUET:
        return _parquet_file(file)
    raise ValueError(
        f"{file} is not a table that can be read. Pass a file whose name ends in .csv, .tsv, "
        ".jsonl, .ndjson or .parquet. Save spreadsheets as CSV."
    )


def _suffix(file: Path) -> str:
    return Path(file.name.lower().removesuffix(".gz")).suffix


# ---------------------------------------------------------------------- frames


def _frame(frame: Any) -> Table:
    # The `columns` of pyarrow are not the names.
    names = list(getattr(frame, "column_names", frame.columns))

    def rows(indices: Sequence[int]) -> Iterator[tuple[int, Sequence[Any]]]:
        return enumerate(zip(*(as_list(frame[names[i]]) for i in indices), strict=True))

    return Table("the frame", "row", list(map(str, names)), rows)


# ---------------------------------------------------------------------- CSV


def _csv_file(file: Path, expected: set[str], encoding: str, delimiters: Sequence[str]) -> Table:
    first = next((line for line in read_lines(file, encoding) if line.strip()), None)
    if first is None:
        raise ValueError(f"{file} is empty. The first line must name the columns.")

    def fit(delimiter: str) -> tuple[int, int]:
        names = set(map(str.strip, next(csv.reader([first], delimiter=delimiter))))
        return len(names & expected), len(names)

    delimiter = max(delimiters, key=fit)
    _, header = next(_records(file, encoding, delimiter))
    n_columns = len(header)

    def rows(indices: Sequence[int]) -> Iterator[tuple[int, Sequence[Any]]]:
        records = _records(file, encoding, delimiter)
        next(records)
        for number, cells in records:
            if any(cells[n_columns:]):
                raise ValueError(
                    f"{file}, line {number}: {len(cells)} cells, but {n_columns} columns. Put "
                    f"cells that contain {quoted(delimiter)} into double quotes."
                )
            cells += [""] * (n_columns - len(cells))  # some programs leave out the last ones
            yield number, [cells[i] for i in indices]

    with open_binary(file) as stream:
        has_mark = stream.read(3) == codecs.BOM_UTF8
    return Table(str(file), "line", list(map(str.strip, header)), rows, delimiter, has_mark)


def _records(file: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Read the cells of each record that is not blank, with the line at which it begins."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    lines = (line + "\n" for line in read_lines(file, encoding))
    # Unless it is strict, a missing quote makes one cell of all lines that follow.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{file}, line {number}: malformed cells ({error}). Close each quote, and double "
                "the quotes inside of quoted cells."
            ) from error
        if cells is None:
            return
        if any(cells) or len(cells) == 1:
            yield number, cells


# ---------------------------------------------------------------------- JSON and Parquet


def _json_file(file: Path, encoding: str) -> Table:
    records = read_records(file, encoding)
    columns = list(dict.fromkeys(name for _, record in records for name in record))

    def rows(indices: Sequence[int]) -> Iterator[tuple[int, Sequence[Any]]]:
        for number, record in read_records(file, encoding):
            yield number, [record.get(columns[i]) for i in indices]

    return Table(str(file), "line", columns, rows)


def _parquet_file(file: Path) -> Table:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{file} is a Parquet file, which pyarrow reads. It is not installed. Run: pip install "
            "pyarrow"
        ) from error
    with file.open("rb") as stream:
        try:
            columns = parquet.ParquetFile(stream).schema_arrow.names
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{file} is not a complete Parquet file ({error}). Write or download it again."
            ) from error

    def rows(indices: Sequence[int]) -> Iterator[tuple[int, Sequence[Any]]]:
        names = [columns[i] for i in indices]
        with file.open("rb") as stream:
            batches = parquet.ParquetFile(stream).iter_batches(columns=names)
            blocks = ([b.column(name).to_pylist() for name in names] for b in batches)
            yield from enumerate(chain.from_iterable(zip(*block, strict=True) for block in blocks))

    return Table(str(file), "row", columns, rows)
