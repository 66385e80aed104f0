"""Errors and warnings of load_table name the file, the line, the column and the remedy."""

import datetime
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from dataset_files import write

from skxmc.datasets import load_table


def load(file, content=None, **options):
    if content is not None:
        write(file, content)
    return load_table(file, **{"text": "text", "labels": "tags", **options})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"t\.csv is empty\. The first line must name the columns"),
        ("\n \n", r"t\.csv is empty\."),
        (
            "test,tags\na,x\n",
            r"has no column 'text'\. Did you mean 'test'\? Its columns are test, t",
        ),
        ("a thing,x\n", r"has no column 'text'\. Its columns are a thing, x\."),
        (
            "text;tag;more\n",
            r"has no column 'tags'\. Did you mean 'tag'\? Its columns are text, tag",
        ),
        ("text,tags,text\na,x,b\n", r"has 2 columns 'text'\. Rename all but one"),
        ("text,tags\na,x\nb,c,y\n", r"line 3: 3 cells, but 2 columns\. Put cells that contain ','"),
        (
            'text,tags\n"a\nb",x\n"c,y\n',
            r"line 4: malformed cells \(unexpected end of data\)\. Close",
        ),
        (
            'text,tags\n"a" b,x\n',
            r"line 2: malformed cells \(',' expected after '\"'\)\. .* double",
        ),
        ("text,tags\na\rb,x\n", r"line 2: malformed cells \(new-line character"),
        ("text,tags\na,\nb, \n", r"has no label in column 'tags'\. Pass the column of the labels"),
        ("text,tags\n", r"has no label"),
        ("text,tags\na,\xe9\n".encode("latin-1"), r"line 2: not utf-8 .*encoding='latin-1'"),
        ("text,tags\na,x\n".encode("utf-16"), r"t\.csv seems to be UTF-16"),
    ],
)
def test_load_table_malformed_csv_raises_error(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "t.csv", content)


def test_load_table_malformed_json_names_the_line(tmp_path):
    with pytest.raises(ValueError, match=r"t\.jsonl, line 2: malformed JSON .* object per line"):
        load(tmp_path / "t.jsonl", '{"text": "a", "tags": ["x"]}\n{"text": \n')
    with pytest.raises(ValueError, match=r"t\.json, line 1: .* is not a JSON object\. Write one"):
        load(tmp_path / "t.json", '[{"text": "a", "tags": ["x"]}]\n')


def test_load_table_cell_of_wrong_type_names_line_and_column(tmp_path):
    content = '{"text": "a", "tags": ["x"]}\n\n{"text": ["b"], "tags": ["x"]}\n'
    message = r"t\.jsonl, line 3, column 'text': \['b'\] of type list is no string.* Convert"
    with pytest.raises(TypeError, match=message):
        load(tmp_path / "t.jsonl", content)
    content = '{"text": "a", "tags": [{"name": "x"}]}\n'
    with pytest.raises(TypeError, match=r"line 1, column 'tags': {'name': 'x'} of type dict is no"):
        load(tmp_path / "t.jsonl", content)
    table = pd.DataFrame({"text": ["a", datetime.date(2020, 1, 1)], "tags": "x"})
    with pytest.raises(TypeError, match=r"^the frame, row 1, column 'text': .* of type date is no"):
        load(table)


def test_load_table_damaged_parquet_raises_error(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"t\.parquet is not a complete Parquet file .*again"):
        load(tmp_path / "t.parquet", "no parquet")


def test_load_table_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"t\.parquet .* is not installed\. Run: pip install pya"):
        load(tmp_path / "t.parquet", "anything")


@pytest.mark.parametrize("name", ["t.xlsx", "t.txt", "folder"])
def test_load_table_unknown_format_raises_error(tmp_path, name):
    message = rf"{name} is not a table that can be read\..*\.csv, .*\.parquet\. Save spreadsheets"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name, "anything")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_load_table_missing_file_raises_error(tmp_path, name):
    pytest.importorskip("pyarrow")
    with pytest.raises(FileNotFoundError, match=re.escape(name)):
        load(tmp_path / name)


def test_load_table_neither_path_nor_frame_raises_error():
    with pytest.raises(TypeError, match=r"must be a path or a frame, got list\. Pass the name"):
        load([["a", "x"]])


@pytest.mark.parametrize("test", [0, 1, 1.0, -0.1, 2.5])
def test_load_table_test_not_a_share_raises_error(test):
    with pytest.raises(ValueError, match=rf"test={test} is not a share between 0 and 1\. Pass"):
        load(pd.DataFrame({"text": ["a", "b"], "tags": "x"}), test=test)


@pytest.mark.parametrize("texts", [["a"], ["a"] * 5, []])
def test_load_table_too_few_different_texts_to_hold_out_raise_error(texts):
    table = pd.DataFrame({"text": texts, "tags": ["x"] * len(texts)})
    with pytest.raises(ValueError, match=r"too few different texts to hold out \d of \d\. Pass"):
        load(table, test="auto")


def test_load_table_empty_separator_raises_error():
    with pytest.raises(ValueError, match=r"separator is empty\. Pass the text between labels"):
        load(pd.DataFrame({"text": ["a"], "tags": "x"}), separator="")


# ---------------------------------------------------------------------- several labels in a string

SINGLE = ["sea", "land", "Smith, John", "Taylor, Jane", "Jones, Mary", "tax, in general"]


@pytest.mark.parametrize("separator", ["; ", ";", "|", ", ", "\t"])
@pytest.mark.parametrize("given", [None, "/"])
def test_load_table_values_that_look_joined_warn(separator, given):
    """Also if the separator that is given occurs in no value."""
    rows = [["sea", "boats"], ["boats"], ["sea", "land"], ["land", "boats"], [], ["sky"]]
    table = pd.DataFrame({"text": list("abcdef"), "tags": [separator.join(row) for row in rows]})
    message = (
        f"column 'tags': 'land{separator}boats' and other values look like several labels joined "
        f"by '{separator}'. Pass separator='{separator}' to split them."
    )
    with pytest.warns(UserWarning, match=re.escape(message.replace("\t", "\\t"))) as warned:
        assert len(load(table, separator=given).label_names) == 5
    assert [Path(warning.filename) for warning in warned] == [Path(__file__)]
    assert len(load(table, separator=separator).label_names) == 4


def test_load_table_joined_values_that_begin_alike_warn():
    """Most labels of a hierarchy have few texts, but their parents have many."""
    tags = [", ".join(["10", f"J{i // 4}", f"J{i // 4}.{i % 4}"]) for i in range(40)]
    with pytest.warns(UserWarning, match="separator=', ' to split them"):
        load(pd.DataFrame({"text": tags, "tags": tags}))


@pytest.mark.parametrize("tags", [SINGLE, SINGLE[2:3] * 6, [[tag, "x; y"] for tag in SINGLE]])
def test_load_table_values_that_are_one_label_do_not_warn(tags):
    """Names have parts that occur once, or in one name that is frequent."""
    load(pd.DataFrame({"text": SINGLE, "tags": tags}))
