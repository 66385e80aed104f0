"""Values of users in messages are cut."""

import ast
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import skxmc
from skxmc._utils.quoting import MAX_QUOTED, listed, quoted, quoted_path, shortened


@pytest.mark.parametrize(
    "value",
    [
        "law", "it's", "tax\n", None, 3, 2.5, float("nan"), b"law", ("a", 1), {"a": [1]}, [], set(),
        np.array([1.5, -2.0]), np.array(["a", "b"]),
    ],
    ids=repr,
)  # fmt: skip
def test_quoted_short_value_is_its_repr(value):
    assert quoted(value) == repr(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(2.5), "2.5"),
        (np.str_("law"), "'law'"),
        (np.zeros(10**6), "ndarray of shape (1000000,)"),
        (np.array(["x" * 10**5, None], dtype=object), "ndarray of shape (2,)"),
        (pd.DataFrame({"a": [1, 2]}), "DataFrame of shape (2, 1)"),
        (pd.Series([1, 2]), "Series of shape (2,)"),
        (sparse.csr_array((3, 4)), "csr_array of shape (3, 4)"),
        (torch.zeros(2, 3), "Tensor of shape (2, 3)"),
        ([np.zeros((9, 9))], "[ndarray of shape (9, 9)]"),
        (10**5000, "<int>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_quoted_large_value_is_described(value, expected):
    assert quoted(value) == expected


class Wordy:
    def __repr__(self):
        return "two\n   lines " * 10**4


class Broken:
    def __repr__(self):
        raise RuntimeError


HUGE = {
    "str": "x" * 10**7,
    "bytes": b"x" * 10**6,
    "list": list(range(10**6)),
    "nested list": [["x" * 10**5] * 1000] * 1000,
    "set": set(range(10**5)),
    "dict": dict.fromkeys(range(10**6)),
    "range": range(10**6),
    "object": Wordy(),
    "broken object": Broken(),
}


@pytest.mark.parametrize("name", HUGE)
def test_quoted_huge_value_is_one_short_line_soon(name):
    started = time.process_time()
    text = quoted(HUGE[name])
    assert len(text) <= MAX_QUOTED
    assert "\n" not in text
    assert time.process_time() - started < 5


def test_quoted_long_text_keeps_both_ends():
    text = quoted("begin" + "x" * 1000 + "end")
    assert text.startswith("'beginxxx")
    assert text.endswith("xxxend'")
    assert "..." in text
    assert quoted_path("/folder/" * 20) == repr("/folder/" * 20)


@pytest.mark.parametrize("width", [10, 11, 80])
def test_shortened_has_exactly_width_characters(width):
    assert len(shortened("x" * 100, width)) == width
    assert shortened("y" * width, width) == "y" * width


def test_listed_long_list_names_the_first_and_counts_the_rest():
    assert listed(["a", "b"]) == "a, b"
    assert listed(map(str, range(22))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 12 more"
    assert len(listed(["x" * 10**5] * 10)) < 1000


def test_source_quotes_values_of_users_by_quoted_alone():
    """An f-string with !r does not cut what it quotes. Paths may be quoted whole."""
    folder = Path(skxmc.__file__).parent
    for file in folder.rglob("*.py"):
        if file == folder / "__init__.py":  # names of attributes
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FormattedValue) and node.conversion in (ord("r"), ord("a")):
                assert ast.unparse(node.value).startswith("str("), (file, ast.unparse(node))
