"""Text files of the Extreme Classification Repository that hold a sparse matrix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import sparse

from skxmc._utils.quoting import quoted
from skxmc.datasets._csr import binary_csr, flatten
from skxmc.datasets._lines import read_lines


def read_pairs(file: Path, encoding: str) -> sparse.csr_array:
    """Read a matrix of the Repository: its shape, then `column:value` pairs in a line per row."""
    lines = read_lines(file, encoding)
    header = next(lines, "").split()
    if len(header) != 2 or not all(number.isdecimal() for number in header):
        raise ValueError(
            f"{file}, line 1: {quoted(' '.join(header))} is not a header. Write the numbers of "
            "texts and of labels."
        )
    n_rows, n_columns = map(int, header)

    def rows() -> Iterator[list[int]]:
        for number, line in enumerate(lines, start=2):
            found = []
            for pair in line.split():
                column, _, value = pair.partition(":")
                try:
                    is_pair = column.isdecimal() and int(column) < n_columns
                    weight = float(value or 1)
                except ValueError:  # no number, or one of too many digits
                    is_pair = False
                if not is_pair:
                    raise ValueError(
                        f"{file}, line {number}: {quoted(pair)} is not a pair column:value with a "
                        f"column from 0 to {n_columns - 1}. Count the labels from 0."
                    )
                if weight > 0:
                    found.append(int(column))
            yield found

    y = binary_csr(*flatten(rows()), n_columns)
    if y.shape[0] != n_rows:
        raise ValueError(
            f"{file} has {y.shape[0]} rows, but its header says {n_rows}. Download it again."
        )
    return y


def read_filter(file: Path | None, shape: tuple[int, int]) -> sparse.csr_array:
    """Read the pairs of test texts and labels that are not to be predicted."""
    pairs: list[tuple[int, int]] = []
    for number, line in enumerate(read_lines(file, "utf-8") if file else (), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ValueError(
                f"{file}, line {number}: {quoted(line)} is not a pair of row and column. Write two "
                "numbers per line."
            )
        row, column = map(int, parts)
        if row >= shape[0] or column >= shape[1]:
            raise ValueError(
                f"{file}, line {number}: row {row}, column {column} is outside the test part of "
                f"{shape[0]} texts and {shape[1]} labels. Use the file of the same data set."
            )
        pairs.append((row, column))
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    matrix = sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.data[:] = 1
    return matrix
