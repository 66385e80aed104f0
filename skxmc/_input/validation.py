"""Checks of labels: any form becomes one CSR indicator and classes, or an error with a remedy.

Wrong types raise ``TypeError``, wrong contents ``ValueError``. If scikit-learn has its own wording
or choice of error, it is kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import chain, islice, repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer

from skxmc._input.folds import hint_on_folds, of_labels
from skxmc._input.sparse import as_array, checked_csr, narrow_indices, row_of_entry
from skxmc._input.types import LabelsOfTexts, PerLabel
from skxmc._input.values import as_list, describe, is_missing, is_sequence, ndim_of
from skxmc._utils.quoting import MAX_QUOTED, quoted, quoted_type, shortened
from skxmc._utils.warnings import warn_user

MAX_INT64 = np.iinfo(np.int64).max
# Separators of labels in strings, in the order in which messages look for them.
SEPARATORS = ("; ", ";", "|", ", ", ",")
# Characters that show nothing: soft hyphen, zero-width blanks and joiners, byte order mark.
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")


class Labels(NamedTuple):
    """Result of `check_labels`.

    Attributes
    ----------
    matrix : csr_array of shape (n_texts, n_labels), float32
        Canonical indicator: sorted, without duplicates or stored zeros, every stored value 1.
    classes : ndarray of shape (n_labels,), int64 or object
        Label of each column. Labels that are ``str`` are in an object array, because in a
        fixed-width one each label takes as much memory as the longest.
    n_unknown : ndarray of shape (n_texts,), int64
        Number of true labels of each text that are not in `classes`.
    """

    matrix: sparse.csr_array
    classes: NDArray[Any]
    n_unknown: NDArray[np.int64]


def check_labels(
    y: LabelsOfTexts,
    *,
    name: str = "y",
    classes: ArrayLike | None = None,
    label_names: PerLabel | None = None,
    n_texts: int | None = None,
    require_positive: bool = False,
    allow_none: bool = False,
) -> Labels:
    """Check labels in any form and return them as a canonical CSR indicator, without changing y.

    Parameters
    ----------
    y : Labels, sparse matrix or array, 2-D array, frame, or sequence of collections
        - result of this function, which is returned again;
        - scipy sparse matrix or array of any format, or dense array, of shape (n_texts, n_labels)
          and dtype bool, int or float, with 0 and 1 only;
        - pandas or polars frame of such columns, whose names are the labels;
        - one collection of labels (list, tuple, set, 1-D array) per text. The labels are all
          ``str``, or all integers from 0. Nested lists are always read as collections.
    name : str, default="y"
        Name in error messages.
    classes : array-like of shape (n_labels,), default=None
        Labels of a fitted model, which become the columns of the result. Matrices must have as
        many columns. Named labels are looked up, and unknown ones are counted.
    label_names : array-like of shape (n_labels,) or callable, default=None
        Distinct names of the columns of a matrix, if there are no `classes`. None is 0, 1, ... A
        function gets the numbers of the columns and returns their names.
    n_texts : int, default=None
        Required number of rows.
    require_positive : bool, default=False
        Whether at least one text must have a label.
    allow_none : bool, default=False
        Whether y may have no columns, such as collections that are all empty.

    Returns
    -------
    Labels

    Raises
    ------
    TypeError
        If y, one of its columns or a label has a wrong type.
    ValueError
        If shapes disagree, an indicator is not binary, a sparse matrix is broken, names repeat or
        mix str and int, or nothing is left to learn from.
    """
    if isinstance(y, Labels):
        return y
    names: NDArray[Any] | None
    if sparse.issparse(y):
        matrix, names = checked_csr(y, name), None
    elif not names_labels(y):
        matrix, names = _read_dense(y, name), None
    elif ndim_of(y) == 2:
        matrix, names = _read_frame(y, name)
    else:
        matrix, names = _read_collections(y, name)

    if label_names is not None and names is not None:
        raise ValueError(
            f"label_names cannot be given, because {name} already names its labels. Pass {name} "
            "as a matrix, or leave label_names out."
        )
    n_rows = matrix.shape[0]
    if n_texts is not None and n_rows != n_texts:
        raise ValueError(
            f"{name} has {n_rows} rows, but there are {n_texts} texts. Pass one row per text."
        )
    if n_rows == 0:
        raise ValueError(f"{name} has no rows. Pass at least one text with labels.")
    _check_binary(matrix, name, names)

    matrix.eliminate_zeros()
    n_unknown = np.zeros(n_rows, dtype=np.int64)
    if names is None:
        columns = classes if classes is not None else label_names
        names = _column_labels(columns, matrix.shape, name, given=classes is not None)
    elif classes is not None:
        classes = label_array(classes, "classes")
        matrix, n_unknown = _align(matrix, names, classes, name)
        names = classes
    matrix.data = np.ones(matrix.nnz, dtype=np.float32)
    narrow_indices(matrix)

    if classes is None:
        _warn_of_likes(names, name if label_names is None else "label_names")
    labels = Labels(matrix, names, n_unknown)
    if matrix.nnz == 0 and require_positive:
        check_some_known(labels, name)
        raise ValueError(f"{name} holds no positive label at all. Give at least one text a label.")
    if matrix.shape[1] == 0 and not allow_none:
        raise ValueError(f"{name} holds no labels. Pass at least one column or label.")
    return labels


def check_some_known(labels: Labels, name: str) -> None:
    """Check that the model knows one of the labels, if there are any."""
    if labels.n_unknown.any() and labels.matrix.nnz == 0:
        raise ValueError(
            f"None of the labels of {name} is among the classes. The first class is "
            f"{quoted(labels.classes.tolist()[0])}. Spell the labels of {name} as in fit."
        )


def align_labels(labels: Labels, classes: NDArray[Any]) -> Labels:
    """Move named labels, as `check_labels` returns them, to the columns of `classes`."""
    matrix, n_unknown = _align(labels.matrix, labels.classes, classes, "y")
    return Labels(matrix, classes, labels.n_unknown + n_unknown)


def with_new_labels(
    labels: Labels, classes: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Append the labels that are new to `classes`, and return the columns of all entries too."""
    columns = find_columns(labels.classes, classes, "y")
    is_new = columns < 0
    columns[is_new] = len(classes) + np.arange(np.count_nonzero(is_new))
    if is_new.any():
        classes = np.concatenate([classes, labels.classes[is_new]])
    return classes, columns[labels.matrix.indices]


