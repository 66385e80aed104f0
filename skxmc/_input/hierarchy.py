"""Hierarchies of labels: the parents that users name become the ancestors of each label."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skxmc._input.sparse import checked_csr
from skxmc._input.types import Matrix
from skxmc._input.validation import find_columns, label_array
from skxmc._input.values import is_missing
from skxmc._utils.quoting import quoted

# The parent or parents of each label. None and NaN are no parent.
LabelParents: TypeAlias = Mapping[Any, str | int | Collection[str | int] | None] | Matrix


def check_label_parents(
    label_parents: LabelParents, classes: NDArray[Any], *, adds_labels: bool
) -> tuple[NDArray[Any], sparse.csr_array]:
    """Check the parents of labels, and find all ancestors.

    Parameters
    ----------
    label_parents : mapping, or matrix of shape (n_labels, n_labels)
        Parent, or collection of parents, of each label. Labels without a parent may be missing or
        have None or NaN. In a matrix, row i holds ones in the columns of the parents of label i.
    classes : ndarray of shape (n_labels,)
        Labels.
    adds_labels : bool
        Whether ancestors that are none of `classes` become labels. If not, only their own ancestors
        count.

    Returns
    -------
    classes : ndarray of shape (n_all,)
        The same labels, and those that were added behind them.
    ancestors : csr_array of shape (n_all, n_all), float32
        1 in the columns of the ancestors of each label.

    Raises
    ------
    TypeError
        If label_parents is neither a mapping nor a matrix, or a label is neither str nor int.
    ValueError
        If a matrix has another shape, labels of both sides differ in type, a label is an ancestor
        of itself, or no label has a parent although some are given.
    """
    if isinstance(label_parents, Mapping):
        names, parents = _parents_by_name(label_parents, classes)
    else:
        names, parents = classes, _parents_by_column(label_parents, len(classes))
    ancestors = _ancestors(parents)
    in_circle = np.flatnonzero(ancestors.diagonal())
    if in_circle.size:
        raise ValueError(
            f"label_parents makes {quoted(names[in_circle[0]])} an ancestor of itself. Leave one "
            "of the parents in this circle out."
        )
    n_kept = len(classes)
    if adds_labels:
        above = np.zeros(len(names), dtype=bool)
        above[ancestors[:n_kept].indices] = True
        order = np.concatenate([np.arange(n_kept), n_kept + np.flatnonzero(above[n_kept:])])
    else:
        order = np.arange(n_kept)
    known = sparse.csr_array(ancestors[order][:, order])
    if parents.nnz and not known.nnz:
        child = names[parents.nonzero()[0][0]]
        raise ValueError(
            f"label_parents has a parent for {quoted(child)}, but no label of y has one. Map "
            "labels of y to their parents, in the spelling of y. If y is a matrix, give the "
            "parents columns too."
        )
    return names[order], known


def with_ancestors(matrix: sparse.csr_array, ancestors: sparse.csr_array) -> sparse.csr_array:
    """Add the ancestors of its labels to each text of a canonical indicator.

    The matrix may lack the last columns, which are labels that no text has yet.
    """
    n_texts, n_labels = matrix.shape[0], ancestors.shape[0]
    wide = sparse.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(n_texts, n_labels))
    full = sparse.csr_array(wide + wide @ ancestors)
    full.sort_indices()
    full.data = np.ones(full.nnz, dtype=np.float32)
    return full


def _parents_by_name(
    label_parents: Mapping[Any, Any], classes: NDArray[Any]
) -> tuple[NDArray[Any], sparse.csr_array]:
    """Return all labels that are named, `classes` first, and the matrix of their parents."""
    pairs = [
        (label, parent)
        for label, given in label_parents.items()
        for parent in _as_collection(given, label)
    ]
    named = list(dict.fromkeys(chain.from_iterable(pairs)))
    found = find_columns(np.array(named, dtype=object), classes, "label_parents")
    new = [name for name, column in zip(named, found, strict=True) if column < 0]
    names = label_array([*classes.tolist(), *new], "label_parents")
    place = dict(zip(names.tolist(), range(len(names)), strict=True))
    rows = [place[label] for label, _ in pairs]
    columns = [place[parent] for _, parent in pairs]
    shape = (len(names), len(names))
    parents = sparse.csr_array((np.ones(len(pairs)), (rows, columns)), shape=shape)
    return names, parents


def _as_collection(given: Any, label: Any) -> list[Any]:
    if is_missing(given):
        return []
    if isinstance(given, list | tuple | set | frozenset):
        return list(given)
    if isinstance(given, str | int | np.integer):
        return [given]
    raise TypeError(
        f"label_parents has {quoted(given)} of type {type(given).__name__} for the label "
        f"{quoted(label)}. Pass a label, a list of labels, or None."
    )


def _parents_by_column(matrix: Any, n_labels: int) -> sparse.csr_array:
    if not sparse.issparse(matrix):
        dense = np.asarray(matrix)
        if dense.ndim != 2 or dense.dtype.kind not in "biuf":
            raise TypeError(
                f"label_parents is {quoted(matrix)}. Pass a dict from labels to their parents, or "
                "a matrix with a row and a column per label."
            )
        matrix = sparse.csr_array(dense)
    parents = checked_csr(matrix, "label_parents")
    if parents.shape != (n_labels, n_labels):
        raise ValueError(
            f"label_parents has shape {parents.shape}, but there are {n_labels} labels. Pass a row "
            "and a column per label."
        )
    parents.eliminate_zeros()
    return parents


def _ancestors(parents: sparse.csr_array) -> sparse.csr_array:
    """Return which labels are parents, parents of parents and so on, as a canonical indicator."""
    ancestors = _indicator(parents)
    while True:
        more = _indicator(ancestors + ancestors @ ancestors)
        if more.nnz == ancestors.nnz:
            return more
        ancestors = more


def _indicator(matrix: Any) -> sparse.csr_array:
    csr = sparse.csr_array(matrix)
    csr.sum_duplicates()
    csr.data = np.ones(csr.nnz, dtype=np.float32)
    return csr
