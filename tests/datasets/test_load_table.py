"""load_table reads each kind of file, and frames, to the same texts and labels."""

import csv
import gzip

import numpy as np
import pandas as pd
import pytest
from dataset_files import check_matrix, json_lines, write

from skxmc import OmikujiClassifier
from skxmc.datasets import load_table

# A comma, quotes, a line break, U+2028 and a missing value. The last two rows are blank.
TITLES = ["Taxes on land, new", 'The "sea"', "Two\nlines\u2028here", None, None, ""]
BODIES = ["of 1999", None, "b", "Straße 日本", None, ""]
TAGS = ["tax; land", "sea", " land;  ; tax; ", "law", None, ""]
TEXTS = ["Taxes on land, new of 1999", 'The "sea"', "Two\nlines\u2028here b", "Straße 日本"]
Y = [[1, 0, 0, 1], [0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0]]
NAMES = ["land", "law", "sea", "tax"]


LISTS = [[tag.strip() for tag in (tags or "").split(";")] for tags in TAGS]
COLUMNS = {"title": TITLES, "body": BODIES, "tags": TAGS, "lists": LISTS}


def frame():
    return pd.DataFrame(COLUMNS)


def write_csv(file, **options):
    """Write the table without its column of lists."""
    frame().drop(columns="lists").to_csv(file, index=False, **options)


def load(table, **options):
    arguments = {"text": ["title", "body"], "labels": "tags", "separator": ";"}
    return load_table(table, **{**arguments, **options})


def check(data, n_blank):
    assert data.X_train == TEXTS + [""] * n_blank
    check_matrix(data.y_train, Y + [[0] * 4] * n_blank)
    assert data.label_names.tolist() == NAMES
    assert data.label_names.dtype == object
    test_part = (data.X_test, data.y_test, data.n_unknown_test, data.filter_test)
    assert test_part == (None, None, None, None)


# ---------------------------------------------------------------------- kinds of tables


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("t.csv", {}),
        ("T.CSV", {"quoting": csv.QUOTE_ALL, "lineterminator": "\r\n"}),
        ("t.csv", {"sep": ";", "encoding": "utf-8-sig", "lineterminator": "\r\n"}),  # of Excel
        ("t.csv", {"sep": "|"}),
        ("t.csv", {"sep": "\t"}),
        ("t.csv.gz", {}),
        ("t.tsv", {"sep": "\t"}),
        ("t.tsv.gz", {"sep": "\t"}),
    ],
)
def test_load_table_csv_reads_cells_with_quotes_and_line_breaks(tmp_path, name, options):
    """Blank lines are skipped."""
    write_csv(tmp_path / name, **options)
    check(load(tmp_path / name), 0)


@pytest.mark.parametrize("name", ["t.jsonl", "t.ndjson", "t.json", "t.jsonl.gz"])
@pytest.mark.parametrize("labels", ["tags", "lists"])
def test_load_table_json_lines_reads_strings_and_lists(tmp_path, name, labels):
    frame().to_json(tmp_path / name, orient="records", lines=True)
    check(load(tmp_path / name, labels=labels), 2)


def test_load_table_json_lines_without_a_key_have_no_value(tmp_path):
    records = [{"title": "a"}, {"title": "b", "tags": ["x", "y"]}, {"tags": "x", "title": None}]
    write(tmp_path / "t.jsonl", json_lines(records))
    data = load_table(tmp_path / "t.jsonl", text="title", labels="tags")
    assert data.X_train == ["a", "b", ""]
    check_matrix(data.y_train, [[0, 0], [1, 1], [1, 0]])


@pytest.mark.parametrize("labels", ["tags", "lists"])
def test_load_table_parquet_reads_strings_and_lists(tmp_path, labels):
    pytest.importorskip("pyarrow")
    frame().to_parquet(tmp_path / "t.parquet", row_group_size=2)
    check(load(str(tmp_path / "t.parquet"), labels=labels), 2)
    swapped = load(tmp_path / "t.parquet", labels=labels, text=["body", "title"])
    assert swapped.X_train[0] == "of 1999 Taxes on land, new"


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("labels", ["tags", "lists"])
def test_load_table_frame_reads_strings_and_lists(library, labels):
    module = pytest.importorskip(library)
    table = module.table(COLUMNS) if library == "pyarrow" else module.DataFrame(COLUMNS)
    check(load(table, labels=labels), 2)


def test_load_table_numbers_are_read_as_written():
    """A missing value makes whole numbers floats."""
    table = pd.DataFrame({"text": [7, 8, 9], "code": [12.0, np.nan, 1.5]})
    data = load_table(table, text="text", labels="code")
    assert data.X_train == ["7", "8", "9"]
    assert data.label_names.tolist() == ["1.5", "12"]


def test_load_table_column_numbers_of_a_frame_are_names():
    data = load_table(pd.DataFrame([["a", "x"], ["b", "y"]]), text="0", labels="1")
    assert data.X_train == ["a", "b"]


def test_load_table_cell_longer_than_a_megabyte_is_read(tmp_path):
    write(tmp_path / "t.csv", f"text,tags\n{'word ' * 300_000},x\n")
    assert len(load_table(tmp_path / "t.csv", text="text", labels="tags").X_train[0]) == 1_500_000


