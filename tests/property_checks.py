"""Checks for property tests: errors with a remedy, sound predictions, unchanged inputs."""

from __future__ import annotations

import contextlib
import copy
import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.utils._param_validation import InvalidParameterError

from skxmc import PropensityRanker

# Words that name the requirement or the remedy.
REMEDY = re.compile(
    r"\b(must|needs?|needed|requires|set|pass|give|keep|leave|lower|call|convert|replace|use|"
    r"build|decode|fill|fit)\b",
    re.IGNORECASE,
)


@contextlib.contextmanager
def refused(name, *also):
    """Check that the block raises ValueError or TypeError with `name` and a remedy."""
    with pytest.raises((ValueError, TypeError)) as caught:
        yield
    # No subclass such as UnicodeEncodeError, which our own checks never raise.
    assert type(caught.value) in (ValueError, TypeError, InvalidParameterError)
    message = str(caught.value)
    for pattern in (rf"(?<![\w.]){name}(?!\w)", *also):
        assert re.search(pattern, message), message
    assert REMEDY.search(message), message
    assert len(message.split()) >= 7, message


@contextlib.contextmanager
def unmodified(*values):
    """Check that the block changes none of the values."""
    before = copy.deepcopy([_contents(value) for value in values])
    yield
    _assert_same(before, [_contents(value) for value in values])


def _contents(value):
    """Return the contents of a value as arrays and lists."""
    if sparse.issparse(value):
        names = ("data", "indices", "indptr", "row", "col", "offsets", "rows", "_dict")
        parts = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return {**parts, "shape": value.shape}
    if isinstance(value, pd.DataFrame | pd.Series):
        return [value.to_numpy(), list(getattr(value, "columns", [])), list(value.index)]
    for method in ("to_pylist", "rows", "to_list"):  # of pyarrow and polars
        if hasattr(value, method):
            return getattr(value, method)()
    if isinstance(value, np.ndarray | list | tuple | set | frozenset):
        return value
    return list(value)


def _assert_same(left, right):
    assert type(left) is type(right)
    if isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        if left.dtype == object:
            _assert_same(left.tolist(), right.tolist())
        else:
            np.testing.assert_array_equal(left, right)
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for pair in zip(left, right, strict=True):
            _assert_same(*pair)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            _assert_same(left[key], right[key])
    elif isinstance(left, pd.Series):
        assert left.equals(right)
    else:
        assert left == right


def assert_sound_scores(scores, n_texts, n_labels):
    """Check that scores are a canonical CSR of float32 in (0, 1]."""
    assert isinstance(scores, sparse.csr_matrix)
    assert scores.shape == (n_texts, n_labels)
    assert scores.dtype == np.float32
    # Rebuilt, so that no flag of the matrix is trusted.
    arrays = scores.data, scores.indices, scores.indptr
    assert sparse.csr_matrix(arrays, shape=scores.shape).has_canonical_format
    assert ((scores.data > 0) & (scores.data <= 1)).all()


def assert_sound_predictions(clf, texts, k):
    """Check all guarantees of predictions, and that the methods agree."""
    n_texts, n_labels = len(texts), len(clf.classes_)
    labels, scores = top = clf.predict_topk(texts, k)
    assert top._fields == ("labels", "scores")
    assert labels.shape == scores.shape == (n_texts, k)
    assert labels.dtype == clf.classes_.dtype
    assert scores.dtype == np.float32
    assert ((scores > 0) & (scores <= 1)).all()
    column_of = {label: column for column, label in enumerate(clf.classes_.tolist())}
    columns = np.array([column_of[label] for label in labels.ravel().tolist()], dtype=int)
    columns = columns.reshape(labels.shape)
    for row in range(n_texts):
        ranked = list(zip(-scores[row], columns[row], strict=True))
        assert len(set(columns[row])) == k
        assert ranked == sorted(ranked)  # best first, equal scores by lower column

    recalled = clf.decision_function(texts)
    assert_sound_scores(recalled, n_texts, n_labels)
    proba = clf.predict_proba(texts)
    assert_sound_scores(proba, n_texts, n_labels)
    if not isinstance(clf, PropensityRanker):  # it ranks by other scores
        assert (proba != recalled).nnz == 0
    kept = clf.decision_function(texts, top_k=k)
    assert_sound_scores(kept, n_texts, n_labels)
    expected = np.zeros((n_texts, n_labels), dtype=np.float32)
    np.put_along_axis(expected, columns, scores, axis=1)
    np.testing.assert_array_equal(kept.toarray(), expected)

    # A label whose score is the threshold is predicted.
    for threshold in (clf.threshold, *map(float, proba.data[:1])):
        predicted = copy.copy(clf).set_params(threshold=threshold).predict(texts)
        assert isinstance(predicted, sparse.csr_matrix)
        assert predicted.dtype == np.int64
        assert (predicted.data == 1).all()
        taken = (proba.toarray() >= threshold) & (proba.toarray() > 0)
        np.testing.assert_array_equal(predicted.toarray(), taken)
