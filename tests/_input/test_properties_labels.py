"""Properties of labels: all forms become the same matrix, and bad input is refused by name."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from property_checks import refused, unmodified
from scipy import sparse
from strategies import (
    SPARSE_FORMATS,
    as_collections,
    as_dense,
    as_frame,
    as_sparse,
    broken_sparse,
    cases,
    indicators,
    label_names,
    labels_of,
    no_labels,
    stored_as,
    wrong_value,
)
from validation_helpers import assert_canonical

from skxmc._input.sparse import checked_csr
from skxmc._input.validation import check_labels


@cases(15)
@given(st.data(), indicators())
def test_check_labels_any_sparse_matrix_becomes_canonical(data, dense):
    y = data.draw(as_sparse(dense))
    with unmodified(y):
        labels = check_labels(y, n_texts=len(dense))
    assert_canonical(labels, dense)
    assert labels.classes.tolist() == list(range(dense.shape[1]))
    assert check_labels(labels) is labels
    labels.matrix.data[:] = 7
    with unmodified(y):
        assert_canonical(check_labels(y), dense)


@cases(5)
@given(st.data(), indicators())
def test_check_labels_any_dense_array_becomes_canonical(data, dense):
    y = data.draw(as_dense(dense))
    names = data.draw(label_names(dense.shape[1]))
    with unmodified(y):
        labels = check_labels(y, label_names=names)
    assert_canonical(labels, dense)
    assert labels.classes.tolist() == names


@cases(5)
@given(st.data(), indicators())
def test_check_labels_any_frame_becomes_canonical(data, dense):
    names = data.draw(label_names(dense.shape[1]))
    y = data.draw(as_frame(dense, names))
    with unmodified(y):
        labels = check_labels(y)
    assert_canonical(labels, dense)
    assert labels.classes.tolist() == names


@cases(8)
@given(st.data(), indicators())
def test_check_labels_any_collections_become_canonical(data, dense):
    assume(dense.any())
    names = data.draw(label_names(dense.shape[1]))
    y = data.draw(as_collections(dense, names))
    with unmodified(y):
        labels = check_labels(y)
    used = sorted({names[column] for column in np.nonzero(dense)[1]})
    assert labels.classes.tolist() == used
    assert_canonical(labels, dense[:, [names.index(name) for name in used]])


@cases(8)
@given(st.data(), indicators())
def test_check_labels_classes_order_columns_and_count_unknown_labels(data, dense):
    names = data.draw(label_names(dense.shape[1]))
    classes = data.draw(st.permutations(names))[data.draw(st.integers(0, len(names) - 1)) :]
    make = data.draw(st.sampled_from([as_frame, as_collections]))
    labels = check_labels(data.draw(make(dense, names)), classes=classes)
    columns = [names.index(name) for name in classes]
    assert_canonical(labels, dense[:, columns])
    assert labels.classes.tolist() == classes
    np.testing.assert_array_equal(labels.n_unknown, dense.sum(1) - dense[:, columns].sum(1))


@cases(10)
@given(st.data(), indicators(), wrong_value(), st.sampled_from([*SPARSE_FORMATS, "dense", "frame"]))
def test_check_labels_number_other_than_0_and_1_is_refused_by_place(data, dense, wrong, form):
    row, column = (data.draw(st.integers(0, n - 1)) for n in dense.shape)
    shown = f"'name {column}'" if form == "frame" else column
    values = dense.astype(float)
    for value in (wrong, 2, -1, 0.5, np.nan, np.inf):
        values[row, column] = value
        if form == "dense":
            y = values
        elif form == "frame":
            y = pd.DataFrame(values, columns=[f"name {i}" for i in range(dense.shape[1])])
        else:
            entries = [(r, c, values[r, c]) for r, c in zip(*np.nonzero(values), strict=True)]
            y = stored_as(entries, dense.shape, float, form)
        with refused("y", rf"at row {row}, column {shown}, but"):
            check_labels(y)


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "bsr"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_sparse_duplicates_of_small_dtypes_do_not_overflow(format, dtype):
    for total in (256, 257, 2**16, 2**16 + 1):
        y = stored_as([(0, 1, 1)] * total, (1, 2), dtype, format)
        with refused("y", rf"y holds {total}(\.0)? at row 0, column 1, but"):
            check_labels(y)
    scores = stored_as([(0, 1, 100)] * 3, (1, 2), np.int8, format)
    np.testing.assert_array_equal(checked_csr(scores, "y_score").toarray(), [[0, 300]])


@cases(15)
@given(broken_sparse())
def test_check_labels_broken_sparse_matrix_is_refused(y):
    with refused("y", f"broken {y.format} matrix", "Build it again"):
        check_labels(y)


@cases(12)
@given(no_labels())
@example([["a"], "b"])
@example(np.ma.masked_less(np.eye(2), 1))
@example(list)
def test_check_labels_input_without_labels_is_refused(wrong):
    with refused("y"):
        check_labels(wrong, n_texts=2, require_positive=True)


@cases(4)
@given(st.data(), indicators(), st.integers(0, 9), st.integers(0, 9))
def test_check_labels_lengths_that_differ_are_refused(data, dense, n_texts, n_names):
    y, classes, dense = data.draw(labels_of(dense))
    assume(dense.size)
    if n_texts != len(dense):
        with refused("y", f"there are {n_texts} texts"):
            check_labels(y, n_texts=n_texts)
    if n_names != len(classes) and (sparse.issparse(y) or isinstance(y, np.ndarray)):
        assume(y.ndim == 2)
        with refused("label_names", f"{n_names} label_names"):
            check_labels(y, label_names=range(n_names))
        with refused("classes", f"{n_names} classes"):
            check_labels(y, classes=range(n_names))


@cases(4)
@given(no_labels() | st.just(["a", "a"]) | st.just(["a", 1]))
def test_check_labels_bad_names_and_classes_are_refused(wrong):
    for name in ("label_names", "classes"):
        if wrong is not None and not _are_labels(wrong):
            with refused(name):
                check_labels(np.eye(2), **{name: wrong})


def _are_labels(values):
    return (
        isinstance(values, list)
        and (set(map(type, values)) <= {str} or set(map(type, values)) <= {int})
        and len(set(values)) == 2
        and all(0 <= value < 2**63 for value in values if isinstance(value, int))
    )