def test_load_table_lines_with_fewer_or_blank_cells_are_filled(tmp_path):
    """Excel leaves out the last cells of some lines, and adds blank ones to others."""
    write(tmp_path / "t.csv", "\n text ,tags,note\na\nb,x\nc,x,,,\n,,\n\n")
    data = load_table(tmp_path / "t.csv", text="text", labels="tags")
    assert data.X_train == ["a", "b", "c"]
    check_matrix(data.y_train, [[0], [1], [1]])


def test_load_table_expected_columns_decide_the_delimiter(tmp_path):
    """The header has more commas than semicolons."""
    write(tmp_path / "t.csv", "text;tags;size, in cm, about\nred, blue, green;x;1\n")
    data = load_table(tmp_path / "t.csv", text="text", labels="tags")
    assert data.X_train == ["red, blue, green"]


def test_load_table_encoding_of_excel(tmp_path):
    write(tmp_path / "t.csv", "text;tags\ncafé, 3 €;été\n".encode("cp1252"))
    data = load_table(tmp_path / "t.csv", text="text", labels="tags", encoding="cp1252")
    assert (data.X_train, data.label_names.tolist()) == (["café, 3 €"], ["été"])


# ---------------------------------------------------------------------- several columns


def test_load_table_several_label_columns_are_put_together():
    table = pd.DataFrame({"text": ["a", "b"], "main": ["x", None], "more": ["y, x", "z,"]})
    data = load_table(table, text="text", labels=["main", "more"], separator=",")
    assert data.label_names.tolist() == ["x", "y", "z"]
    check_matrix(data.y_train, [[1, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("values", [(0, 1), (False, True), ("0", "1"), (None, 1.0), ("", "1.0")])
def test_load_table_indicator_columns_name_the_labels(values):
    columns = np.array(values, dtype=object)[[[0, 1], [1, 1], [0, 0]]]
    table = pd.DataFrame(columns, columns=["toxic", "insult"]).assign(text=["a", "b", "c"])
    data = load_table(table, text="text", labels=["toxic", "insult"])
    assert data.label_names.tolist() == ["insult", "toxic"]
    check_matrix(data.y_train, [[1, 0], [1, 1], [0, 0]])
    # One such column has the labels 0 and 1.
    assert "toxic" not in load_table(table, text="text", labels="toxic").label_names


# ---------------------------------------------------------------------- test part


def test_load_table_second_table_is_the_test_part(tmp_path):
    """It may have another format. Labels that training lacks are counted once per text."""
    write_csv(tmp_path / "train.csv")
    records = [{"title": "t", "body": "", "tags": "sea;new;newer;new"}, {"title": "u"}]
    write(tmp_path / "test.jsonl", json_lines([{"body": "", "tags": None, **r} for r in records]))
    data = load(tmp_path / "train.csv", test=tmp_path / "test.jsonl")
    assert data.X_train == TEXTS
    assert data.X_test == ["t", "u"]
    check_matrix(data.y_test, [[0, 0, 1, 0], [0] * 4])
    check_matrix(data.filter_test, np.zeros((2, 4)))
    assert data.n_unknown_test.tolist() == [2, 0]
    assert data.n_unknown_test.dtype == np.int64


def many(n_texts, n_equal=1):
    """Make texts, each of which occurs several times, with a label of its own."""
    numbers = np.arange(n_texts) // n_equal
    return pd.DataFrame({"text": numbers.astype(str), "tags": [f"t{i}" for i in numbers]})


@pytest.mark.parametrize(
    ("n_texts", "test", "n_test"),
    [(100, "auto", 10), (101, "auto", 11), (20_010, "auto", 2000), (100, 0.25, 25), (2, 0.1, 1)],
)
def test_load_table_share_is_held_out(n_texts, test, n_test):
    table = many(n_texts)
    data = load_table(table, text="text", labels="tags", test=test)
    assert len(data.X_test) == n_test
    assert sorted(data.X_train + data.X_test) == sorted(table["text"])
    assert data.X_train == sorted(data.X_train, key=int)  # in the order of the table
    # Held-out texts have labels of their own here, which have no columns.
    assert data.y_train.shape == (n_texts - n_test,) * 2
    assert data.n_unknown_test.tolist() == [1] * n_test


def test_load_table_random_state_chooses_the_held_out_texts():
    def held_out(**options):
        return load_table(many(100), text="text", labels="tags", test=0.1, **options).X_test

    assert held_out() == held_out(random_state=0) != held_out(random_state=1)


def test_load_table_equal_texts_are_never_in_both_parts():
    """A text that is more frequent than the held-out part is large stays in training."""
    table = pd.concat([many(120, n_equal=3), pd.DataFrame({"text": [None] * 30, "tags": "x"})])
    for seed in range(5):
        data = load_table(table, text="text", labels="tags", test="auto", random_state=seed)
        assert len(data.X_test) == 15
        assert not set(data.X_test) & set(data.X_train)
        assert data.X_train.count("") == 30


def test_load_table_bunch_trains_and_scores_a_classifier():
    pytest.importorskip("omikuji")
    data = load(frame(), test=frame())
    clf = OmikujiClassifier().fit(data.X_train, data.y_train, label_names=data.label_names)
    assert clf.classes_.tolist() == NAMES
    assert 0 <= clf.score(data.X_test, data.y_test) <= 1


def test_load_table_gzipped_file_is_read_to_its_end(tmp_path):
    rows = "".join(f"text {i},x\n" for i in range(5000))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(f"text,tags\n{rows}".encode()))
    assert len(load_table(tmp_path / "t.csv.gz", text="text", labels="tags").X_train) == 5000
