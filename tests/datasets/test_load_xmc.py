"""The three file layouts and the options of load_xmc."""

import numpy as np
import pytest
from dataset_files import (
    TEST_TEXTS,
    TEXTS,
    WRITERS,
    Y_TEST,
    Y,
    check_matrix,
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
from skxmc.datasets._xmc import layout_of


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("writer", WRITERS)
def test_load_xmc_any_layout_reads_texts_and_labels(tmp_path, writer, compress):
    writer(tmp_path, compress)
    data = load_xmc(str(tmp_path))
    assert data.X_train == TEXTS
    assert data.X_test == TEST_TEXTS
    check_matrix(data.y_train, Y)
    check_matrix(data.y_test, Y_TEST)
    assert data.label_names.dtype == object
    assert [name[0] for name in data.label_names] == ["a", "b", "c"]
    n_unknown = [1, 2] if writer is write_lightxml else [0, 0]
    assert data.n_unknown_test.dtype == np.int64
    assert data.n_unknown_test.tolist() == n_unknown


@pytest.mark.parametrize("writer", WRITERS)
def test_load_xmc_without_test_part_returns_none_for_it(tmp_path, writer):
    writer(tmp_path)
    for file in [*tmp_path.glob("*tst*"), *tmp_path.glob("test_*")]:
        file.unlink()
    data = load_xmc(tmp_path)
    check_matrix(data.y_train, Y)
    assert data.X_test is None
    assert data.y_test is None
    assert data.n_unknown_test is None


def test_load_xmc_pecos_names_come_from_file_or_columns(tmp_path):
    write_pecos(tmp_path)
    assert load_xmc(tmp_path).label_names.tolist() == ["a\u2028a", "b b", "c"]
    (tmp_path / "output-items.txt").unlink()
    assert load_xmc(tmp_path).label_names.tolist() == ["0", "1", "2"]


def test_load_xmc_x_transformer_file_names_are_read(tmp_path):
    write_pecos(tmp_path)
    (tmp_path / "X.trn.txt").rename(tmp_path / "train_raw_texts.txt")
    (tmp_path / "X.tst.txt").rename(tmp_path / "test_raw_texts.txt")
    (tmp_path / "output-items.txt").rename(tmp_path / "label_map.txt")
    data = load_xmc(tmp_path)
    assert (data.X_train, data.X_test) == (TEXTS, TEST_TEXTS)
    assert data.label_names[1] == "b b"


def test_load_xmc_repeated_label_names_become_distinct(tmp_path):
    write_pecos(tmp_path)
    write(tmp_path / "output-items.txt", "Untitled\nb\nUntitled\n")
    assert load_xmc(tmp_path).label_names.tolist() == ["Untitled [0]", "b", "Untitled [2]"]
    write(tmp_path / "output-items.txt", "a\na\na [0]\n")
    assert load_xmc(tmp_path).label_names.tolist() == ["a [0] [0]", "a [1]", "a [0] [2]"]


def test_load_xmc_integer_matrix_with_explicit_zeros_is_read(tmp_path):
    write_pecos(tmp_path)
    stored = sparse.csr_array(
        (
            np.array([1, 1, 1, 0, 1, 1, 1], dtype=np.int8),
            np.array([2, 0, 1, 2, 2, 1, 0]),
            np.array([0, 2, 4, 4, 7]),
        ),
        shape=(4, 3),
    )
    sparse.save_npz(tmp_path / "Y.trn.npz", stored)
    check_matrix(load_xmc(tmp_path).y_train, Y)


def test_load_xmc_raw_and_tokenized_texts_reads_raw(tmp_path):
    write_lightxml(tmp_path, texts="texts")
    assert load_xmc(tmp_path).X_train == TEXTS
    write(tmp_path / "train_raw_texts.txt", lines("RAW!"))
    assert load_xmc(tmp_path).X_train == list("RAW!")


def test_load_xmc_windows_line_ends_are_removed(tmp_path):
    write(tmp_path / "train_texts.txt", "one\r\ntwo")
    write(tmp_path / "train_labels.txt", "x\r\ny")
    data = load_xmc(tmp_path)
    assert data.X_train == ["one", "two"]
    assert data.label_names.tolist() == ["x", "y"]


def test_load_xmc_repository_raw_file_names_are_read(tmp_path):
    write_repository(tmp_path, stem="{}.raw.json")
    (tmp_path / "lbl.json").unlink()
    data = load_xmc(tmp_path)
    assert data.label_names.tolist() == ["0", "1", "2"]
    check_matrix(data.y_test, Y_TEST)
    write(tmp_path / "Yf.txt", "fa\nfb\nfc\nnever seen\n")
    data = load_xmc(tmp_path)
    assert data.label_names.tolist() == ["fa", "fb", "fc", "never seen"]
    assert data.y_test.shape == (2, 4)


@pytest.mark.parametrize("with_test", [False, True])
def test_load_xmc_repository_without_label_file_counts_columns(tmp_path, with_test):
    write(tmp_path / "trn.json", json_lines([document("x", [1])]))
    if with_test:
        write(tmp_path / "tst.json", json_lines([document("x", [4])]))
    assert load_xmc(tmp_path).y_train.shape == (1, 5 if with_test else 2)


def test_load_xmc_repository_fields_select_and_order_texts(tmp_path):
    records = [
        {"title": "T", "content": "C\nc", "target_ind": [0]},
        {"title": None, "content": "only content", "target_ind": []},
        {"title": "only title", "target_ind": [1]},
    ]
    write(tmp_path / "trn.json", json_lines(records))
    assert load_xmc(tmp_path).X_train == ["T C\nc", "only content", "only title"]
    assert load_xmc(tmp_path, fields="title").X_train == ["T", "", "only title"]
    assert load_xmc(tmp_path, fields=["content", "title"]).X_train[0] == "C\nc T"


def test_load_xmc_latin_1_file_needs_encoding(tmp_path):
    write(tmp_path / "train_texts.txt", "plain\ncafé\n".encode("latin-1"))
    write(tmp_path / "train_labels.txt", "a\nb\n")
    with pytest.raises(ValueError, match=r"train_texts.txt, line 2: not utf-8 .*encoding='latin-1"):
        load_xmc(tmp_path)
    assert load_xmc(tmp_path, encoding="latin-1").X_train == ["plain", "café"]


@pytest.mark.parametrize("layout", ["PECOS", "Repository", "Repository, label titles"])
def test_load_xmc_encoding_holds_for_texts_and_names(layout, tmp_path):
    def put(name, *items):
        write(tmp_path / name, lines(items).encode("latin-1"))

    if layout == "PECOS":
        put("X.trn.txt", "café", "thé")
        write_npz(tmp_path / "Y.trn.npz", np.eye(2))
        put("output-items.txt", "é 0", "é 1")
    else:
        put("trn.json", '{"title": "café", "content": "", "target_ind": [0]}')
        if layout == "Repository":
            put("Yf.txt", "é 0", "é 1")
        else:
            put("lbl.json", '{"title": "é 0"}', '{"title": "é 1"}')
    data = load_xmc(tmp_path, encoding="latin-1")
    assert data.X_train[0].strip() == "café"
    assert data.label_names.tolist() == ["é 0", "é 1"]


def test_load_xmc_several_label_files_read_the_first(tmp_path):
    write_repository(tmp_path)
    (tmp_path / "lbl.json").unlink()
    for name in ("labels.txt", "Yf.txt", "lbl.raw.txt"):  # each has priority over the previous one
        write(tmp_path / name, lines([f"{name} {i}" for i in range(3)]))
        assert load_xmc(tmp_path).label_names[2] == f"{name} 2"


def test_layout_of_folder_with_two_layouts_is_the_first(tmp_path):
    write_repository(tmp_path)
    assert layout_of(tmp_path) == "Repository"
    write_lightxml(tmp_path)
    assert layout_of(tmp_path) == "LightXML"
    write_pecos(tmp_path)
    assert layout_of(tmp_path) == "PECOS"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_load_xmc_byte_order_mark_is_removed(tmp_path, encoding):
    write(tmp_path / "train_texts.txt", "one\ntwo\n".encode("utf-8-sig"))
    write(tmp_path / "train_labels.txt", "tax land\ntax law\n".encode("utf-8-sig"))
    data = load_xmc(tmp_path, encoding=encoding)
    assert data.X_train == ["one", "two"]
    assert data.label_names.tolist() == ["land", "law", "tax"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-16-le", "utf-32"])
def test_load_xmc_utf_16_file_raises_error(tmp_path, encoding):
    for name in ("train_texts.txt", "train_labels.txt"):
        write(tmp_path / name, "one\ntwo\n".encode("utf-16"))
    codec = encoding if encoding[:5] in ("utf-1", "utf-3") else "utf-16"
    with pytest.raises(ValueError, match=rf"train_labels.txt .*UTF-8, .* iconv -f {codec} "):
        load_xmc(tmp_path, encoding=encoding)
