"""Reader of a user's own table: columns of texts, and columns of labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import chain, compress
from numbers import Real
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import Bunch, check_random_state

from skxmc._input.types import RandomState
from skxmc._input.values import as_list, is_missing
from skxmc._utils.quoting import quoted
from skxmc._utils.warnings import warn_user
from skxmc.datasets._csr import Integers, binary_csr, flatten
from skxmc.datasets._label_lines import MIN_RECURRING, MIN_SUSPICIOUS, SEPARATORS, split_labels
from skxmc.datasets._table_files import Table, open_table

# The share of texts that test="auto" holds out, and the most.
AUTO_TEST_SHARE, MAX_AUTO_TEST = 0.1, 2000
# Fewer distinct values with a separator are no hint that it joins labels.
MIN_JOINED = 3
# Values of several columns with one label each, and whether the text has the label.
INDICATOR = {"0": False, "0.0": False, "False": False, "1": True, "1.0": True, "True": True}


class _Part(NamedTuple):
    texts: list[str]
    labels: list[list[str]]


def load_table(
    table: str | PathLike[str] | Any,
    *,
    text: str | Iterable[str],
    labels: str | Iterable[str],
    separator: str | None = None,
    test: str | PathLike[str] | float | Any = None,
    encoding: str = "utf-8",
    random_state: RandomState = 0,
) -> Bunch:
    r"""Read texts and labels from a table: a CSV, TSV, JSON lines or Parquet file, or a frame.

    The name of a file says its format:

    - ``.csv`` or ``.tsv``. The first line names the columns. The cells of a CSV file are separated
      by ``,``, ``;``, ``|`` or tabs. Lines without any value are skipped.
    - ``.jsonl``, ``.ndjson`` or ``.json``, with one JSON object per line.
    - ``.parquet``, which needs the extra ``[table]``.

    All but Parquet files may also be gzipped (``.csv.gz``). Empty cells, None and NaN are empty
    texts, or no labels.

    Read more in the user guide: :doc:`/guide/data`.

    Parameters
    ----------
    table : str, path-like or frame
        A file, or a DataFrame of pandas or polars, or a table of pyarrow.
    text : str or iterable of str
        The column of the texts. Several columns, such as a title and a body, are joined by a blank.
    labels : str or iterable of str
        The column of the labels. Its cells are strings (see `separator`) or lists. The labels of
        several columns are put together. If several columns hold nothing but 0 and 1, or False and
        True, their names are the labels of the texts with a 1.
    separator : str, default=None
        Text between labels in one cell, such as ``"; "``. Blanks around labels are removed, and
        empty labels too. None reads each cell as one label.
    test : str, path-like, frame or float, default=None
        The test part: another table with the same columns, or the share of the texts to hold out.
        "auto" is a share of 0.1, and at most 2,000 texts. Equal texts stay together in one part.
        None makes no test part.
    encoding : str, default="utf-8"
        Encoding of CSV, TSV and JSON files. Files of Excel may need "cp1252".
    random_state : int, RandomState instance or None, default=0
        Seed for the choice of held-out texts.

    Returns
    -------
    Bunch
        A dict whose entries are attributes too, as `load_xmc` returns it.

        ``X_train``, ``X_test`` : list of str
            The texts, in the order of the table.
        ``y_train``, ``y_test`` : csr_array of float32, shape (n_texts, n_labels)
            1 for the labels of a text. A repeated label of a text counts once.
        ``label_names`` : ndarray of object (str), shape (n_labels,)
            The sorted labels of the training part.
        ``n_unknown_test`` : ndarray of int64, shape (n_test_texts,)
            Number of labels per test text that have no column, because they do not occur in the
            training part.
        ``filter_test`` : csr_array of float32, shape (n_test_texts, n_labels)
            No entries.

        If there is no test part, the values of the test part are None.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ImportError
        If the file is a Parquet file, and pyarrow is not installed.
    TypeError
        If `table` is neither a path nor a frame, or a cell is no string, number or list.
    ValueError
        If a file is malformed, has no such column or no label. The message names the file, the
        line and the column. Also if too few different texts are left to hold some out.

    Warns
    -----
    UserWarning
        If labels look like several labels in one string, which `separator` would split.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skxmc.datasets import load_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "acts.csv")
    ...     _ = file.write_text("title,subjects\nTaxes on land,tax; land\nLand law,land; law\n")
    ...     data = load_table(file, text="title", labels="subjects", separator="; ")
    >>> data.X_train
    ['Taxes on land', 'Land law']
    >>> data.label_names.tolist()
    ['land', 'law', 'tax']
    >>> data.y_train.toarray()
    array([[1., 0., 1.],
           [1., 1., 0.]], dtype=float32)
    """
    if separator == "":
        raise ValueError("separator is empty. Pass the text between labels, or None for none.")
    text, labels = ([c] if isinstance(c, str) else list(c) for c in (text, labels))
    train = _read(table, text, labels, separator, encoding)
    held_out = None
    if test == "auto" if isinstance(test, str) else isinstance(test, Real):
        train, held_out = _hold_out(train, test, random_state)
    elif test is not None:
        held_out = _read(test, text, labels, separator, encoding)
    names = sorted(set(chain.from_iterable(train.labels)))
    if not names:
        raise ValueError(
            f"The training part has no label in column {' or '.join(map(quoted, labels))}. Pass "
            "the column of the labels."
        )
    y_train, _ = _matrix(train.labels, names)
    data = Bunch(X_train=train.texts, y_train=y_train, X_test=None, y_test=None)
    data.update(label_names=np.array(names, dtype=object), n_unknown_test=None, filter_test=None)
    if held_out is not None:
        y_test, n_unknown = _matrix(held_out.labels, names)
        data.update(X_test=held_out.texts, y_test=y_test, n_unknown_test=n_unknown)
        data.filter_test = sparse.csr_array(y_test.shape, dtype=np.float32)
    return data


# ---------------------------------------------------------------------- cells


def _read(
    source: Any, text: list[str], labels: list[str], separator: str | None, encoding: str
) -> _Part:
    table = open_table(source, [*text, *labels], encoding)
    columns = [table.find(name) for name in (*text, *labels)]
    texts: list[str] = []
    # For each row, the labels of each column.
    rows: list[list[list[str]]] = []
    strings: set[str] = set()
    for position, cells in table.rows(columns):
        texts.append(join_texts(table, position, text, cells[: len(text)]))
        row = []
        for name, cell in zip(labels, cells[len(text) :], strict=True):
            if isinstance(cell, list | tuple | np.ndarray):
                found = [_as_str(label, table, position, name) for label in as_list(cell)]
            else:
                value = _as_str(cell, table, position, name)
                strings.add(value)
                found = [value] if separator is None else value.split(separator)
            row.append([label for label in map(str.strip, found) if label])
        rows.append(row)
    if separator is None or not any(separator in value for value in strings):
        _warn_of_separator(table.name, labels, strings)
    if len(labels) > 1 and INDICATOR.keys() >= {x for row in rows for cell in row for x in cell}:
        chosen = [[any(map(INDICATOR.get, cell)) for cell in row] for row in rows]
        return _Part(texts, [list(compress(labels, row)) for row in chosen])
    return _Part(texts, [list(chain.from_iterable(row)) for row in rows])


def join_texts(table: Table, position: int, columns: Iterable[str], cells: Iterable[Any]) -> str:
    """Return the text of a row. Empty cells add nothing."""
    values = [
        _as_str(cell, table, position, name) for name, cell in zip(columns, cells, strict=True)
    ]
    return " ".join(filter(None, values))


def _as_str(value: Any, table: Table, position: int, column: str) -> str:
    if isinstance(value, str):
        return value
    if is_missing(value):
        return ""
    if isinstance(value, int | float | np.integer | np.floating | np.bool_):
        # Columns of whole numbers with missing values are floats in a frame.
        return str(int(value) if value % 1 == 0 else value)
    raise TypeError(
        f"{table.place(position, column)}: {quoted(value)} of type {type(value).__name__} is no "
        "string, number or list of labels. Convert the column to strings."
    )


def _warn_of_separator(name: str, columns: list[str], values: set[str]) -> None:
    """Warn of values that look like several labels in one string."""
    filled = [value for value in values if value.strip()]
    for separator in SEPARATORS:
        marked = [value for value in filled if separator in value]
        if len(marked) < max(MIN_SUSPICIOUS * len(filled), MIN_JOINED):
            continue
        # Parts of a name, such as "Smith, John", occur in one value each.
        counts = Counter(part for value in filled for part in split_labels(value, separator))
        recurring = sum(count for count in counts.values() if count > 1)
        if recurring >= MIN_RECURRING * counts.total():
            blank = all(value.count(separator) == value.count(f"{separator} ") for value in marked)
            separator = f"{separator} " if blank else separator
            warn_user(
                f"{name}, column {' or '.join(map(quoted, columns))}: {quoted(min(marked))} and "
                f"other values look like several labels joined by {quoted(separator)}. Pass "
                f"separator={quoted(separator)} to split them."
            )
            return


# ---------------------------------------------------------------------- parts


def _matrix(rows: list[list[str]], names: list[str]) -> tuple[sparse.csr_array, Integers]:
    """Build the matrix of labels, and count each row's labels without a column."""
    column = {name: j for j, name in enumerate(names)}
    known = [[column[label] for label in row if label in column] for row in rows]
    n_unknown = [len({label for label in row if label not in column}) for row in rows]
    return binary_csr(*flatten(known), len(names)), np.array(n_unknown, dtype=np.int64)


