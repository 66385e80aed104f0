"""Labels as collections, names of labels, and numbers of rows and of positives."""

import re
from array import array

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from validation_helpers import INDICATOR, Number, assert_canonical

from skxmc._input.validation import check_labels, find_columns, label_array

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
def test_check_labels_collections_of_str_become_canonical(y):
    labels = check_labels(y)
    assert_canonical(labels, [[0, 1, 1], [0, 0, 0], [1, 0, 0]])
    assert labels.classes.dtype == object
    assert labels.classes.tolist() == ["art", "law", "tax"]
    assert {type(label) for label in labels.classes} == {str}


@pytest.mark.parametrize(
    ("y", "fault"),
    [
        ([["tax", " law"], ["law"]], "the labels ' law' and 'law', which differ only in blanks"),
        ([["tax"], [""], ["law"]], "the empty label ''"),
    ],
)
def test_check_labels_blanks_in_labels_warn_with_the_remedy(y, fault):
    with pytest.warns(UserWarning, match=f"^y holds {fault}. If this is not intended"):
        labels = check_labels(y)
    assert labels.matrix.shape[1] == 3  # each is a label of its own nevertheless
    check_labels([["tax", "land law "], ["law"], [7, 8][:0]])  # nothing to warn of
    check_labels(y, classes=["law"])  # not when a fitted model's labels are looked up


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("caf\u00e9", "cafe\u0301"),  # composed and decomposed
        ("law", "law\u200b"),
        ("law", "\ufefflaw"),
        ("land law", "land\u00ad law"),
        ("\u0627\u0654", "\u0623"),
    ],
)
def test_check_labels_labels_of_other_unicode_form_warn(first, second):
    with pytest.warns(UserWarning, match=r"differ only in invisible characters or Unicode form"):
        labels = check_labels([[first], [second]])
    assert len(labels.classes) == 2  # they stay two labels
    with pytest.warns(
        UserWarning, match=r"^label_names holds the labels .*normalize\('NFC', label"
    ):
        check_labels(np.eye(2, dtype=int), label_names=[first, second])
    with pytest.warns(UserWarning, match=r"^y holds the labels"):
        check_labels(pd.DataFrame(np.eye(2, dtype=int), columns=[first, second]))


@pytest.mark.parametrize("pair", [("law", "Law"), ("m\u00b2", "m2"), ("\u00e9", "e"), ("1", "l")])
def test_check_labels_labels_that_only_resemble_each_other_do_not_warn(pair):
    check_labels([[label] for label in pair])


def test_check_labels_object_array_of_collections_is_read():
    y = np.empty(2, dtype=object)
    y[:] = [["tax", "law"], ["law", "art"]]
    assert_canonical(check_labels(y), [[0, 1, 1], [1, 1, 0]])


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_check_labels_collections_of_polars_and_pyarrow_are_read(library):
    module = pytest.importorskip(library)
    make = {"polars": "Series", "pyarrow": "array"}[library]
    column = getattr(module, make)([["tax", "law"], [], ["art"]])
    assert_canonical(check_labels(column), [[0, 1, 1], [0, 0, 0], [1, 0, 0]])


def test_check_labels_nested_lists_of_0_and_1_are_collections():
    labels = check_labels([[0, 1], [1, 0], [7]])
    assert_canonical(labels, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert labels.classes.dtype == np.int64
    assert labels.classes.tolist() == [0, 1, 7]


INDICATOR_ROWS = [[0, 1, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    "rows",
    [
        INDICATOR_ROWS,
        [tuple(row) for row in INDICATOR_ROWS],
        [np.array(row) for row in INDICATOR_ROWS],
        pd.DataFrame(INDICATOR_ROWS).to_numpy().tolist(),
        pd.Series(INDICATOR_ROWS),
        [["0", "1", "0"], ["1", "1", "0"]],
        [[0, 0], [0, 0]],
    ],
)
@pytest.mark.parametrize("classes", [None, [0, 1], ["0", "1"]])
def test_check_labels_rows_of_an_indicator_in_lists_warn(rows, classes):
    if classes is not None and not isinstance(rows[0][0], type(classes[0])):
        classes = None if isinstance(rows[0][0], str) else [0, 1]
    with pytest.warns(
        UserWarning, match=r"rows of \d zeros and ones.*numpy\.asarray\(y, dtype=int"
    ):
        labels = check_labels(rows, classes=classes)
    assert labels.matrix.shape[1] <= 2  # collections nevertheless, by contract


@pytest.mark.parametrize(
    "rows", [[[0, 1], [1, 0]], [[0], [1]], [[0, 1, 1], [0]], [[0, 1, 2], [2, 2, 2]]]
)
def test_check_labels_rows_that_may_be_labels_do_not_warn(rows):
    check_labels(rows)


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.coo_array, sparse.csr_matrix])
def test_check_labels_list_of_sparse_rows_is_refused(form):
    flat = form is sparse.coo_array
    rows = [form(np.array(row) if flat else np.array([row])) for row in INDICATOR_ROWS]
    with pytest.raises(ValueError, match=r"row 0 of y is a sparse row.*scipy\.sparse\.vstack"):
        check_labels(rows)


