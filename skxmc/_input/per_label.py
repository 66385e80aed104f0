"""Values that users pass per label, put in the order of the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skxmc._input.folds import hint_on_folds, of_labels
from skxmc._input.texts import check_texts
from skxmc._utils.quoting import quoted

LabelTexts: TypeAlias = (
    Iterable[str | None]
    | Mapping[Any, str | None]
    | Callable[[NDArray[Any]], Iterable[str | None] | Mapping[Any, str | None]]
)


def rows_by_label(values: Any, classes: NDArray[Any], name: str, n_texts: int | None = None) -> Any:
    """Put values with an index of labels, such as a pandas Series, in the order of `classes`.

    Parameters
    ----------
    values : object
        One value or row per label.
    classes : ndarray of shape (n_labels,)
        Labels.
    name : str
        Name in error messages.
    n_texts : int, default=None
        Number of texts, for the error message about values that were cut for a fold.

    Returns
    -------
    object
        `values` itself if they have no index, or one that only counts, else a copy in order.

    Raises
    ------
    ValueError
        If the index is neither a count nor the labels.
    """
    axis = getattr(values, "index", None)
    order = _order(axis, classes, f"the index of {name}", name, n_texts)
    return values if order is None else values.iloc[order]


def list_by_label(
    values: Mapping[Any, Any], classes: NDArray[Any], name: str, default: Any = None
) -> list[Any]:
    """Return the value of each label in the order of `classes`, or `default` if it has none.

    Raises
    ------
    ValueError
        If a key is not a label.
    """
    known = set(classes.tolist())
    unknown = next((label for label in values if label not in known), None)
    if unknown is not None:
        raise ValueError(
            f"{name} has an entry for {quoted(unknown)}, which is not a label. The first label is "
            f"{quoted(classes.tolist()[0])}. Spell the labels as in y."
        )
    return [values.get(label, default) for label in classes.tolist()]


def plain_column(values: Any) -> Any:
    """Convert a column of pandas, polars or pyarrow to a dict by its index, or else to an array.

    It becomes an array if it has no index, one that counts from 0, or one that repeats an entry.
    Other values are returned as they are.
    """
    if not (hasattr(values, "to_list") or hasattr(values, "to_pylist")):
        return values
    array = np.asarray(values)
    index: Any = getattr(values, "index", None)  # arrays of pyarrow have a method of this name
    labels = index.tolist() if hasattr(index, "tolist") else []
    if labels == list(range(len(array))) or len(set(labels)) < len(array):
        return array
    return dict(zip(labels, array.tolist(), strict=True))


def columns_by_label(values: Any, classes: NDArray[Any], name: str) -> Any:
    """Do the same as `rows_by_label` with the columns of a frame."""
    order = _order(column_labels(values), classes, f"the header of {name}", name)
    if order is None:
        return values
    return values.iloc[:, order] if hasattr(values, "iloc") else values[:, order.tolist()]


def column_labels(values: Any) -> Any:
    """Return the columns of a frame, or None if it is not a frame or they only count."""
    columns = getattr(values, "columns", None)
    if isinstance(columns, list):  # polars, which names columns "column_0" and so on by default
        counted = [f"column_{i}" for i in range(len(columns))]
        return None if columns == counted else np.array(columns, dtype=object)
    return None if type(columns).__name__ == "RangeIndex" else columns


def check_label_texts(
    label_texts: LabelTexts, classes: NDArray[Any], n_texts: int | None = None
) -> list[str]:
    """Check the text about each label, and return it in the order of `classes`.

    Parameters
    ----------
    label_texts : array-like of shape (n_labels,), Series, dict, or callable
        One text per label, in the order of `classes`. A Series with an index of labels and a dict
        go by label. None, NaN and missing keys are empty texts. A function gets `classes` and
        returns one of these.
    classes : ndarray of shape (n_labels,)
        Labels.
    n_texts : int, default=None
        Number of texts of `fit`, for error messages.

    Raises
    ------
    TypeError
        If label_texts is not a sequence, or an entry is neither a text nor missing.
    ValueError
        If label_texts is a bare string, has another length than the labels, or names a label that
        is not there.
    """
    label_texts = of_labels(label_texts, classes)
    if isinstance(label_texts, Mapping):
        label_texts = list_by_label(label_texts, classes, "label_texts")
    label_texts = rows_by_label(label_texts, classes, "label_texts", n_texts)
    texts = check_texts(label_texts, name="label_texts", allow_empty=True, allow_missing=True)
    if len(texts) != len(classes):
        raise ValueError(
            f"label_texts has {len(texts)} entries, but there are {len(classes)} labels. Pass one "
            "text per label, in the order of classes_, and None for a label without a text."
            f"{hint_on_folds('label_texts', len(texts), n_texts)}"
        )
    return texts


def _order(
    axis: Any, classes: NDArray[Any], where: str, name: str, n_texts: int | None = None
) -> NDArray[np.int64] | None:
    """Return the place of each label of `classes` on an axis, or None if the axis only counts."""
    if not (hasattr(axis, "tolist") and hasattr(axis, "dtype")):
        return None  # not an axis of pandas or polars: lists have a method of the name "index"
    if type(axis).__name__ == "RangeIndex":
        return None
    found, wanted = axis.tolist(), classes.tolist()
    if len(found) == len(wanted) and set(found) == set(wanted):
        place = dict(zip(found, range(len(found)), strict=True))
        return np.array([place[label] for label in wanted])
    if found == list(range(len(found))):
        return None
    known = set(wanted)
    strange = next((label for label in found if label not in known), None)
    fault = (
        f"holds {len(found)} of {len(wanted)} labels"
        if strange is None
        else f"holds {quoted(strange)}, which is not a label"
    )
    raise ValueError(
        f"{where} {fault}. Name every label once, or pass {name}.to_numpy() to go by position."
        f"{hint_on_folds(name, len(found), n_texts)}"
    )
