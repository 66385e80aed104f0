"""Values of users of any library: sequences, columns and missing values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# Methods that convert a column to a list: of PyArrow, of polars and pandas, of NumPy.
COLUMN_METHODS = ("to_pylist", "to_list", "tolist")


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or another missing value of pandas."""
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    # By the name of the type, so that pandas need not be imported.
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def is_sequence(values: Any) -> bool:
    """Return whether values have a length and an order. Generators and sets do not."""
    unsuited = bytes | bytearray | Mapping | set | frozenset | type
    return hasattr(values, "__len__") and not isinstance(values, unsuited)


def ndim_of(values: Any) -> int:
    """Return the number of dimensions, 1 for what has no shape."""
    shape = getattr(values, "shape", None)
    return len(shape) if isinstance(shape, tuple) else 1


def as_list(values: Any) -> list[Any]:
    """Convert a sequence, or a column of pandas, polars or pyarrow, to a list of Python values."""
    for method in COLUMN_METHODS:
        if hasattr(values, method):
            return getattr(values, method)()
    return list(values)


def describe(values: Any) -> str:
    """Name type and shape of a value for a message."""
    shape = getattr(values, "shape", None)
    return type(values).__name__ + (f" of shape {shape}" if isinstance(shape, tuple) else "")
