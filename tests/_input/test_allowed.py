"""Labels that are excluded or allowed at prediction: the forms in which users pass them."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from skxmc._input.allowed import check_allowed

NAMES = np.array(["art", "law", "tax", "war"], dtype=object)


def allowed_of(exclude=None, allow=None, classes=NAMES, n_texts=2):
    """Return which labels are allowed, (n_texts, n_labels)."""
    allowed = check_allowed(exclude, allow, classes, n_texts)
    rows, columns = np.indices((n_texts, len(classes)))
    return allowed.includes(rows, columns).astype(int).tolist()


def test_check_allowed_without_choice_returns_none():
    assert check_allowed(None, None, NAMES, 2) is None


@pytest.mark.parametrize(
    "labels",
    [["law", "war"], {"law", "war"}, pd.Series(["law", "war", "law"])],
    ids=["list", "set", "column"],
)
def test_check_allowed_list_of_labels_holds_for_all_texts(labels):
    assert allowed_of(exclude=labels) == [[1, 0, 1, 0]] * 2
    assert allowed_of(allow=labels) == [[0, 1, 0, 1]] * 2


@pytest.mark.parametrize("empty", [[], (), set(), [[], []], np.zeros((2, 4))])
def test_check_allowed_empty_list_excludes_nothing_and_allows_nothing(empty):
    assert allowed_of(exclude=empty) == [[1, 1, 1, 1]] * 2
    assert allowed_of(allow=empty) == [[0, 0, 0, 0]] * 2


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[0, 1, 0, 1], [1, 0, 0, 0]]),
        sparse.csr_array([[False, True, False, True], [True, False, False, False]]),
        sparse.coo_matrix([[0, 1, 0, 1], [1, 0, 0, 0]]),
        [["law", "war"], ["art"]],
        pd.DataFrame({"war": [1, 0], "art": [0, 1], "law": [1, 0]}),
    ],
    ids=["array", "csr", "coo", "collections", "frame"],
)
def test_check_allowed_masks_hold_per_text(mask):
    assert allowed_of(exclude=mask) == [[1, 0, 1, 0], [0, 1, 1, 1]]
    assert allowed_of(allow=mask) == [[0, 1, 0, 1], [1, 0, 0, 0]]


def test_check_allowed_both_excludes_from_what_is_allowed():
    assert allowed_of(["law"], [["law", "tax"], ["art", "war"]]) == [[0, 0, 1, 0], [1, 0, 0, 1]]
    assert allowed_of([["law"], ["tax"]], ["law", "tax"]) == [[0, 0, 1, 0], [0, 1, 0, 0]]


def test_check_allowed_integer_labels_are_labels_not_columns():
    assert allowed_of([7], classes=np.array([3, 7])) == [[1, 0]] * 2


def test_first_keeps_order_and_marks_what_is_lacking():
    allowed = check_allowed([["law"], ["art", "law", "war"]], None, NAMES, 2)
    columns = np.array([[1, 3, 0], [3, 1, 2]])
    scores = np.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]])
    columns, scores = allowed.first(columns, scores, 2)
    assert columns.tolist() == [[3, 0], [2, -1]]
    assert scores.tolist() == [[0.8, 0.7], [0.4, 0]]


@pytest.mark.parametrize("choice", [{"exclude": ["art"]}, {"allow": [["law"], ["art", "tax"]]}])
def test_kept_drops_other_entries_only(choice):
    dense = np.array([[0.5, 0.25, 0, 1], [0.125, 0, 0.75, 0.5]])
    allowed = check_allowed(choice.get("exclude"), choice.get("allow"), NAMES, 2)
    kept = allowed.kept(sparse.csr_matrix(dense))
    assert isinstance(kept, sparse.csr_matrix)
    np.testing.assert_array_equal(kept.toarray(), dense * allowed_of(**choice))


def test_n_enough_counts_what_the_strictest_text_lacks():
    allowed = check_allowed([["law"], ["art", "law"]], None, NAMES, 2)
    assert allowed.n_enough(1) == 3
    assert allowed.of(slice(0, 1)).n_enough(1) == 2
    assert check_allowed(None, ["tax"], NAMES, 2).n_enough(2) == 4


def test_lacks_only_texts_that_could_have_more():
    allowed = check_allowed(None, [["law"], ["art", "tax"]], NAMES, 2)
    assert allowed.lacks(np.array([[1, -1], [0, -1]])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("exclude", "allow"),
    [
        (["art", "law"], ["law", "tax"]),
        ([["law"], ["art"]], ["art", "law"]),
        (["law"], [["art", "law"], ["law", "tax"]]),
        ([["law"], ["tax"]], [["art", "law"], ["tax", "war"]]),
    ],
    ids=str,
)
def test_lacks_and_n_enough_count_label_that_is_allowed_and_excluded_once(exclude, allow):
    allowed = check_allowed(exclude, allow, NAMES, 2)
    assert allowed.lacks(np.array([[0, -1], [-1, -1]])).tolist() == [False, True]
    assert allowed.n_enough(1) == 4  # one label is allowed


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ("law", TypeError, "^exclude is the string 'law'. Pass a list of labels"),
        (["law", "Tax"], ValueError, "^exclude holds 'Tax', which is none of the classes. Spell"),
        ([["law"], ["Tax"]], ValueError, "^exclude holds 'Tax', which is none of the classes"),
        ([3], ValueError, "^exclude has labels of type int, such as 3, but the classes are of"),
        (np.eye(2), ValueError, "^exclude has 2 columns, but there are 4 classes"),
        (np.eye(4), ValueError, "^exclude has 4 rows, but there are 2 texts"),
        ([["law"]], ValueError, "^exclude has 1 rows, but there are 2 texts"),
        (np.full((2, 4), 2), ValueError, "^exclude holds 2.0 at row 0, column 0"),
        (7, TypeError, r"^exclude is 7\. Pass a list of labels, or a list or a mask per text"),
        pytest.param(
            map(str, "ab"),
            TypeError,
            "^exclude is <map object at .* Pass a list of labels, or a",
            id="iterator",
        ),
    ],
    ids=str,
)
def test_check_allowed_malformed_labels_are_an_error(labels, error, message):
    with pytest.raises(error, match=message):
        check_allowed(labels, None, NAMES, 2)
