"""Texts and labels in every form that users pass, and the errors for all other forms."""

import enum
import re
from array import array

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from skxmc._validation import Labels, check_labels, check_texts, find_columns, label_array


class Number(str, enum.Enum):  # str() of a member is not its text
    ONE = "one"


INDICATOR = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1]])
SPARSE_FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]


def assert_canonical(labels, expected):
    """The indicator equals `expected` and has the form that the rest of the package relies on."""
    assert isinstance(labels, Labels)
    matrix = labels.matrix
    assert isinstance(matrix, sparse.csr_array)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.toarray(), expected)
    # Rebuilt, so that no flag of the matrix is taken on trust.
    rebuilt = sparse.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
    assert rebuilt.has_canonical_format
    assert (matrix.data == 1).all()
    assert labels.classes.shape == (matrix.shape[1],)
    assert labels.classes.dtype in (np.dtype(np.int64), np.dtype(object))
    assert labels.n_unknown.shape == (matrix.shape[0],)
    assert labels.n_unknown.dtype == np.int64


# Texts


@pytest.mark.parametrize(
    "texts",
    [
        ["one", "two"],
        ("one", "two"),
        np.array(["one", "two"]),
        np.array(["one", "two"], dtype=object),
        pd.Series(["one", "two"], index=[7, 3]),
        pd.Series(["one", "two"], dtype=object),
        pd.Series(["one", "two"], dtype="string"),
        pd.Series(["one", "two"], dtype="category"),
        pd.Series({"columns": "one", "labels": "two"}),
        pd.Index(["one", "two"]),
        {"a": "one", "b": "two"}.values(),
        [np.str_("one"), "two"],
        [Number.ONE, "two"],
    ],
    ids=lambda texts: type(texts).__name__,
)
def test_texts_of_every_form_become_a_list_of_str(texts):
    checked = check_texts(texts)
    assert checked == ["one", "two"]
    assert [type(text) for text in checked] == [str, str]


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_texts_of_other_frame_libraries(library):
    module = pytest.importorskip(library)
    column = {
        "polars": lambda: module.Series(["one", "two"]),
        "pyarrow": lambda: module.chunked_array([["one"], ["two"]]),
    }[library]()
    assert check_texts(column) == ["one", "two"]


def test_texts_are_not_modified():
    texts = ["a\ud800", "b"]
    checked = check_texts(texts)
    assert texts == ["a\ud800", "b"]
    checked.append("c")
    assert len(texts) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("naïve 北京 😀 \uffff \U0010ffff", "naïve 北京 😀 \uffff \U0010ffff"),
        ("\ufeffbyte order mark", "\ufeffbyte order mark"),
        ("a\ud800b", "a\ufffdb"),
        ("\udfff", "\ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("x\ud83d", "x\ufffd"),
        ("\ud83d\ude00", "😀"),
    ],
)
def test_any_unicode_is_legal_and_can_be_encoded(text, expected):
    (checked,) = check_texts([text])
    assert checked == expected
    checked.encode()


def test_no_texts_only_where_allowed():
    assert check_texts([], allow_empty=True) == []
    with pytest.raises(ValueError, match=r"^X holds no text; at least one is needed"):
        check_texts([])


def test_bare_string_has_the_wording_of_sklearn():
    message = "^Iterable over raw text documents expected, string object received"
    with pytest.raises(ValueError, match=message):
        check_texts("a text")
    with pytest.raises(ValueError, match=message):
        check_texts(np.str_("a text"))


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (pd.DataFrame({"text": ["one", "two"]}), r"DataFrame of shape \(2, 1\)"),
        (np.array([["one"], ["two"]]), r"ndarray of shape \(2, 1\)"),
        (np.array("one"), r"ndarray of shape \(\)"),
        (sparse.csr_array((2, 3)), r"csr_array of shape \(2, 3\)"),
        (sparse.coo_matrix((2, 3)), r"coo_matrix of shape \(2, 3\)"),
    ],
)
def test_texts_must_be_one_dimensional(texts, kind):
    message = rf"^X must be one-dimensional, got {kind}.* one column, such as X\['text'\]"
    with pytest.raises(ValueError, match=message):
        check_texts(texts)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ({"a": "one"}, "dict"),
        ({"one"}, "set"),
        (frozenset(["one"]), "frozenset"),
        (b"one", "bytes"),
        (bytearray(b"one"), "bytearray"),
        ((text for text in ["one"]), "generator"),
        (None, "NoneType"),
        (3, "int"),
    ],
)
def test_texts_must_have_a_length_and_an_order(texts, kind):
    message = f"^docs must be a list, tuple, 1-D array or column of str, got {kind}"
    with pytest.raises(TypeError, match=message):
        check_texts(texts, name="docs")


