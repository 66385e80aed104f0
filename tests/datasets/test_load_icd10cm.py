"""Sizes, labels and seeds of the embedded data set."""

import builtins

import numpy as np
import pytest

from skxmc.datasets import load_icd10cm


@pytest.fixture(scope="module")
def icd():
    return load_icd10cm()


def test_load_icd10cm_sizes_match_documented_figures(icd):
    n_descriptions = 46_881
    assert icd.X_train[:n_descriptions][0] == "Cholera"
    assert len(icd.X_train) == n_descriptions + 12_569 // 2
    assert 6_200 <= len(icd.X_test) <= 6_300
    assert 14_250 <= len(icd.label_names) <= 14_450
    assert icd.y_train.shape == (len(icd.X_train), len(icd.label_names))
    assert icd.y_test.shape == (len(icd.X_test), len(icd.label_names))
    assert icd.y_test.nnz / len(icd.X_test) == pytest.approx(4.2, abs=0.05)
    assert "synonym" in icd.DESCR


def test_load_icd10cm_label_matrices_are_canonical_and_binary(icd):
    counts = icd.y_train.sum(axis=0)
    assert counts.min() == 2
    assert icd.y_test.sum(axis=1).min() >= 1
    assert not set(icd.X_train) & set(icd.X_test)
    for matrix in (icd.y_train, icd.y_test):
        assert matrix.dtype == np.float32
        assert matrix.indices.dtype == np.int32
        assert matrix.has_canonical_format
        assert (matrix.data == 1).all()


def test_load_icd10cm_label_names_and_texts_match_classification(icd):
    names = icd.label_names.tolist()
    assert names[:4] == ["1", "A00-A09", "A00", "A01"]
    assert len(set(names)) == len(names)
    description = dict(zip(names, icd.label_texts, strict=True))
    assert description["A00"] == "Cholera"
    # The block B99 and its only category are one label, described as the category.
    assert description["B99"] == "Other and unspecified infectious diseases"
    row = icd.X_train.index("Typhoid arthritis")
    assert icd.label_names[icd.y_train[[row]].indices].tolist()[:3] == ["1", "A00-A09", "A01"]


def test_load_icd10cm_codes_are_last_labels_of_their_texts_if_they_are_labels(icd):
    for texts, y, codes in (
        (icd.X_train, icd.y_train, icd.codes_train),
        (icd.X_test, icd.y_test, icd.codes_test),
    ):
        assert codes.shape == (len(texts),)
        rows = np.flatnonzero(np.isin(codes, icd.label_names))
        assert 0 < len(rows) < len(texts)
        last = y.indices[y.indptr[rows + 1] - 1]
        assert (icd.label_names[last] == codes[rows]).all()
    assert icd.codes_train[icd.X_train.index("Typhoid arthritis")] == "A01.04"


def test_load_icd10cm_blocks_and_extended_codes_give_no_text(icd):
    texts = [*icd.X_train, *icd.X_test]
    assert "Intestinal infectious diseases (A00-A09)" not in texts
    assert not any(text.endswith("initial encounter") for text in texts)
    # The package lists this category twice, because it is also a block, but it gives one text.
    assert texts.count("Other and unspecified infectious diseases") == 1


def test_load_icd10cm_random_state_draws_synonyms(icd):
    again, other = load_icd10cm(random_state=0), load_icd10cm(random_state=1)
    assert again.X_train == icd.X_train
    assert again.X_test == icd.X_test
    assert (again.y_test != icd.y_test).nnz == 0
    assert set(other.X_test) != set(icd.X_test)
    assert other.X_train[:46_881] == icd.X_train[:46_881]


def test_load_icd10cm_some_chapters_match_rows_of_whole(icd):
    part = load_icd10cm(chapters=[9, "4"])
    columns = np.flatnonzero(np.isin(icd.label_names, ["4", "9"]))
    descriptions = icd.y_train[:46_881]
    rows = np.flatnonzero(descriptions[:, columns].sum(axis=1))
    assert part.X_train[: len(rows)] == [icd.X_train[row] for row in rows]
    # The training part has other synonyms, so other codes occur twice.
    in_both = set(part.label_names) & set(icd.label_names)
    for number, row in enumerate(rows[::20]):
        of_part = part.label_names[part.y_train[[20 * number]].indices]
        assert in_both & set(of_part) == in_both & set(icd.label_names[descriptions[[row]].indices])
    assert 1_000 < len(part.X_train) < 5_000
    assert len(part.X_test) > 100
    assert part.label_texts[part.label_names == "9"].tolist() == [
        "Diseases of the circulatory system (I00-I99)"
    ]


@pytest.mark.parametrize(
    ("chapters", "message"),
    [
        ([9, 23, "x"], "chapters holds 23, x. Pass a list of numbers from 1 to 22"),
        ([], "chapters is empty. Pass a list of numbers from 1 to 22"),
        (9, r"chapters must be a list, got 9. Pass \[9\]"),
        ("9", r"chapters must be a list, got '9'. Pass \['9'\]"),
    ],
)
def test_load_icd10cm_wrong_chapters_raise_error(chapters, message):
    with pytest.raises(ValueError, match=message):
        load_icd10cm(chapters=chapters)


def test_load_icd10cm_missing_package_raises_error(monkeypatch):
    real_import = builtins.__import__

    def no_icd(name, *args, **kwargs):
        if name == "simple_icd_10_cm":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_icd)
    with pytest.raises(ImportError, match="pip install simple-icd-10-cm"):
        load_icd10cm()