def test_check_labels_numpy_integers_in_collections_are_read():
    labels = check_labels([[np.int32(3), 5], np.array([5], dtype=np.uint8), [2**63 - 1]])
    assert_canonical(labels, [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert labels.classes.tolist() == [3, 5, 2**63 - 1]


def test_check_labels_enum_of_str_becomes_str():
    labels = check_labels([[Number.ONE], ["two"]])
    assert labels.classes.tolist() == ["one", "two"]
    assert {type(label) for label in labels.classes} == {str}


def test_check_labels_unknown_labels_are_counted_once_without_warning():
    y = [["new", "tax", "new"], ["newer", "new"], ["law"], []]
    labels = check_labels(y, classes=np.array(["tax", "law", "art"]))
    assert_canonical(labels, [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert labels.classes.tolist() == ["tax", "law", "art"]
    np.testing.assert_array_equal(labels.n_unknown, [1, 2, 0, 0])


def test_check_labels_integer_collections_are_looked_up_in_classes():
    labels = check_labels([[30, 10], [20]], classes=np.array([30, 5, 10]))
    assert_canonical(labels, [[1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(labels.n_unknown, [0, 1])


def test_check_labels_empty_collections_with_classes_are_allowed():
    assert_canonical(check_labels([[], []], classes=["a", "b"]), np.zeros((2, 2)))


def test_check_labels_type_other_than_that_of_classes_is_refused():
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
def test_check_labels_row_not_a_collection_is_refused(y, row, shown):
    message = rf"^row {row} of y is {shown}.*, not a collection of labels\. Give every text a list"
    with pytest.raises(ValueError, match=message):
        check_labels(y)


@pytest.mark.parametrize("separator", ["; ", ";", "|", ", ", ","])
@pytest.mark.parametrize("missing", [[], [None]])
def test_check_labels_joined_strings_say_how_to_split_them(separator, missing):
    y = pd.Series([*missing, "tax", separator.join(["law", "tax"])])
    filled = ".fillna('')" * len(missing)
    message = f"with y{filled}.str.split('{separator}') in pandas, or read them with skxmc.datasets"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_labels(y)
    rows = [row for row in y.fillna("").str.split(separator) if row != [""]]
    assert_canonical(check_labels(rows), [[0, 1], [1, 1]])


def test_check_labels_missing_row_among_lists_says_how_to_fill_it():
    y = pd.Series([["tax"], np.nan])
    remedy = "[row if isinstance(row, list) else [] for row in y]"
    with pytest.raises(ValueError, match=rf"row 1 of y is nan, .* with {re.escape(remedy)}"):
        check_labels(y)
    assert_canonical(check_labels(eval(remedy, {"y": y})), [[1], [0]])


@pytest.mark.parametrize("y", ["tax", b"tax", {"tax": 1}, {("tax",)}, 3, iter([["tax"]])])
def test_check_labels_input_not_a_sequence_is_refused(y):
    message = r"^y must be a sparse matrix, a 2-D array, a frame, or .*got " + type(y).__name__
    with pytest.raises(ValueError, match=message):
        check_labels(y)


def test_check_labels_none_is_refused_in_words_of_sklearn():
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        check_labels(None)


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (None, ValueError, "^row 2 of y holds the missing label None. Leave it out"),
        (np.nan, ValueError, "^row 2 of y holds the missing label nan"),
        (pd.NA, ValueError, "^row 2 of y holds the missing label <NA>"),
        (True, TypeError, "^row 2 of y holds True of type bool, but labels must be str or int"),
        (1.0, TypeError, "^row 2 of y holds 1.0 of type float, .*Pass an indicator as a 2-D array"),
        (b"law", TypeError, "^row 2 of y holds b'law' of type bytes"),
        (["law"], TypeError, r"^row 2 of y holds \['law'\] of type list"),
        (
            7,
            ValueError,
            "^row 2 of y holds the label 7, but row 0 of y holds 'a': .* all str or all int",
        ),
    ],
)
def test_check_labels_labels_of_mixed_or_wrong_type_are_refused(label, error, message):
    with pytest.raises(error, match=message):
        check_labels([["a"], [], [label, "b"], ["c"]])


@pytest.mark.parametrize("label", [-1, 2**63])
def test_check_labels_integers_out_of_range_are_refused(label):
    with pytest.raises(ValueError, match=f"^row 2 of y holds the label {label}, but integer"):
        check_labels([[1], [], [label, 2], [3]])


# Names, numbers of rows, positives


def test_check_labels_label_names_become_classes():
    strings = ["a", "b", "c"]
    for names in (strings, tuple(strings), np.array(strings), pd.Index(strings)):
        labels = check_labels(INDICATOR, label_names=names)
        assert labels.classes.dtype == object
        assert labels.classes.tolist() == ["a", "b", "c"]
    labels = check_labels(INDICATOR, label_names=np.array([30, 10, 20], dtype=np.int16))
    assert labels.classes.dtype == np.int64
    assert labels.classes.tolist() == [30, 10, 20]


def test_check_labels_label_names_with_named_labels_are_refused():
    for y in ([["a"], ["b"]], pd.DataFrame({"a": [1, 0]})):
        with pytest.raises(ValueError, match=r"^label_names cannot be given, because y already"):
            check_labels(y, label_names=["a", "b"])


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a", "b"], ValueError, "^y has 3 columns, but there are 2 label_names"),
        (list("abcd"), ValueError, "^y has 3 columns, but there are 4 label_names"),
        (["a", "b", "a"], ValueError, "^label_names holds 'a' more than once"),
        (["a", "b", None], ValueError, "^position 2 of label_names holds the missing label None"),
        (["a", "b", 3], ValueError, "^position 2 of label_names holds the label 3, but position 0"),
        ([0, 1, -2], ValueError, "^position 2 of label_names holds the label -2, but integer"),
        ([0, 1, 2.0], TypeError, "^position 2 of label_names holds 2.0 of type float"),
        ("abc", TypeError, "^label_names must be a 1-D sequence of labels, got str"),
        ({"a", "b", "c"}, TypeError, "^label_names must be a 1-D sequence of labels, got set"),
        (np.array([["a", "b", "c"]]), TypeError, r"^label_names .* got ndarray of shape \(1, 3\)"),
    ],
)
def test_check_labels_bad_label_names_are_refused(names, error, message):
    with pytest.raises(error, match=message):
        check_labels(INDICATOR, label_names=names)


def test_check_labels_matrix_without_a_column_per_class_is_refused():
    labels = check_labels(INDICATOR, classes=["c", "a", "b"])
    assert_canonical(labels, INDICATOR)
    assert labels.classes.tolist() == ["c", "a", "b"]
    message = "^y has 3 columns, but there are 2 classes.*, or label collections"
    with pytest.raises(ValueError, match=message):
        check_labels(INDICATOR, classes=["a", "b"])


@pytest.mark.parametrize("y", [INDICATOR, sparse.csc_array(INDICATOR), [[0], [1], [2]]])
def test_check_labels_wrong_number_of_rows_is_refused(y):
    assert check_labels(y, n_texts=3).matrix.shape[0] == 3
    with pytest.raises(ValueError, match=r"^y has 3 rows, but there are 4 texts"):
        check_labels(y, n_texts=4)


def test_check_labels_no_positive_is_refused_if_required():
    empty = sparse.csr_array((3, 2))
    assert_canonical(check_labels(empty), np.zeros((3, 2)))
    stored_zero = sparse.csr_array((np.zeros(1), ([0], [0])), shape=(3, 2))
    for y in (empty, stored_zero, np.zeros((3, 2)), [[], []]):
        with pytest.raises(ValueError, match=r"^y holds no positive label at all"):
            check_labels(y, require_positive=True)
    assert check_labels(INDICATOR, require_positive=True).matrix.nnz == 4


def test_check_labels_one_text_and_one_label_are_enough():
    assert_canonical(check_labels([["a"]]), [[1]])
    assert_canonical(check_labels(np.array([[1]])), [[1]])


# Helpers that metrics use


def test_find_columns_returns_columns_in_shape_of_labels():
    found = find_columns(np.array([["b", "x"], ["a", "b"]]), label_array(["a", "b"], "c"), "l")
    np.testing.assert_array_equal(found, [[1, -1], [0, 1]])
    assert found.dtype == np.int64