@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.float32("nan"), np.float64("nan"), pd.NA, pd.NaT]
)
def test_missing_texts_name_their_row(missing):
    with pytest.raises(ValueError, match=r"^docs holds a missing value .* row 2\. .*fillna\(''\)"):
        check_texts(["one", np.str_("two"), missing], name="docs")


def test_missing_texts_in_a_column():
    with pytest.raises(ValueError, match=r"missing value .* row 1"):
        check_texts(pd.Series(["one", None]))
    with pytest.raises(ValueError, match=r"missing value .* row 1"):
        check_texts(pd.Series(["one", None], dtype="string"))


@pytest.mark.parametrize(
    ("element", "kind", "remedy"),
    [
        (b"two", "bytes", "Decode it"),
        (2, "int", r"Pass str\(text\)"),
        (2.5, "float", r"Pass str\(text\)"),
        (["two"], "list", r"Pass str\(text\)"),
    ],
)
def test_elements_that_are_no_text_name_their_row(element, kind, remedy):
    with pytest.raises(TypeError, match=f"row 1 is .* of type {kind}. {remedy}"):
        check_texts(["one", element])


# Matrices


@pytest.mark.parametrize("format", SPARSE_FORMATS)
@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.int64, np.float32, np.float64])
def test_sparse_of_every_format_and_dtype(format, kind, dtype):
    y = getattr(sparse, f"{format}_{kind}")(INDICATOR.astype(dtype))
    labels = check_labels(y)
    assert_canonical(labels, INDICATOR)
    np.testing.assert_array_equal(labels.classes, [0, 1, 2])
    np.testing.assert_array_equal(labels.n_unknown, [0, 0, 0])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64])
def test_dense_of_every_dtype(dtype):
    assert_canonical(check_labels(INDICATOR.astype(dtype)), INDICATOR)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrix_class_and_fortran_order():
    assert_canonical(check_labels(np.asfortranarray(INDICATOR)), INDICATOR)
    assert_canonical(check_labels(np.matrix(INDICATOR)), INDICATOR)


def test_unsorted_explicit_zeros_and_int64_indices():
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
def test_result_shares_no_memory_with_y(format):
    y = sparse.csr_array(INDICATOR.astype(np.float32)).asformat(format)
    labels = check_labels(y)
    labels.matrix.data[:] = 7
    labels.matrix.indices[:] = 0
    np.testing.assert_array_equal(y.toarray(), INDICATOR)


def test_wrong_canonical_flag_is_not_trusted():
    y = sparse.csr_array((np.ones(3), [2, 0, 1], [0, 2, 2, 3]), shape=(3, 3))
    y.has_canonical_format = True
    assert_canonical(check_labels(y), [[1, 0, 1], [0, 0, 0], [0, 1, 0]])


def test_slack_behind_the_last_entry_is_legal():
    y = sparse.csr_array(INDICATOR)
    y.indices = np.append(y.indices, [99, -99]).astype(y.indices.dtype)
    y.data = np.append(y.data, [5, 5])
    assert_canonical(check_labels(y), INDICATOR)


def test_huge_matrix_is_never_densified():
    y = sparse.csc_array((np.ones(2), ([0, 10**6 - 1], [0, 10**6 - 1])), shape=(10**6, 10**6))
    labels = check_labels(y)
    assert labels.matrix.shape == (10**6, 10**6)
    assert labels.matrix.nnz == 2


@pytest.mark.parametrize(
    ("value", "shown"), [(2, "2"), (-1, "-1"), (0.5, "0.5"), (np.nan, "nan"), (np.inf, "inf")]
)
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dense", "frame"])
def test_values_must_be_binary(value, shown, form):
    dense = INDICATOR.astype(float)
    dense[2, 1] = value
    y = {
        "dense": lambda: dense,
        "frame": lambda: pd.DataFrame(dense, columns=["a", "b", "c"]),
    }.get(form, lambda: sparse.csr_array(dense).asformat(form))()
    column = "'b'" if form == "frame" else "1"
    with pytest.raises(ValueError, match=rf"^Y holds {shown}(\.0)? at row 2, column {column}; "):
        check_labels(y, name="Y")


