"""Properties of texts: any characters in any container are read, and bad input is refused."""

import numpy as np
import pandas as pd
from hypothesis import example, given
from hypothesis import strategies as st
from property_checks import refused, unmodified
from strategies import (
    CONTAINERS,
    STRING_CONTAINERS,
    cases,
    columns_of_text,
    missing_text,
    no_text,
    no_texts,
    text,
)

from skxmc._input.texts import check_texts

PLAIN = ["one", "", "three"]


@cases(10)
@given(columns_of_text())
def test_check_texts_any_characters_in_any_container_are_read(drawn):
    column, expected = drawn
    with unmodified(column):
        texts = check_texts(column)
    assert texts == expected
    assert {type(text) for text in texts} == {str}
    "".join(texts).encode()
    assert check_texts(texts) == texts


def test_check_texts_every_container_is_read():
    for make in [*CONTAINERS.values(), *STRING_CONTAINERS.values()]:
        assert check_texts(make(PLAIN)) == PLAIN


@cases(5)
@given(st.lists(text(), max_size=4), st.integers(0, 4), no_text(), st.sampled_from([*CONTAINERS]))
def test_check_texts_element_not_a_text_is_refused_by_row(texts, row, wrong, container):
    row = min(row, len(texts))
    texts = [*texts[:row], "", *texts[row:]]
    column = np.array(texts, dtype=object)
    column[row] = wrong
    with refused("corpus", rf"row {row} is"):
        check_texts(CONTAINERS[container](column.tolist()), name="corpus", allow_missing=True)


@cases(5)
@given(st.lists(text(), max_size=4), st.integers(0, 4), missing_text())
def test_check_texts_missing_text_is_refused_by_row_or_read_as_empty(texts, row, missing):
    row = min(row, len(texts))
    column = [*texts[:row], missing, *texts[row:]]
    with refused("X", rf"missing value .* at row {row}\."):
        check_texts(column)
    filled = ["" if value is missing else value for value in column]
    assert check_texts(column, allow_missing=True) == check_texts(filled)


@cases(10)
@given(no_texts())
@example([])
@example(iter(["a"]))
@example(np.array([["a"]]))
@example(pd.DataFrame({"text": ["a"]}))
def test_check_texts_input_not_a_column_of_texts_is_refused(wrong):
    with refused("X"):
        check_texts(wrong)
