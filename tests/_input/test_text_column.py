"""Columns of texts that are read block by block."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from skxmc._input.split import add_label_texts, hold_out
from skxmc._input.text_column import TextColumn, check_column
from skxmc._input.validation import check_labels

TEXTS = ["one", "", "three 漢字", "four", "five", "six", "seven"]


class Lines(Sequence):
    """Sequence of a user, which takes no slices."""

    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, row):
        return TEXTS[row.__index__()]


def memory_map(folder):
    array = np.array(TEXTS)
    np.save(folder / "texts.npy", array)
    return np.load(folder / "texts.npy", mmap_mode="r")


def arrow_file(folder):
    pa = pytest.importorskip("pyarrow")
    path = str(folder / "texts.arrow")
    with pa.ipc.new_file(path, pa.schema({"text": pa.string()})) as file:
        for part in (TEXTS[:2], TEXTS[2:]):
            file.write(pa.record_batch([pa.array(part)], names=["text"]))
    return pa.ipc.open_file(pa.memory_map(path)).read_all()["text"]


def arrow_series(folder):
    return pd.Series(arrow_file(folder).to_pylist(), dtype="string[pyarrow]", index=range(7, 0, -1))


def polars_series(folder):
    return pytest.importorskip("polars").Series(TEXTS)


COLUMNS = [memory_map, arrow_file, arrow_series, polars_series, lambda folder: Lines()]


@pytest.fixture(params=COLUMNS, ids=["numpy", "pyarrow", "pandas", "polars", "sequence"])
def column(request, tmp_path):
    return request.param(tmp_path)


def test_check_column_keeps_columns_and_reads_blocks(column):
    texts = check_column(column, block=3)
    assert isinstance(texts, TextColumn)
    assert texts.column is column
    assert len(texts) == 7
    assert list(texts) == TEXTS
    assert [type(text) for text in texts] == [str] * 7
    assert [texts[0], texts[6], texts[-2]] == ["one", "seven", "six"]
    assert texts[2:5] == TEXTS[2:5]
    assert texts[5:99] == TEXTS[5:]
    assert texts[7:] == []
    with pytest.raises(IndexError):
        texts[7]


@pytest.mark.parametrize(
    "texts", [["a"], ("a",), np.array(["a"], dtype=object), pd.Series(["a"], dtype=object)]
)
def test_check_column_of_python_strings_is_a_list(texts):
    assert check_column(texts) == ["a"]


def test_text_column_reads_at_most_a_block_at_once():
    read = []

    class Counted(Lines):
        def __getitem__(self, row):
            read.append(row)
            return super().__getitem__(row)

    texts = check_column(Counted(), block=3)
    read.clear()
    assert next(iter(texts)) == "one"
    assert read == [0, 1, 2]
    read.clear()
    assert texts.take(np.array([0, 5]))[:] == ["one", "six"]
    assert read == [0, 5]  # none of those between


def test_text_column_take_and_plus_equal_a_list(column):
    texts = check_column(column, block=3).take(np.array([0, 2, 3, 5]))
    assert list(texts) == texts[:] == ["one", "three 漢字", "four", "six"]
    texts = texts.take(np.array([1, 3])).plus(["more"]).plus(["most"])
    assert list(texts) == ["three 漢字", "six", "more", "most"]
    assert texts[1:3] == ["six", "more"]
    assert texts[2:] == ["more", "most"]


def test_text_column_digest_depends_on_texts_alone(column):
    digest = check_column(column, block=3).digest()
    assert digest == TextColumn(TEXTS).digest()
    assert digest != TextColumn(TEXTS[:-1]).digest()
    assert TextColumn(["ab", "c"]).digest() != TextColumn(["a", "bc"]).digest()


def test_text_column_lone_surrogates_become_replacement_characters():
    assert list(check_column(np.array(["a", "b\ud800"]))) == ["a", "b\ufffd"]


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (pd.Series(["a", "b", "c", None], dtype="string"), ValueError, "missing value .* row 3"),
        (np.arange(4), TypeError, "row 0 is 0 of type int"),
        (np.array([["a"]]), ValueError, "must be one-dimensional"),
        (np.array([], dtype=str), ValueError, "^X holds no text"),
        ("text", ValueError, "string object received"),
        (b"text", TypeError, "got bytes"),
    ],
)
def test_check_column_wrong_texts_are_refused(X, error, message):
    with pytest.raises(error, match=message):
        check_column(X, block=2)


def test_hold_out_and_label_texts_equal_those_of_a_list(column):
    labels = check_labels([[i % 3] for i in range(7)])
    weights = np.array([1, 1, 0, 2, 1, 1, 1.0])
    found, expected = (
        hold_out(texts, labels, None, 0.3, 0, weights) for texts in (check_column(column), TEXTS)
    )
    assert isinstance(found[0][0], TextColumn)
    assert list(found[0][0]) == expected[0][0]
    assert found[2][0] == expected[2][0]
    assert type(found[2][0]) is list
    about = ["about 0", None, "about 2"]
    texts, _ = add_label_texts(*found[0], labels.classes, about)
    assert list(texts) == [*expected[0][0], "about 0", "about 2"]
