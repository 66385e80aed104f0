"""Errors of load_xmc name the missing, damaged or inconsistent file, and the remedy."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from dataset_files import (
    Y,
    document,
    json_lines,
    lines,
    write,
    write_lightxml,
    write_npz,
    write_pecos,
    write_repository,
)
from scipy import sparse

from skxmc.datasets import load_xmc


def test_load_xmc_missing_folder_raises_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder\. Pass the folder"):
        load_xmc(tmp_path / "nowhere")


def test_load_xmc_unknown_layout_raises_error(tmp_path):
    write(tmp_path / "X.trn.txt", "without its labels\n")
    looked_for = (
        r"(?s)none of the layouts.*Y\.trn\.npz.*train_labels\.txt.*trn\.json.*Pass the folder"
    )
    with pytest.raises(FileNotFoundError, match=looked_for):
        load_xmc(tmp_path)


@pytest.mark.parametrize(
    ("writer", "remove", "there", "missing"),
    [
        (write_pecos, "X.trn.txt", "Y.trn.npz", "X.trn.txt or train_raw_texts.txt"),
        (write_pecos, "Y.tst.npz", "X.tst.txt", "Y.tst.npz"),
        (write_lightxml, "train_raw_texts.txt", "train_labels.txt", "train_raw_texts.txt or "),
        (write_lightxml, "test_labels.txt", "test_raw_texts.txt", "test_labels.txt"),
    ],
)
def test_load_xmc_missing_file_of_pair_raises_error(tmp_path, writer, remove, there, missing):
    writer(tmp_path)
    (tmp_path / remove).unlink()
    match = f"{re.escape(there)} exists, but {re.escape(missing)}.* does not\\. Put it"
    with pytest.raises(FileNotFoundError, match=match):
        load_xmc(tmp_path)


@pytest.mark.parametrize(
    ("writer", "texts", "labels"),
    [
        (write_pecos, "X.trn.txt", "Y.trn.npz"),
        (write_pecos, "X.tst.txt", "Y.tst.npz"),
        (write_lightxml, "train_raw_texts.txt", "train_labels.txt"),
        (write_lightxml, "test_raw_texts.txt", "test_labels.txt"),
    ],
)
def test_load_xmc_different_row_counts_raise_error(tmp_path, writer, texts, labels):
    writer(tmp_path)
    with (tmp_path / texts).open("a") as file:
        file.write("one more\n")
    with pytest.raises(
        ValueError, match=rf"{texts} has \d lines, but .*{labels} has \d rows\. List"
    ):
        load_xmc(tmp_path)


@pytest.mark.parametrize("separator", [",", ";"])
def test_load_xmc_labels_that_end_in_separator_warn(tmp_path, separator):
    write_lightxml(tmp_path)
    write(tmp_path / "train_labels.txt", f"heart failure{separator} cough\nb\n\nb\n")
    message = (
        f"has '{separator}' in 1 of 3 lines.*label_separator='{separator}' if .*=' ' otherwise"
    )
    with pytest.warns(UserWarning, match=message) as warned:
        names = load_xmc(tmp_path).label_names
    assert list(names) == ["b", "cough", f"failure{separator}", "heart"]
    assert [Path(warning.filename) for warning in warned] == [Path(__file__)]


def test_load_xmc_different_column_counts_raise_error(tmp_path):
    write_pecos(tmp_path)
    write_npz(tmp_path / "Y.tst.npz", np.eye(2, 5))
    with pytest.raises(ValueError, match=r"Y.tst.npz has 5 columns, but .*Y.trn.npz has 3\. Write"):
        load_xmc(tmp_path)


def test_load_xmc_wrong_number_of_names_raises_error(tmp_path):
    write_pecos(tmp_path)
    write(tmp_path / "output-items.txt", "a\nb\n")
    with pytest.raises(ValueError, match=r"items.txt has 2 lines, but .* has 3 columns\. Write"):
        load_xmc(tmp_path)


@pytest.mark.parametrize("value", [2, -1, 0.5, np.nan])
def test_load_xmc_matrix_not_binary_raises_error(tmp_path, value):
    write_pecos(tmp_path)
    wrong = Y.astype(float)
    wrong[1, 1] = value
    write_npz(tmp_path / "Y.trn.npz", wrong)
    match = rf"Y.trn.npz, row 1, column 1: the value is {value}.*save \(Y > 0\)"
    with pytest.raises(ValueError, match=match):
        load_xmc(tmp_path)


def test_load_xmc_matrix_with_repeated_entry_raises_error(tmp_path):
    write_pecos(tmp_path)
    stored = sparse.csr_array(([1, 1], [2, 2], [0, 0, 2, 2, 2]), shape=(4, 3))
    sparse.save_npz(tmp_path / "Y.trn.npz", stored)
    with pytest.raises(ValueError, match=r"Y.trn.npz, row 1, column 2: the value is 2, but"):
        load_xmc(tmp_path)


def not_a_zip(file):
    file.write_bytes(b"no zip file")


def truncated(file):
    file.write_bytes(file.read_bytes()[:-40])


def empty(file):
    file.write_bytes(b"")


def coordinates(file):
    sparse.save_npz(file, sparse.coo_array(Y))


def one_dimension(file):
    np.savez(file, data=[1], indices=[0], indptr=[0, 1], shape=[3], format="csr", _is_array=True)


def dense(file):
    np.savez(file, Y)


def pickled(file):
    np.savez(file, data=np.array([{}], dtype=object), format=np.array("csr"))


def index_out_of_range(file):
    matrix = sparse.csr_array(Y)
    matrix.indices[0] = 10**6
    sparse.save_npz(file, matrix)


@pytest.mark.parametrize(
    "damage",
    [
        not_a_zip,
        truncated,
        empty,
        coordinates,
        one_dimension,
        dense,
        pickled,
        index_out_of_range,
    ],
)
def test_load_xmc_unreadable_matrix_raises_error(tmp_path, damage):
    write_pecos(tmp_path)
    damage(tmp_path / "Y.trn.npz")
    match = r"Y.trn.npz is not a CSR matrix of scipy.*save_npz"
    with pytest.raises(ValueError, match=match) as caught:
        load_xmc(tmp_path)
    assert "unsafe" not in str(caught.value)  # no advice to load pickles


@pytest.mark.parametrize("damage", [not_a_zip, truncated])
def test_load_xmc_incomplete_gzip_raises_error(tmp_path, damage):
    write_lightxml(tmp_path, compress=True)
    damage(tmp_path / "train_raw_texts.txt.gz")
    with pytest.raises(ValueError, match=r"texts.txt.gz is not a complete gzip file .* Download"):
        load_xmc(tmp_path)


GOOD = document("good", [0])


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"title": ', r"malformed JSON \(.*\)\. Write one complete object"),
        ("[" * 100_000, r"malformed JSON \(maximum recursion"),
        ("[1, 2]", r"'\[1, 2\]' is not a JSON object\. Write"),
        (json.dumps({"text": "x", "target_ind": []}), "has no title or content, only text, target"),
        (json.dumps({"title": 7, "target_ind": []}), "title must be a string, got 7"),
        (json.dumps({"title": "x"}), "target_ind must be a list of column numbers, got None"),
        (json.dumps(document("x", 3)), "target_ind must be a list of column numbers, got 3"),
        (json.dumps(document("x", [0, 3])), r"3 in target_ind is not a column number .*\. Count"),
        (json.dumps(document("x", [-1])), "-1 in target_ind is not a column number from 0 to 2"),
        (json.dumps(document("x", [1.0])), r"1\.0 in target_ind is not a column number"),
        (json.dumps(document("x", ["1"])), "'1' in target_ind is not a column number"),
    ],
)
@pytest.mark.parametrize("name", ["trn.json", "tst.json"])
def test_load_xmc_repository_bad_line_raises_error(tmp_path, name, line, match):
    write_repository(tmp_path)
    write(tmp_path / name, lines([json.dumps(GOOD), line, json.dumps(GOOD)]))
    with pytest.raises(ValueError, match=rf"{name}, line 2: {match}"):
        load_xmc(tmp_path)


def test_load_xmc_repository_label_without_title_raises_error(tmp_path):
    write_repository(tmp_path)
    write(tmp_path / "lbl.json", json_lines([{"title": "a"}, {"uid": "x"}]))
    with pytest.raises(ValueError, match=r"lbl.json, line 2: has no title, only uid\. .* a title"):
        load_xmc(tmp_path)


def test_load_xmc_repository_huge_target_raises_error(tmp_path):
    write(tmp_path / "trn.json", json_lines([document("x", [2**40])]))
    with pytest.raises(ValueError, match=r"line 1: 1099511627776 in target_ind is not a column"):
        load_xmc(tmp_path)
