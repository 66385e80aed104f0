"""Label separators, the DeepXML layout, filtered labels and blank lines of JSON files."""

import json
import warnings

import numpy as np
import pytest
from dataset_files import (
    TEST_TEXTS,
    TEXTS,
    Y_TEST,
    Y,
    check_matrix,
    lines,
    write,
    write_lightxml,
    write_repository,
)

from skxmc.datasets import load_xmc

ROWS = [["tax law", "art"], ["art"], ["tax law", "land"], ["land", "art", "tax law"]]


def write_rows(folder, separator, rows=ROWS):
    write_lightxml(folder)
    write(folder / "train_labels.txt", lines(separator.join(row) for row in rows))
    write(folder / "test_labels.txt", lines(separator.join(row) for row in rows[:2]))


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|", ", ", " | "])
def test_load_xmc_plain_separator_is_found(tmp_path, separator):
    write_rows(tmp_path, separator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_xmc(tmp_path)
    assert data.label_names.tolist() == ["art", "land", "tax law"]
    assert data.y_train.sum(axis=1).tolist() == [2, 1, 2, 3]
    assert data.n_unknown_test.tolist() == [0, 0]


@pytest.mark.parametrize("separator", [",", "\t", "/"])
def test_load_xmc_given_separator_is_used(tmp_path, separator):
    write_rows(tmp_path, separator, [["a b", "c"], ["d"], ["e", "f g"], ["h"]])
    data = load_xmc(tmp_path, label_separator=separator)
    assert data.label_names.tolist() == ["a b", "c", "d", "e", "f g", "h"]


@pytest.mark.parametrize(
    ("row", "names"),
    [
        (["1,2-dioxane water", "1,3-dioxane", "water", "sand"], ["1,2-dioxane", "1,3-dioxane"]),
        (["a|b x", "c|d y", "x y", "y"], ["a|b", "c|d"]),
        (["a\tb", "b", "a", "b a"], ["a", "b"]),
    ],
)
def test_load_xmc_character_in_names_is_kept_with_blank_as_separator(tmp_path, row, names):
    write_rows(tmp_path, "", [[text] for text in row])
    found = load_xmc(tmp_path, label_separator=" ").label_names.tolist()
    assert set(names) <= set(found)


def test_load_xmc_doubtful_separator_warns(tmp_path):
    write_rows(tmp_path, "", [["1,2-dioxane water"], ["1,3-dioxane"], ["water"], ["sand"]])
    with pytest.warns(UserWarning, match=r"has ',' in 2 of 4 lines.*Pass label_separator=','"):
        data = load_xmc(tmp_path)
    assert "1,2-dioxane" in data.label_names


def write_deepxml(folder, compress=False):
    write(folder / "trn_X.txt", lines(TEXTS), compress)
    write(folder / "tst_X.txt", lines(TEST_TEXTS), compress)
    for which, matrix in (("trn", Y), ("tst", Y_TEST)):
        rows = [" ".join(f"{j}:1.0" for j in np.flatnonzero(row)) for row in matrix]
        write(folder / f"{which}_X_Y.txt", lines([f"{len(matrix)} 3", *rows]), compress)
    write(folder / "Y.txt", lines(["a", "b", "c"]), compress)


@pytest.mark.parametrize("compress", [False, True])
def test_load_xmc_deepxml_reads_texts_and_labels(tmp_path, compress):
    write_deepxml(tmp_path, compress)
    data = load_xmc(tmp_path)
    assert data.X_train == TEXTS
    assert data.X_test == TEST_TEXTS
    check_matrix(data.y_train, Y)
    check_matrix(data.y_test, Y_TEST)
    assert data.label_names.tolist() == ["a", "b", "c"]
    assert data.filter_test.nnz == 0


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("a b\n", "line 1: 'a b' is not a header"),
        ("", "line 1: '' is not a header"),
        ("4 3\n0:1\n3:1\n\n\n", "line 3: '3:1' is not a pair column:value with a column from 0"),
        ("4 3\n0:1\nx:1\n\n\n", "line 3: 'x:1' is not a pair"),
        ("5 3\n0:1\n1:1\n\n\n", "has 4 rows, but its header says 5"),
    ],
)
def test_load_xmc_deepxml_bad_pairs_raise_error(tmp_path, content, match):
    write_deepxml(tmp_path)
    write(tmp_path / "trn_X_Y.txt", content)
    with pytest.raises(ValueError, match=match):
        load_xmc(tmp_path)


@pytest.mark.parametrize("writer", [write_deepxml, write_repository])
def test_load_xmc_filtered_labels_are_no_test_labels(tmp_path, writer):
    writer(tmp_path)
    write(tmp_path / "filter_labels_test.txt", "0 1\n1 0\n\n0 1\n")
    data = load_xmc(tmp_path)
    check_matrix(data.filter_test, [[0, 1, 0], [1, 0, 0]])
    check_matrix(data.y_test, [[0, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("content", "match"),
    [("0\n", "'0' is not a pair of row and column"), ("0 3\n", "outside the test part of 2 texts")],
)
def test_load_xmc_bad_filter_raises_error(tmp_path, content, match):
    write_repository(tmp_path)
    write(tmp_path / "filter_labels_test.txt", content)
    with pytest.raises(ValueError, match=f"filter_labels_test.txt, line 1: .*{match}"):
        load_xmc(tmp_path)


def test_load_xmc_blank_lines_of_json_are_skipped(tmp_path):
    write_repository(tmp_path)
    expected = load_xmc(tmp_path)
    for name in ("trn.json", "lbl.json"):
        records = (tmp_path / name).read_text().splitlines()
        write(tmp_path / name, lines(["", records[0], "  ", *records[1:], "", ""]))
    found = load_xmc(tmp_path)
    assert found.X_train == expected.X_train
    assert found.label_names.tolist() == expected.label_names.tolist()
    assert json.dumps(found.y_train.indices.tolist()) == json.dumps(
        expected.y_train.indices.tolist()
    )
