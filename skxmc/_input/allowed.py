"""Labels that a prediction may return: names or masks of users become masks over columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skxmc._input.sparse import has_entries, row_of_entry
from skxmc._input.types import LabelChoice
from skxmc._input.validation import align_labels, check_labels, find_columns, names_labels
from skxmc._input.values import as_list, is_sequence, ndim_of
from skxmc._utils.quoting import quoted

CSR = TypeVar("CSR", sparse.csr_array, sparse.csr_matrix)


@dataclass(frozen=True)
class AllowedLabels:
    """Labels that may be predicted: those in `allow`, without those in `exclude`.

    Parameters
    ----------
    n_labels : int
        Number of all labels.
    allow, exclude : csr_array of shape (n_texts, n_labels) or (1, n_labels), or None
        Canonical masks. One row holds for all texts. None allows or excludes nothing in particular.
    """

    n_labels: int
    allow: sparse.csr_array | None
    exclude: sparse.csr_array | None

    def of(self, texts: slice | NDArray[np.int64]) -> AllowedLabels:
        """Select the masks of some texts."""
        masks = (
            mask if mask is None or mask.shape[0] == 1 else mask[texts]
            for mask in (self.allow, self.exclude)
        )
        return AllowedLabels(self.n_labels, *masks)

    def includes(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Check which labels are allowed for the texts `rows`. Column -1 never is."""
        allowed = columns >= 0
        if self.allow is not None:
            allowed &= has_entries(self.allow, rows * (self.allow.shape[0] > 1), columns)
        if self.exclude is not None:
            allowed &= ~has_entries(self.exclude, rows * (self.exclude.shape[0] > 1), columns)
        return allowed

    def kept(self, scores: CSR) -> CSR:
        """Drop the entries of labels that are not allowed."""
        rows = row_of_entry(scores)
        is_kept = self.includes(rows, scores.indices)
        ends = np.cumsum(np.bincount(rows[is_kept], minlength=scores.shape[0]))
        arrays = scores.data[is_kept], scores.indices[is_kept], np.concatenate([[0], ends])
        return type(scores)(arrays, shape=scores.shape)

    def first(
        self, columns: NDArray[np.int64], scores: NDArray[Any], k: int
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Keep the first k allowed labels of each text, in their order.

        Parameters
        ----------
        columns, scores : ndarray of shape (n_texts, n)
            Labels of each text, best first.
        k : int
            Number of labels per text.

        Returns
        -------
        columns, scores : ndarray of shape (n_texts, k)
            Columns are -1 and scores 0 where no label is left.
        """
        allowed = self.includes(np.arange(len(columns))[:, np.newaxis], columns)
        order = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(allowed, order, axis=1)
        columns = np.where(found, np.take_along_axis(columns, order, axis=1), -1)
        return columns, np.where(found, np.take_along_axis(scores, order, axis=1), 0)

    def n_enough(self, k: int) -> int:
        """Return a number of labels of which at least k are allowed for each text, or all."""
        least = int(self._n_allowed().min(initial=self.n_labels))
        return min(k + self.n_labels - least, self.n_labels)

    def lacks(self, columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for which texts more allowed labels exist than the (n_texts, k) that were found.

        Columns are -1 where no label was found.
        """
        return (columns >= 0).sum(axis=1) < np.minimum(self._n_allowed(), columns.shape[1])

    def _n_allowed(self) -> NDArray[np.int64]:
        """Return how many labels each text may have."""
        n_allowed = np.array([self.n_labels])
        n_excluded = np.array([0])
        if self.allow is not None:
            n_allowed = np.diff(self.allow.indptr)
        if self.exclude is not None:
            excluded = self.exclude
            if self.allow is not None:
                excluded = self.allow.multiply(self.exclude).tocsr()
            n_excluded = np.diff(excluded.indptr)
        return n_allowed - n_excluded


def check_allowed(
    exclude: LabelChoice | None,
    allow: LabelChoice | None,
    classes: NDArray[Any],
    n_texts: int,
) -> AllowedLabels | None:
    """Check the labels that a user excludes or allows.

    Parameters
    ----------
    exclude, allow : list or set of labels, matrix, frame, list of label collections, or None
        Labels for all texts, or for each text in any form of y.
    classes : ndarray of shape (n_labels,)
        Labels of the model.
    n_texts : int
        Number of texts.

    Returns
    -------
    AllowedLabels or None
        None if all labels are allowed.

    Raises
    ------
    TypeError, ValueError
        If a label or mask is malformed, or if a label is none of `classes`.
    """
    if exclude is None and allow is None:
        return None
    masks = (
        None if labels is None else _as_mask(labels, name, classes, n_texts)
        for labels, name in ((allow, "allow"), (exclude, "exclude"))
    )
    return AllowedLabels(len(classes), *masks)


def _as_mask(
    labels: LabelChoice, name: str, classes: NDArray[Any], n_texts: int
) -> sparse.csr_array:
    if isinstance(labels, str):
        raise TypeError(f"{name} is the string {quoted(labels)}. Pass a list of labels.")
    if isinstance(labels, set | frozenset):
        labels = list(labels)
    if not (is_sequence(labels) or ndim_of(labels) == 2):
        raise TypeError(
            f"{name} is {quoted(labels)}. Pass a list of labels, or a list or a mask per text."
        )
    if _is_list_of_labels(labels):
        names = np.array(as_list(labels), dtype=object)
        columns = np.unique(find_columns(names, classes, name))
        _check_known(names, classes, name)
        ends = np.array([0, len(columns)])
        return sparse.csr_array(
            (np.ones(len(columns), dtype=bool), columns, ends), shape=(1, len(classes))
        )
    if not names_labels(labels):
        return check_labels(labels, name=name, classes=classes, n_texts=n_texts).matrix
    named = check_labels(labels, name=name, n_texts=n_texts, allow_none=True)
    _check_known(named.classes, classes, name)
    return align_labels(named, classes).matrix


def _is_list_of_labels(labels: Any) -> bool:
    if ndim_of(labels) != 1 or not is_sequence(labels):
        return False
    return all(isinstance(label, str | int | np.integer) for label in as_list(labels))


def _check_known(names: NDArray[Any], classes: NDArray[Any], name: str) -> None:
    unknown = find_columns(names, classes, name) < 0
    if unknown.any():
        raise ValueError(
            f"{name} holds {quoted(names[unknown.argmax()])}, which is none of the classes. Spell "
            "the labels as in fit, or leave out those that the model does not know."
        )