def test_duplicates_that_add_up_are_refused_with_the_remedy():
    y = sparse.coo_array((np.ones(3), ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    with pytest.raises(ValueError, match=r"^y holds 2.0 at row 0, column 1; .*sum_duplicates\(\)"):
        check_labels(y)
    y = sparse.csc_array((np.ones(3), [0, 0, 1], [0, 2, 3]), shape=(2, 2))
    with pytest.raises(ValueError, match=r"^y holds 2.0 at row 0, column 0; "):
        check_labels(y)


def test_duplicates_of_bool_mean_true():
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
def test_broken_sparse_matrices_are_refused(case):
    y = BROKEN[case]()
    format = case.split()[0]
    with pytest.raises(ValueError, match=rf"^y is a broken {format} matrix: .*shape \(4, 4\)"):
        check_labels(y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (sparse.coo_array(np.ones(3)), "^y must be two-dimensional, got a 1-D sparse array"),
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
def test_shapes_that_hold_nothing_or_have_other_dimensions(y, message):
    with pytest.raises(ValueError, match=message):
        check_labels(y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (sparse.csr_array(np.eye(2) * 1j), "^y has dtype complex128; .* bool, int or float"),
        (np.eye(2) * 1j, "^y is a 2-D array of complex128, but an indicator must be bool"),
        (np.array([["a", "b"], ["c", "d"]]), r"^y is a 2-D array of <U1.*lists, y.tolist\(\)"),
        (np.array([["a", "b"], ["c", "d"]], dtype=object), "^y is a 2-D array of object"),
    ],
)
def test_matrices_of_other_dtypes(y, message):
    with pytest.raises(TypeError, match=message):
        check_labels(y)


# Frames


def test_frame_names_its_columns():
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


def test_frame_with_integer_columns():
    labels = check_labels(pd.DataFrame(INDICATOR, columns=[4, 9, 2]))
    assert labels.classes.dtype == np.int64
    assert labels.classes.tolist() == [4, 9, 2]


def test_frame_is_aligned_by_name():
    y = pd.DataFrame(
        {"new": [1, 0, 1], "tax": [0, 1, 1], "art": [1, 1, 0], "newer": [1, 0, 0]},
    )
    labels = check_labels(y, classes=["art", "law", "tax"])
    assert_canonical(labels, [[1, 0, 0], [1, 0, 1], [0, 0, 1]])
    assert labels.classes.tolist() == ["art", "law", "tax"]
    np.testing.assert_array_equal(labels.n_unknown, [2, 0, 1])


def test_polars_frame():
    polars = pytest.importorskip("polars")
    labels = check_labels(polars.DataFrame({"tax": [1, 0], "law": [True, True]}))
    assert_canonical(labels, [[1, 1], [0, 1]])
    assert labels.classes.tolist() == ["tax", "law"]


@pytest.mark.parametrize(
    ("values", "dtype"), [(["1", "0"], "str"), ([True, None], "boolean"), ([1, None], object)]
)
def test_frame_columns_must_be_numbers(values, dtype):
    y = pd.DataFrame({"tax": [1, 0], "law": pd.Series(values, dtype=dtype)})
    with pytest.raises(
        TypeError, match=r"^column 'law' of y has dtype .*fillna\(0\).astype.*y\['law'\]"
    ):
        check_labels(y)


def test_missing_value_in_a_frame():
    y = pd.DataFrame({"tax": [1, 0], "law": pd.array([1, None], dtype="Int64")})
    with pytest.raises(ValueError, match=r"^y holds nan at row 1, column 'law'"):
        check_labels(y)


def test_frame_columns_must_be_distinct_labels():
    with pytest.raises(ValueError, match=r"^the columns of y holds 'a' more than once"):
        check_labels(pd.DataFrame([[1, 0]], columns=["a", "a"]))
    with pytest.raises(ValueError, match=r"^position 1 of the columns of y holds the label 3, but"):
        check_labels(pd.DataFrame([[1, 0]], columns=["a", 3]))


# Collections


@pytest.mark.parametrize(
    "y",
    [
        [["tax", "law"], [], ["art"]],
        (("tax", "law"), (), ("art",)),
        [{"tax", "law"}, frozenset(), ["art"]],
        [np.array(["tax", "law"]), np.array([], dtype=object), np.array(["art"], dtype=object)],
        [[np.str_("tax"), "law"], [], ["art"]],
        [["tax", "law", "tax"], [], ["art", "art"]],
        pd.Series([["tax", "law"], [], ["art"]], index=[3, 1, 2]),
        [pd.Series(["tax", "law"], index=[4, 2]), [], ["art"]],
    ],
)
def test_collections_of_str(y):
    labels = check_labels(y)
    assert_canonical(labels, [[0, 1, 1], [0, 0, 0], [1, 0, 0]])
    assert labels.classes.dtype == object
    assert labels.classes.tolist() == ["art", "law", "tax"]
    assert {type(label) for label in labels.classes} == {str}


def test_object_array_of_collections():
    y = np.empty(2, dtype=object)
    y[:] = [["tax", "law"], ["law", "art"]]
    assert_canonical(check_labels(y), [[0, 1, 1], [1, 1, 0]])


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_collections_of_other_frame_libraries(library):
    module = pytest.importorskip(library)
    make = {"polars": "Series", "pyarrow": "array"}[library]
    column = getattr(module, make)([["tax", "law"], [], ["art"]])
    assert_canonical(check_labels(column), [[0, 1, 1], [0, 0, 0], [1, 0, 0]])


def test_nested_lists_are_always_collections():
    labels = check_labels([[0, 1], [1, 0], [7]])
    assert_canonical(labels, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert labels.classes.dtype == np.int64
    assert labels.classes.tolist() == [0, 1, 7]


def test_numpy_integers_in_collections():
    labels = check_labels([[np.int32(3), 5], np.array([5], dtype=np.uint8), [2**63 - 1]])
    assert_canonical(labels, [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert labels.classes.tolist() == [3, 5, 2**63 - 1]


def test_enum_labels():
    labels = check_labels([[Number.ONE], ["two"]])
    assert labels.classes.tolist() == ["one", "two"]
    assert {type(label) for label in labels.classes} == {str}


def test_unknown_labels_are_counted_once_and_without_a_warning():
    y = [["new", "tax", "new"], ["newer", "new"], ["law"], []]
    labels = check_labels(y, classes=np.array(["tax", "law", "art"]))
    assert_canonical(labels, [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert labels.classes.tolist() == ["tax", "law", "art"]
    np.testing.assert_array_equal(labels.n_unknown, [1, 2, 0, 0])


def test_integer_collections_are_looked_up_in_classes():
    labels = check_labels([[30, 10], [20]], classes=np.array([30, 5, 10]))
    assert_canonical(labels, [[1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(labels.n_unknown, [0, 1])


def test_no_label_at_all_is_fine_where_classes_are_known():
    assert_canonical(check_labels([[], []], classes=["a", "b"]), np.zeros((2, 2)))


def test_labels_of_another_kind_than_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"^y has labels of type int, such as 1, but .* 'a'"):
        check_labels([[1]], classes=["a", "b"])
    with pytest.raises(ValueError, match=r"^y has labels of type str, .* are of type int"):
        check_labels([["1"]], classes=[0, 1])


@pytest.mark.parametrize(
    ("y", "row", "shown"),
    [
        (["tax", "law"], 0, "'tax'"),
        ([["tax"], "law"], 1, "'law'"),
        ([0, 1, 1], 0, "0"),
        (np.array([1, 0]), 0, "1"),
        (pd.Series(["tax", "law"]), 0, "'tax'"),
        ([["tax"], None], 1, "None"),
        ([["tax"], {"law": 1}], 1, re.escape("{'law': 1}")),
        ([["tax"], b"law"], 1, "b'law'"),
        ([[1], np.array([[1]])], 1, re.escape("array([[1]])")),
        ([[1], array("i", [1])], 1, "array"),
    ],
)
def test_every_text_needs_a_collection(y, row, shown):
    message = rf"^row {row} of y is {shown}.*, not a collection of labels\. Give every text a list"
    with pytest.raises(ValueError, match=message):
        check_labels(y)


@pytest.mark.parametrize("y", ["tax", b"tax", {"tax": 1}, {("tax",)}, 3, iter([["tax"]])])
def test_what_is_no_sequence_of_collections(y):
    message = r"^y must be a sparse matrix, a 2-D array, a frame, or .*got " + type(y).__name__
    with pytest.raises(ValueError, match=message):
        check_labels(y)


def test_missing_y_has_the_wording_of_sklearn():
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        check_labels(None)


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (None, ValueError, "^row 2 of y holds the missing label None. Leave it out"),
        (np.nan, ValueError, "^row 2 of y holds the missing label nan"),
        (pd.NA, ValueError, "^row 2 of y holds the missing label <NA>"),
        (True, TypeError, "^row 2 of y holds True of type bool; labels must be str or int"),
        (1.0, TypeError, "^row 2 of y holds 1.0 of type float; .*indicator must be a 2-D array"),
        (b"law", TypeError, "^row 2 of y holds b'law' of type bytes"),
        (["law"], TypeError, r"^row 2 of y holds \['law'\] of type list"),
        (
            7,
            ValueError,
            "^row 2 of y holds the label 7, but row 0 of y holds 'a': .* all str or all int",
        ),
    ],
)
def test_labels_must_be_of_one_legal_kind(label, error, message):
    with pytest.raises(error, match=message):
        check_labels([["a"], [], [label, "b"], ["c"]])


@pytest.mark.parametrize("label", [-1, 2**63])
def test_integer_labels_must_fit(label):
    with pytest.raises(ValueError, match=f"^row 2 of y holds the label {label}; integer labels"):
        check_labels([[1], [], [label, 2], [3]])


# Names, numbers of rows, positives


def test_label_names_become_classes():
    strings = ["a", "b", "c"]
    for names in (strings, tuple(strings), np.array(strings), pd.Index(strings)):
        labels = check_labels(INDICATOR, label_names=names)
        assert labels.classes.dtype == object
        assert labels.classes.tolist() == ["a", "b", "c"]
    labels = check_labels(INDICATOR, label_names=np.array([30, 10, 20], dtype=np.int16))
    assert labels.classes.dtype == np.int64
    assert labels.classes.tolist() == [30, 10, 20]


def test_label_names_belong_to_matrices_only():
    for y in ([["a"], ["b"]], pd.DataFrame({"a": [1, 0]})):
        with pytest.raises(ValueError, match=r"^label_names cannot be given: y names its labels"):
            check_labels(y, label_names=["a", "b"])


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a", "b"], ValueError, "^y has 3 columns, but there are 2 label_names"),
        (list("abcd"), ValueError, "^y has 3 columns, but there are 4 label_names"),
        (["a", "b", "a"], ValueError, "^label_names holds 'a' more than once"),
        (["a", "b", None], ValueError, "^position 2 of label_names holds the missing label None"),
        (["a", "b", 3], ValueError, "^position 2 of label_names holds the label 3, but position 0"),
        ([0, 1, -2], ValueError, "^position 2 of label_names holds the label -2; integer"),
        ([0, 1, 2.0], TypeError, "^position 2 of label_names holds 2.0 of type float"),
        ("abc", TypeError, "^label_names must be a 1-D sequence of labels, got str"),
        ({"a", "b", "c"}, TypeError, "^label_names must be a 1-D sequence of labels, got set"),
        (np.array([["a", "b", "c"]]), TypeError, r"^label_names .* got ndarray of shape \(1, 3\)"),
    ],
)
def test_label_names_must_fit(names, error, message):
    with pytest.raises(error, match=message):
        check_labels(INDICATOR, label_names=names)


def test_matrix_must_have_one_column_for_each_class():
    labels = check_labels(INDICATOR, classes=["c", "a", "b"])
    assert_canonical(labels, INDICATOR)
    assert labels.classes.tolist() == ["c", "a", "b"]
    message = "^y has 3 columns, but there are 2 classes.*, or label collections"
    with pytest.raises(ValueError, match=message):
        check_labels(INDICATOR, classes=["a", "b"])


@pytest.mark.parametrize("y", [INDICATOR, sparse.csc_array(INDICATOR), [[0], [1], [2]]])
def test_number_of_rows(y):
    assert check_labels(y, n_texts=3).matrix.shape[0] == 3
    with pytest.raises(ValueError, match=r"^y has 3 rows, but there are 4 texts"):
        check_labels(y, n_texts=4)


def test_at_least_one_positive_where_required():
    empty = sparse.csr_array((3, 2))
    assert_canonical(check_labels(empty), np.zeros((3, 2)))
    stored_zero = sparse.csr_array((np.zeros(1), ([0], [0])), shape=(3, 2))
    for y in (empty, stored_zero, np.zeros((3, 2)), [[], []]):
        with pytest.raises(ValueError, match=r"^y holds no positive label at all"):
            check_labels(y, require_positive=True)
    assert check_labels(INDICATOR, require_positive=True).matrix.nnz == 4


def test_one_text_and_one_label():
    assert_canonical(check_labels([["a"]]), [[1]])
    assert_canonical(check_labels(np.array([[1]])), [[1]])


# Helpers that metrics use


def test_find_columns_keeps_the_shape():
    found = find_columns(np.array([["b", "x"], ["a", "b"]]), label_array(["a", "b"], "c"), "l")
    np.testing.assert_array_equal(found, [[1, -1], [0, 1]])
    assert found.dtype == np.int64