def names_labels(y: LabelsOfTexts) -> bool:
    """Return whether y names its labels (a frame, collections), or only has columns."""
    return ndim_of(y) != 2 or hasattr(y, "columns")


def label_array(labels: Any, name: str) -> NDArray[Any]:
    """Convert distinct labels to a 1-D array of int64, or of object if they are ``str``."""
    if isinstance(labels, str) or not is_sequence(labels) or ndim_of(labels) != 1:
        raise TypeError(
            f"{name} must be a 1-D sequence of labels, got {describe(labels)}. Pass a list."
        )
    values = _plain_labels(as_list(labels), lambda position: f"position {position} of {name}")
    if len(set(values)) < len(values):
        twice = Counter(values).most_common(1)[0][0]
        raise ValueError(f"{name} holds {quoted(twice)} more than once. Give each label only once.")
    if values and isinstance(values[0], int):
        return np.array(values, dtype=np.int64)
    return np.array(values, dtype=object)


def find_columns(labels: NDArray[Any], classes: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return the column of each label in `classes`, or -1, in the shape of `labels`."""
    labels = np.asarray(labels)
    values = _plain_labels(
        labels.ravel().tolist(), lambda position: f"position {position} of {name}"
    )
    known = classes.tolist()
    if values and known and type(values[0]) is not type(known[0]):
        raise ValueError(
            f"{name} has labels of type {type(values[0]).__name__}, such as {quoted(values[0])}, "
            f"but the classes are of type {type(known[0]).__name__}, such as {quoted(known[0])}. "
            "Pass the labels as in fit, or a matrix with one column per class."
        )
    column_of = dict(zip(known, range(len(known)), strict=True))
    columns = np.fromiter(map(column_of.get, values, repeat(-1)), np.int64, len(values))
    return columns.reshape(labels.shape)


def _read_dense(y: LabelsOfTexts, name: str) -> sparse.csr_array:
    dense = as_array(y, name)
    if dense.dtype.kind not in "buif":
        raise TypeError(
            f"{name} is a 2-D array of {quoted_type(dense.dtype)}, but an indicator must be bool, "
            f"int or float. Pass label collections as a list of lists, {name}.tolist()."
        )
    rows, columns = np.nonzero(dense)
    values = dense[rows, columns].astype(np.float64)
    return sparse.csr_array((values, (rows, columns)), shape=dense.shape)


def _read_frame(frame: Any, name: str) -> tuple[sparse.csr_array, NDArray[Any]]:
    names = label_array(list(frame.columns), f"the columns of {name}")
    blocks = [sparse.csc_array((frame.shape[0], 0))]
    # One column at a time: frames mix dtypes, and one of sparse columns may be large.
    for column in frame.columns:
        values = np.asarray(frame[column])
        if values.dtype == object and getattr(frame[column].dtype, "kind", "O") in "buif":
            # Nullable dtypes: bool with missing values, and any before pandas 2.2.
            values = frame[column].to_numpy(np.float64, na_value=np.nan)
        if values.dtype.kind not in "buif":
            raise TypeError(
                f"column {quoted(column)} of {name} has dtype {quoted_type(values.dtype)}, but an "
                "indicator must be bool, int or float. Fill missing values with 0 and convert the "
                f"column. If it holds collections of labels, pass {name}[{quoted(column)}] alone."
            )
        blocks.append(sparse.csc_array(values.astype(np.float64)[:, np.newaxis]))
    return sparse.csr_array(sparse.hstack(blocks, format="csr")), names


def _read_collections(y: LabelsOfTexts, name: str) -> tuple[sparse.csr_array, NDArray[Any]]:
    if y is None:  # sklearn's wording, which its common checks expect
        raise ValueError(f"This estimator requires y to be passed, but the target {name} is None.")
    if isinstance(y, str) or ndim_of(y) != 1 or not is_sequence(y):
        raise ValueError(
            f"{name} must be a sparse matrix, a 2-D array, a frame, or one collection of labels "
            f"per text such as [['tax', 'law'], []], got {describe(y)}."
        )
    values = as_list(y)
    rows = [_as_collection(row, number, name, values) for number, row in enumerate(values)]
    ends = np.cumsum([len(row) for row in rows])
    labels = _plain_labels(
        list(chain.from_iterable(rows)),
        lambda position: f"row {np.searchsorted(ends, position, side='right')} of {name}",
    )
    remaining = iter(labels)
    binarizer = MultiLabelBinarizer(sparse_output=True)
    rows = [list(islice(remaining, len(row))) for row in rows]
    matrix = sparse.csr_array(binarizer.fit_transform(rows))
    matrix.sum_duplicates()
    _warn_of_indicator(rows, set(binarizer.classes_.tolist()), name)
    return matrix, label_array(binarizer.classes_, f"the labels of {name}")


def _warn_of_indicator(rows: list[list[Any]], labels: set[Any], name: str) -> None:
    """Warn if rows look like those of an indicator, whose zeros and ones would be the labels."""
    if not labels <= {0, 1} and not labels <= {"0", "1"}:
        return
    lengths = set(map(len, rows))
    if len(lengths) == 1 and lengths != {1} and any(len(set(row)) < len(row) for row in rows):
        warn_user(
            f"{name} holds rows of {lengths.pop()} zeros and ones, which are read as the labels "
            f"{quoted(rows[0][0])} and the like. If the rows are an indicator, pass "
            f"numpy.asarray({name}, dtype=int)."
        )


def _warn_of_likes(names: NDArray[Any], name: str) -> None:
    """Warn of labels that look alike: '', 'law' and ' law', other Unicode forms of one word."""
    known = names.tolist() if names.dtype == object else []
    seen: dict[str, str] = {}
    for label in known:
        plain = label.strip()
        if not plain.isascii():
            plain = unicodedata.normalize("NFC", INVISIBLE.sub("", plain)).strip()
        other = seen.setdefault(plain, label)
        if label == "":
            fault = "the empty label ''"
        elif other != label:
            first, second = sorted((other, label))
            if first.strip() != second.strip():
                warn_user(
                    f"{name} holds the labels {_escaped(first)} and {_escaped(second)}, which "
                    "differ only in invisible characters or Unicode form. If this is not intended, "
                    "replace each label by unicodedata.normalize('NFC', label) without zero-width "
                    "characters."
                )
                return
            fault = (
                f"the labels {_escaped(first)} and {_escaped(second)}, which differ only in blanks"
            )
        else:
            continue
        warn_user(
            f"{name} holds {fault}. If this is not intended, replace each row by "
            "[tag.strip() for tag in row if tag.strip()]."
        )
        return


def _escaped(label: str) -> str:
    return shortened(ascii(label), MAX_QUOTED)


def _as_collection(row: Any, number: int, name: str, values: list[Any]) -> list[Any]:
    if isinstance(row, list | tuple | set | frozenset):
        return list(row)
    if sparse.issparse(row):
        raise ValueError(
            f"row {number} of {name} is a sparse row of shape {row.shape}. Stack the rows to one "
            f"matrix, with scipy.sparse.vstack({name}), or stack 1-D rows with "
            f"scipy.sparse.vstack([row.reshape(1, -1) for row in {name}])."
        )
    if hasattr(row, "shape") and ndim_of(row) == 1:
        return as_list(row)
    remedy = "Pass an indicator as a 2-D array, a sparse matrix or a frame."
    strings = [value for value in values if isinstance(value, str)]
    if strings:
        used = (mark for mark in SEPARATORS if any(mark in value for value in strings))
        filled = f"{name}.fillna('')" if any(map(is_missing, values)) else name
        remedy = (
            "Split strings of several labels, with "
            f"{filled}.str.split({quoted(next(used, '; '))}) in pandas, or read them with "
            "skxmc.datasets.load_table."
        )
    elif is_missing(row):
        listed = f"[row if isinstance(row, list) else [] for row in {name}]"
        remedy = f"Replace missing lists by empty ones, with {listed}."
    raise ValueError(
        f"row {number} of {name} is {quoted(row)}, not a collection of labels. Give every "
        f"text a list, as in [['tax', 'law'], []], also for one label or none. {remedy}"
    )


def _plain_labels(values: list[Any], where: Callable[[int], str]) -> list[Any]:
    """Convert labels to Python's own str or int. `where` describes the position of a wrong one."""
    if not set(map(type, values)) <= {str, int}:
        values = [_plain_label(value, position, where) for position, value in enumerate(values)]
    kinds = set(map(type, values))
    if len(kinds) > 1:
        other = next(i for i, value in enumerate(values) if type(value) is not type(values[0]))
        raise ValueError(
            f"{where(other)} holds the label {quoted(values[other])}, but {where(0)} holds "
            f"{quoted(values[0])}: labels must be all str or all int. Convert them to one type."
        )
    if kinds == {int} and not (min(values) >= 0 and max(values) <= MAX_INT64):
        wrong = next(i for i, value in enumerate(values) if not 0 <= value <= MAX_INT64)
        raise ValueError(
            f"{where(wrong)} holds the label {quoted(values[wrong])}, but integer labels must be "
            "from 0 to 2**63 - 1. Pass such labels as str."
        )
    return values


def _plain_label(value: Any, position: int, where: Callable[[int], str]) -> str | int:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if is_missing(value):
        raise ValueError(
            f"{where(position)} holds the missing label {quoted(value)}. Leave it out."
        )
    raise TypeError(
        f"{where(position)} holds {quoted(value)} of type {type(value).__name__}, but labels "
        "must be str or int. Pass an indicator as a 2-D array, a sparse matrix or a frame."
    )


def _check_binary(matrix: sparse.csr_array, name: str, names: NDArray[Any] | None) -> None:
    wrong = np.flatnonzero((matrix.data != 0) & (matrix.data != 1))
    if wrong.size == 0:
        return
    entry = wrong[0]
    row = np.searchsorted(matrix.indptr, entry, side="right") - 1
    column = matrix.indices[entry]
    label = column if names is None else quoted(names[column])
    if np.isnan(matrix.data[entry]):
        remedy = f"Replace missing values by 0, with {name}.fillna(0) in pandas."
    else:
        remedy = (
            f"If it counts or weighs labels, pass {name} > 0. Duplicate entries of a sparse "
            f"matrix add up, so call {name}.sum_duplicates() before that."
        )
    raise ValueError(
        f"{name} holds {matrix.data[entry]} at row {row}, column {label}, but an indicator holds "
        f"only 0 and 1. {remedy}"
    )


def _column_labels(labels: Any, shape: tuple[int, int], name: str, *, given: bool) -> NDArray[Any]:
    """Return labels of a matrix's columns: the classes (`given`), label_names, or numbers."""
    n_rows, n_columns = shape
    numbers = np.arange(n_columns, dtype=np.int64)
    if labels is None:
        return numbers
    source = "classes" if given else "label_names"
    labels = label_array(of_labels(labels, numbers), source)
    if len(labels) != n_columns:
        raise ValueError(
            f"{name} has {n_columns} columns, but there are {len(labels)} {source}. Pass one "
            f"column for each, in the same order{', or label collections' if given else ''}."
            f"{'' if given else hint_on_folds(source, len(labels), n_rows)}"
        )
    return labels


def _align(
    matrix: sparse.csr_array, names: NDArray[Any], classes: NDArray[Any], name: str
) -> tuple[sparse.csr_array, NDArray[np.int64]]:
    """Move columns `names` to those of `classes`, and count each row's entries without a column."""
    n_rows = matrix.shape[0]
    rows = row_of_entry(matrix)
    columns = find_columns(names, classes, name)[matrix.indices]
    known = columns >= 0
    entries = (matrix.data[known], (rows[known], columns[known]))
    aligned = sparse.csr_array(entries, shape=(n_rows, len(classes)))
    narrow_indices(aligned)
    return aligned, np.bincount(rows[~known], minlength=n_rows)
