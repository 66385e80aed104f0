"""Types of what users pass. The functions of `validation` check the values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Matrix: TypeAlias = ArrayLike | sparse.sparray | sparse.spmatrix
# A list, a tuple, a one-dimensional array, or a column of pandas, polars or PyArrow.
Texts: TypeAlias = Iterable[str]
# A matrix or frame of 0 and 1, or a collection of labels per text.
LabelsOfTexts: TypeAlias = Matrix | Iterable[Collection[str | int]]
# One value per label, or a function that gets the labels and returns their values.
PerLabel: TypeAlias = ArrayLike | Callable[[NDArray[Any]], Any]
# Labels for all texts, or those of each text in any form of y.
LabelChoice: TypeAlias = Collection[str | int] | LabelsOfTexts
ValidationData: TypeAlias = tuple[Texts, LabelsOfTexts]
RandomState: TypeAlias = int | np.random.RandomState | None
# Scores of all labels per text, or a `TopK`: the best labels and their scores.
Scores: TypeAlias = Matrix | tuple[ArrayLike, ArrayLike]
Propensities: TypeAlias = ArrayLike | Mapping[str | int, float]
