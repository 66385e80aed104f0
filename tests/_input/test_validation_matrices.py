"""Labels as matrices and frames: all forms that users pass, and errors for all others."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from validation_helpers import INDICATOR, assert_canonical

from skxmc._input.validation import check_labels

# SciPy before 1.13 has no 1-D sparse arrays.
HAS_1D = pytest.mark.skipif(sparse.coo_array(np.ones(2)).ndim == 2, reason="needs SciPy 1.13")

SPARSE_FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]


# Matrices


@pytest.mark.parametrize("format", SPARSE_FORMATS)
@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.int64, np.float32, np.float64])
def test_check_labels_every_sparse_format_and_dtype_is_read(format, kind, dtype):
    y = getattr(sparse, f"{format}_{kind}")(INDICATOR.astype(dtype))
    labels = check_labels(y)
    assert_canonical(labels, INDICATOR)
    np.testing.assert_array_equal(labels.classes, [0, 1, 2])
    np.testing.assert_array_equal(labels.n_unknown, [0, 0, 0])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64])
def test_check_labels_every_dense_dtype_is_read(dtype):
    assert_canonical(check_labels(INDICATOR.astype(dtype)), INDICATOR)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_check_labels_numpy_matrix_and_fortran_order_are_read():
    assert_canonical(check_labels(np.asfortranarray(INDICATOR)), INDICATOR)
    assert_canonical(check_labels(np.matrix(INDICATOR)), INDICATOR)


def test_check_labels_unsorted_and_zero_entries_become_canonical():
    y = sparse.csr_array(
        (
            np.array([1, 0, 1, 1, 1]),
            np.array([2, 1, 0, 2, 1], dtype=np.int64),
            np.array([0, 3, 3, 5], dtype=np.int64),
        ),
        shape=(3, 3),
    )
    y.indices, y.indptr = y.indices.astype(np.int64), y.indptr.astype(np.int64)
    before = [y.data.copy(), y.indices.copy(), y.indptr.copy()]
    assert_canonical(check_labels(y), INDICATOR)
    for array_before, array_after in zip(before, [y.data, y.indices, y.indptr], strict=True):
        assert array_before.dtype == array_after.dtype
        np.testing.assert_array_equal(array_before, array_after)


@pytest.mark.parametrize("format", SPARSE_FORMATS)
def test_check_labels_result_shares_no_memory_with_y(format):
    y = sparse.csr_array(INDICATOR.astype(np.float32)).asformat(format)
    labels = check_labels(y)
    labels.matrix.data[:] = 7
    labels.matrix.indices[:] = 0
    np.testing.assert_array_equal(y.toarray(), INDICATOR)


def test_check_labels_wrong_canonical_flag_is_not_trusted():
    y = sparse.csr_array((np.ones(3), [2, 0, 1], [0, 2, 2, 3]), shape=(3, 3))
    y.has_canonical_format = True
    assert_canonical(check_labels(y), [[1, 0, 1], [0, 0, 0], [0, 1, 0]])


def test_check_labels_unused_room_after_last_entry_is_ignored():
    y = sparse.csr_array(INDICATOR)
    y.indices = np.append(y.indices, [99, -99]).astype(y.indices.dtype)
    y.data = np.append(y.data, [5, 5])
    assert_canonical(check_labels(y), INDICATOR)


def test_check_labels_huge_matrix_stays_sparse():
    y = sparse.csc_array((np.ones(2), ([0, 10**6 - 1], [0, 10**6 - 1])), shape=(10**6, 10**6))
    labels = check_labels(y)
    assert labels.matrix.shape == (10**6, 10**6)
    assert labels.matrix.nnz == 2


@pytest.mark.parametrize(
    ("value", "shown"), [(2, "2"), (-1, "-1"), (0.5, "0.5"), (np.nan, "nan"), (np.inf, "inf")]
)
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dense", "frame"])
def test_check_labels_value_other_than_0_and_1_is_refused(value, shown, form):
    dense = INDICATOR.astype(float)
    dense[2, 1] = value
    y = {
        "dense": lambda: dense,
        "frame": lambda: pd.DataFrame(dense, columns=["a", "b", "c"]),
    }.get(form, lambda: sparse.csr_array(dense).asformat(form))()
    column = "'b'" if form == "frame" else "1"
    with pytest.raises(ValueError, match=rf"^Y holds {shown}(\.0)? at row 2, column {column}, but"):
        check_labels(y, name="Y")


def test_check_labels_duplicates_that_add_up_are_refused():
    y = sparse.coo_array((np.ones(3), ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    with pytest.raises(ValueError, match=r"^y holds 2.0 at row 0, column 1, .*sum_duplicates\(\)"):
        check_labels(y)
    y = sparse.csc_array((np.ones(3), [0, 0, 1], [0, 2, 3]), shape=(2, 2))
    with pytest.raises(ValueError, match=r"^y holds 2.0 at row 0, column 0, but"):
        check_labels(y)


def test_check_labels_duplicates_of_bool_count_once():
    y = sparse.csr_array((np.ones(2, dtype=bool), [1, 1], [0, 2]), shape=(1, 2))
    assert_canonical(check_labels(y), [[0, 1]])


def broken(format, **arrays):
    matrix = sparse.csr_array(np.eye(4)).asformat(format)
    for name, values in arrays.items():
        setattr(matrix, name, np.array(values))
    return matrix


BROKEN = {
    "csr index too high": lambda: broken("csr", indices=[0, 1, 2, 10**8]),
    "csr index one too high": lambda: broken("csr", indices=[0, 1, 2, 4]),
    "csr index negative": lambda: broken("csr", indices=[0, 1, -1, 3]),
    "csr index far negative": lambda: broken("csr", indices=[0, -(10**9), 2, 3]),
    "csc index too high": lambda: broken("csc", indices=[0, 1, 2, 10**8]),
    "csc index negative": lambda: broken("csc", indices=[-1, 1, 2, 3]),
    "csr index of floats": lambda: broken("csr", indices=[0.0, 1.0, 2.0, 3.0]),
    "csr indptr too long": lambda: broken("csr", indptr=[0, 1, 2, 3, 4, 4]),
    "csr indptr too short": lambda: broken("csr", indptr=[0, 1, 2, 4]),
    "csr indptr from 1": lambda: broken("csr", indptr=[1, 1, 2, 3, 4]),
    "csr indptr falls": lambda: broken("csr", indptr=[0, 3, 2, 3, 4]),
    "csr indptr too high": lambda: broken("csr", indptr=[0, 1, 2, 3, 10**9]),
    "csr indptr negative": lambda: broken("csr", indptr=[0, 1, 2, 3, -4]),
    "csr indptr of floats": lambda: broken("csr", indptr=[0.0, 1.0, 2.0, 3.0, 4.0]),
    "csc indptr falls": lambda: broken("csc", indptr=[0, 10**9, 2, 3, 4]),
    "csr data too short": lambda: broken("csr", data=[1.0, 1.0]),
    "coo row too high": lambda: broken_coo(0, 10**8),
    "coo column negative": lambda: broken_coo(1, -1),
    "coo data too short": lambda: broken("coo", data=[1.0]),
    "bsr index too high": lambda: broken_bsr(indices=[0, 2]),
    "bsr indptr too high": lambda: broken_bsr(indptr=[0, 1, 10**9]),
    "bsr indptr too long": lambda: broken_bsr(indptr=[0, 1, 2, 2, 2]),
    "dia offsets too few": lambda: broken("dia", data=np.ones((9, 4))),
    "dia offsets of floats": lambda: broken("dia", offsets=[0.5]),
    "lil index too high": lambda: broken_lil([10**8], [1.0]),
    "lil index negative": lambda: broken_lil([-1], [1.0]),
    "lil data too long": lambda: broken_lil([0], [1.0] * 10**6),
}


def broken_coo(axis, index):
    matrix = sparse.coo_matrix(np.eye(4))
    (matrix.row, matrix.col)[axis][2] = index
    return matrix


def broken_bsr(**arrays):
    matrix = sparse.bsr_array(np.eye(4), blocksize=(2, 2))
    for name, values in arrays.items():
        setattr(matrix, name, np.array(values))
    return matrix


def broken_lil(rows, data):
    matrix = sparse.lil_array(np.eye(4))
    matrix.rows[1], matrix.data[1] = rows, data
    return matrix


@pytest.mark.parametrize("case", BROKEN)
def test_check_labels_broken_sparse_matrix_is_refused(case):
    y = BROKEN[case]()
    format = case.split()[0]
    with pytest.raises(ValueError, match=rf"^y is a broken {format} matrix: .*shape \(4, 4\)"):
        check_labels(y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        pytest.param(
            sparse.coo_array(np.ones(3)),
            "^y must be two-dimensional, got a 1-D sparse array",
            marks=HAS_1D,
        ),
        (np.ones((2, 2, 2)), r"^y must be a sparse matrix, .* got ndarray of shape \(2, 2, 2\)"),
        (np.ones(()), r"^y must be a sparse matrix, .* got ndarray of shape \(\)"),
        (sparse.csr_array((0, 3)), "^y has no rows"),
        (np.zeros((0, 3)), "^y has no rows"),
        (sparse.csr_array((3, 0)), "^y holds no labels"),
        (np.zeros((3, 0)), "^y holds no labels"),
        (pd.DataFrame(index=range(3)), "^y holds no labels"),
        ([], "^y has no rows"),
        ([[], []], "^y holds no labels"),
    ],
)
def test_check_labels_empty_or_not_2d_input_is_refused(y, message):
    with pytest.raises(ValueError, match=message):
        check_labels(y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (sparse.csr_array(np.eye(2) * 1j), "^y has dtype complex128, but .* bool, int or float"),
        (np.eye(2) * 1j, "^y is a 2-D array of complex128, but an indicator must be bool"),
        (np.array([["a", "b"], ["c", "d"]]), r"^y is a 2-D array of <U1.*lists, y.tolist\(\)"),
        (np.array([["a", "b"], ["c", "d"]], dtype=object), "^y is a 2-D array of object"),
    ],
)
def test_check_labels_matrix_of_wrong_dtype_is_refused(y, message):
    with pytest.raises(TypeError, match=message):
        check_labels(y)


# Frames


def test_check_labels_frame_columns_become_classes():
    y = pd.DataFrame(
        {
            "tax": [1, 0, 0],
            "art": pd.array([0, 0, 1], dtype="Int64"),
            "law": [True, False, True],
            "sea": pd.arrays.SparseArray([0.0, 0.0, 1.0]),
        },
        index=[5, 5, 2],
    )
    labels = check_labels(y)
    assert_canonical(labels, [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 1]])
    assert labels.classes.tolist() == ["tax", "art", "law", "sea"]


def test_check_labels_frame_with_integer_columns_has_integer_classes():
    labels = check_labels(pd.DataFrame(INDICATOR, columns=[4, 9, 2]))
    assert labels.classes.dtype == np.int64
    assert labels.classes.tolist() == [4, 9, 2]


def test_check_labels_frame_is_aligned_with_classes_by_name():
    y = pd.DataFrame(
        {"new": [1, 0, 1], "tax": [0, 1, 1], "art": [1, 1, 0], "newer": [1, 0, 0]},
    )
    labels = check_labels(y, classes=["art", "law", "tax"])
    assert_canonical(labels, [[1, 0, 0], [1, 0, 1], [0, 0, 1]])
    assert labels.classes.tolist() == ["art", "law", "tax"]
    np.testing.assert_array_equal(labels.n_unknown, [2, 0, 1])


def test_check_labels_polars_frame_is_read():
    polars = pytest.importorskip("polars")
    labels = check_labels(polars.DataFrame({"tax": [1, 0], "law": [True, True]}))
    assert_canonical(labels, [[1, 1], [0, 1]])
    assert labels.classes.tolist() == ["tax", "law"]


@pytest.mark.parametrize(("values", "dtype"), [(["1", "0"], "str"), ([1, None], object)])
def test_check_labels_frame_column_not_numeric_is_refused(values, dtype):
    y = pd.DataFrame({"tax": [1, 0], "law": pd.Series(values, dtype=dtype)})
    with pytest.raises(
        TypeError, match=r"^column 'law' of y has dtype .*Fill missing values.*y\['law'\]"
    ):
        check_labels(y)


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "Float32"])
def test_check_labels_missing_value_in_frame_is_refused_by_place(dtype):
    y = pd.DataFrame({"tax": [1, 0], "law": pd.array([1, None], dtype=dtype)})
    with pytest.raises(ValueError, match=r"^y holds nan at row 1, column 'law'.*y\.fillna\(0\)"):
        check_labels(y)


def test_check_labels_frame_columns_that_repeat_are_refused():
    with pytest.raises(ValueError, match=r"^the columns of y holds 'a' more than once"):
        check_labels(pd.DataFrame([[1, 0]], columns=["a", "a"]))
    with pytest.raises(ValueError, match=r"^position 1 of the columns of y holds the label 3, but"):
        check_labels(pd.DataFrame([[1, 0]], columns=["a", 3]))
