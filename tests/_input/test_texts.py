"""Texts in all forms that users pass, and errors for all other forms."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from validation_helpers import Number

from skxmc._input.texts import check_texts


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
def test_check_texts_every_form_becomes_a_list_of_str(texts):
    checked = check_texts(texts)
    assert checked == ["one", "two"]
    assert [type(text) for text in checked] == [str, str]


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_check_texts_columns_of_polars_and_pyarrow_are_read(library):
    module = pytest.importorskip(library)
    column = {
        "polars": lambda: module.Series(["one", "two"]),
        "pyarrow": lambda: module.chunked_array([["one"], ["two"]]),
    }[library]()
    assert check_texts(column) == ["one", "two"]


def test_check_texts_leaves_input_unchanged():
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
def test_check_texts_any_unicode_can_be_encoded(text, expected):
    (checked,) = check_texts([text])
    assert checked == expected
    checked.encode()


def test_check_texts_no_text_is_refused_unless_allowed():
    assert check_texts([], allow_empty=True) == []
    with pytest.raises(ValueError, match=r"^X holds no text. Pass at least one text"):
        check_texts([])


def test_check_texts_bare_string_is_refused_in_words_of_sklearn():
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
def test_check_texts_not_one_dimensional_is_refused(texts, kind):
    message = rf"^X must be one-dimensional, got {kind}.* column such as X\['text'\].* vectorizer"
    with pytest.raises(ValueError, match=message):
        check_texts(texts)


def test_check_texts_two_columns_say_how_to_join_them():
    frame = pd.DataFrame({"title": ["one", "two"], "body": ["more", None], "id": [1, 2]})
    remedy = "X['title'].fillna('') + ' ' + X['body'].fillna('')"
    with pytest.raises(ValueError, match=re.escape(f"Join columns with {remedy} in pandas.")):
        check_texts(frame)
    assert check_texts(eval(remedy, {"X": frame})) == ["one more", "two "]
    with pytest.raises(ValueError, match=r"^X must be one-dimensional, (?!.*Join)"):
        check_texts(frame[["title"]])


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
def test_check_texts_without_length_or_order_are_refused(texts, kind):
    message = f"^docs must be a list, tuple, 1-D array or column of str, got {kind}"
    with pytest.raises(TypeError, match=message):
        check_texts(texts, name="docs")


@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.float32("nan"), np.float64("nan"), pd.NA, pd.NaT]
)
def test_check_texts_missing_text_is_refused_by_row(missing):
    with pytest.raises(ValueError, match=r"^docs holds a missing value .* row 2\. .*fillna\(''\)"):
        check_texts(["one", np.str_("two"), missing], name="docs")


def test_check_texts_missing_text_in_series_is_refused_by_row():
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
def test_check_texts_element_not_a_text_is_refused_by_row(element, kind, remedy):
    with pytest.raises(TypeError, match=f"row 1 is .* of type {kind}. {remedy}"):
        check_texts(["one", element])