def _hold_out(part: _Part, test: Any, random_state: RandomState) -> tuple[_Part, _Part]:
    """Split off a share of the texts, with equal texts in one part."""
    n_texts = len(part.texts)
    if test == "auto":
        n_test = min(math.ceil(AUTO_TEST_SHARE * n_texts), MAX_AUTO_TEST)
    elif 0 < test < 1:
        n_test = math.ceil(test * n_texts)
    else:
        raise ValueError(
            f"test={quoted(test)} is not a share between 0 and 1. Pass one such as 0.1, another "
            "table, or None."
        )
    numbers: dict[str, int] = {}
    group = np.array([numbers.setdefault(text, len(numbers)) for text in part.texts], dtype=int)
    sizes = np.bincount(group)
    order = check_random_state(random_state).permutation(len(sizes))
    order = order[sizes[order] <= n_test]  # not a text, such as the empty one, that fills the part
    chosen = order[np.cumsum(sizes[order]) <= n_test]
    is_test = np.isin(group, chosen)
    if not is_test.any() or is_test.all():
        raise ValueError(
            f"The table has too few different texts to hold out {n_test} of {n_texts}. Pass "
            "another table as test, or None."
        )
    return _rows(part, ~is_test), _rows(part, is_test)


def _rows(part: _Part, chosen: NDArray[np.bool_]) -> _Part:
    return _Part(list(compress(part.texts, chosen)), list(compress(part.labels, chosen)))
