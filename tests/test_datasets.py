"""Figures of the embedded set, the three file layouts and their errors, the synthetic data."""

import builtins
import gzip
import json
import re

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from skxmc.datasets import load_icd10cm, load_xmc, make_xmc

# One text has a form feed, a lone carriage return, U+0085 and U+2028 in it: it is still one line.
TEXTS = ["  first text ", "odd\x0c\r\x85\u2028 line ends", "", "Straße 日本"]
TEST_TEXTS = ["known", "unknown"]
Y = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]])
Y_TEST = np.array([[0, 1, 1], [0, 0, 0]])


def write(file, content, compress=False):
    data = content if isinstance(content, bytes) else content.encode()
    if compress:
        file = file.with_name(file.name + ".gz")
        data = gzip.compress(data)
    file.write_bytes(data)


def lines(items):
    return "".join(f"{item}\n" for item in items)


def write_npz(file, dense, to=sparse.csr_matrix):
    sparse.save_npz(file, to(np.asarray(dense)))


def write_pecos(folder, compress=False):
    write(folder / "X.trn.txt", lines(TEXTS), compress)
    write(folder / "X.tst.txt", lines(TEST_TEXTS), compress)
    write_npz(folder / "Y.trn.npz", Y, sparse.csr_array if compress else sparse.csr_matrix)
    write_npz(folder / "Y.tst.npz", Y_TEST)
    write(folder / "output-items.txt", lines(["a\u2028a", "b b", "c"]), compress)


def write_lightxml(folder, compress=False, texts="raw_texts"):
    write(folder / f"train_{texts}.txt", lines(TEXTS), compress)
    write(folder / "train_labels.txt", "c a\nb\n\nb  a\tc a\n", compress)
    write(folder / f"test_{texts}.txt", lines(TEST_TEXTS), compress)
    write(folder / "test_labels.txt", "zz c b\nyy yy xx\n", compress)


def json_lines(records):
    return lines(json.dumps(record) for record in records)


def document(text, targets):
    return {"uid": "x", "title": text, "content": "", "target_ind": targets, "target_rel": [1.0]}


def write_repository(folder, compress=False, stem="{}.json"):
    rows = [np.flatnonzero(row).tolist() for row in Y]
    rows[3] = [2, 0, 1, 2]  # unsorted and with a repetition
    write(folder / stem.format("trn"), json_lines(map(document, TEXTS, rows)), compress)
    rows = [np.flatnonzero(row).tolist() for row in Y_TEST]
    write(folder / stem.format("tst"), json_lines(map(document, TEST_TEXTS, rows)), compress)
    labels = [{"uid": "1", "title": title} for title in ["a", "b", "c"]]
    write(folder / "lbl.json", json_lines(labels), compress)


WRITERS = [write_pecos, write_lightxml, write_repository]


def check_matrix(matrix, expected):
    assert isinstance(matrix, sparse.csr_array)
    assert matrix.dtype == np.float32
    assert matrix.has_canonical_format
    assert (matrix.data == 1).all()
    np.testing.assert_array_equal(matrix.toarray(), expected)


@pytest.fixture(scope="module")
def icd():
    return load_icd10cm()


# ---------------------------------------------------------------- load_icd10cm


def test_icd_figures(icd):
    n_descriptions = 46_881
    assert icd.X_train[:n_descriptions][0] == "Cholera"
    assert len(icd.X_train) == n_descriptions + 12_569 // 2
    assert 6_200 <= len(icd.X_test) <= 6_300
    assert 14_250 <= len(icd.label_names) <= 14_450
    assert icd.y_train.shape == (len(icd.X_train), len(icd.label_names))
    assert icd.y_test.shape == (len(icd.X_test), len(icd.label_names))
    assert icd.y_test.nnz / len(icd.X_test) == pytest.approx(4.2, abs=0.05)
    assert "synonym" in icd.DESCR


def test_icd_labels(icd):
    counts = icd.y_train.sum(axis=0)
    assert counts.min() == 2
    assert icd.y_test.sum(axis=1).min() >= 1
    assert not set(icd.X_train) & set(icd.X_test)
    for matrix in (icd.y_train, icd.y_test):
        assert matrix.dtype == np.float32
        assert matrix.indices.dtype == np.int32
        assert matrix.has_canonical_format
        assert (matrix.data == 1).all()


def test_icd_paths_and_descriptions(icd):
    names = icd.label_names.tolist()
    assert names[:4] == ["1", "A00-A09", "A00", "A01"]
    assert len(set(names)) == len(names)
    description = dict(zip(names, icd.label_texts, strict=True))
    assert description["A00"] == "Cholera"
    # The block B99 and its only category are one label, described as the category.
    assert description["B99"] == "Other and unspecified infectious diseases"
    row = icd.X_train.index("Typhoid arthritis")
    assert icd.label_names[icd.y_train[[row]].indices].tolist()[:3] == ["1", "A00-A09", "A01"]


def test_icd_leaves_out_blocks_and_extended_codes(icd):
    texts = [*icd.X_train, *icd.X_test]
    assert "Intestinal infectious diseases (A00-A09)" not in texts
    assert not any(text.endswith("initial encounter") for text in texts)
    # A category of a block of its own gives one text, though the package lists it twice.
    assert texts.count("Other and unspecified infectious diseases") == 1


def test_icd_random_state(icd):
    again, other = load_icd10cm(random_state=0), load_icd10cm(random_state=1)
    assert again.X_train == icd.X_train
    assert again.X_test == icd.X_test
    assert (again.y_test != icd.y_test).nnz == 0
    assert set(other.X_test) != set(icd.X_test)
    assert other.X_train[:46_881] == icd.X_train[:46_881]


def test_icd_missing_package(monkeypatch):
    real_import = builtins.__import__

    def no_icd(name, *args, **kwargs):
        if name == "simple_icd_10_cm":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_icd)
    with pytest.raises(ImportError, match=r'pip install "skxmc\[demo\]"'):
        load_icd10cm()


# ---------------------------------------------------------------- load_xmc: the layouts


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("writer", WRITERS)
def test_layouts(tmp_path, writer, compress):
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
def test_test_part_may_be_missing(tmp_path, writer):
    writer(tmp_path)
    for file in [*tmp_path.glob("*tst*"), *tmp_path.glob("test_*")]:
        file.unlink()
    data = load_xmc(tmp_path)
    check_matrix(data.y_train, Y)
    assert data.X_test is None
    assert data.y_test is None
    assert data.n_unknown_test is None


def test_pecos_names(tmp_path):
    write_pecos(tmp_path)
    assert load_xmc(tmp_path).label_names.tolist() == ["a\u2028a", "b b", "c"]
    (tmp_path / "output-items.txt").unlink()
    assert load_xmc(tmp_path).label_names.tolist() == ["0", "1", "2"]


def test_x_transformer_file_names(tmp_path):
    write_pecos(tmp_path)
    (tmp_path / "X.trn.txt").rename(tmp_path / "train_raw_texts.txt")
    (tmp_path / "X.tst.txt").rename(tmp_path / "test_raw_texts.txt")
    (tmp_path / "output-items.txt").rename(tmp_path / "label_map.txt")
    data = load_xmc(tmp_path)
    assert (data.X_train, data.X_test) == (TEXTS, TEST_TEXTS)
    assert data.label_names[1] == "b b"


def test_repeated_names_are_told_apart(tmp_path):
    write_pecos(tmp_path)
    write(tmp_path / "output-items.txt", "Untitled\nb\nUntitled\n")
    assert load_xmc(tmp_path).label_names.tolist() == ["Untitled [0]", "b", "Untitled [2]"]


def test_explicit_zeros_unsorted_and_integer_matrices(tmp_path):
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


def test_tokenised_texts_are_the_second_choice(tmp_path):
    write_lightxml(tmp_path, texts="texts")
    assert load_xmc(tmp_path).X_train == TEXTS
    write(tmp_path / "train_raw_texts.txt", lines("RAW!"))
    assert load_xmc(tmp_path).X_train == list("RAW!")


def test_windows_line_ends_and_no_line_end_at_the_end(tmp_path):
    write(tmp_path / "train_texts.txt", "one\r\ntwo")
    write(tmp_path / "train_labels.txt", "x\r\ny")
    data = load_xmc(tmp_path)
    assert data.X_train == ["one", "two"]
    assert data.label_names.tolist() == ["x", "y"]


def test_repository_raw_names_and_label_files(tmp_path):
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
def test_repository_columns_without_label_file(tmp_path, with_test):
    write(tmp_path / "trn.json", json_lines([document("x", [1])]))
    if with_test:
        write(tmp_path / "tst.json", json_lines([document("x", [4])]))
    assert load_xmc(tmp_path).y_train.shape == (1, 5 if with_test else 2)


def test_repository_fields(tmp_path):
    records = [
        {"title": "T", "content": "C\nc", "target_ind": [0]},
        {"title": None, "content": "only content", "target_ind": []},
        {"title": "only title", "target_ind": [1]},
    ]
    write(tmp_path / "trn.json", json_lines(records))
    assert load_xmc(tmp_path).X_train == ["T C\nc", "only content", "only title"]
    assert load_xmc(tmp_path, fields="title").X_train == ["T", "", "only title"]
    assert load_xmc(tmp_path, fields=["content", "title"]).X_train[0] == "C\nc T"


def test_encoding(tmp_path):
    write(tmp_path / "train_texts.txt", "plain\ncafé\n".encode("latin-1"))
    write(tmp_path / "train_labels.txt", "a\nb\n")
    with pytest.raises(ValueError, match=r"train_texts.txt, line 2: not utf-8 .*encoding='latin-1"):
        load_xmc(tmp_path)
    assert load_xmc(tmp_path, encoding="latin-1").X_train == ["plain", "café"]


# ---------------------------------------------------------------- load_xmc: the errors


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder; give the folder"):
        load_xmc(tmp_path / "nowhere")


def test_no_layout(tmp_path):
    write(tmp_path / "X.trn.txt", "without its labels\n")
    looked_for = (
        r"(?s)none of the layouts.*Y\.trn\.npz.*train_labels\.txt.*trn\.json.*not one above"
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
def test_half_of_a_part(tmp_path, writer, remove, there, missing):
    writer(tmp_path)
    (tmp_path / remove).unlink()
    match = f"{re.escape(there)} is there, but {re.escape(missing)}.* is not; put it"
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
def test_row_counts_differ(tmp_path, writer, texts, labels):
    writer(tmp_path)
    with (tmp_path / texts).open("a") as file:
        file.write("one more\n")
    with pytest.raises(
        ValueError, match=rf"{texts} has \d lines, but .*{labels} has \d rows; both"
    ):
        load_xmc(tmp_path)


def test_columns_differ(tmp_path):
    write_pecos(tmp_path)
    write_npz(tmp_path / "Y.tst.npz", np.eye(2, 5))
    with pytest.raises(ValueError, match=r"Y.tst.npz has 5 columns, but .*Y.trn.npz has 3; both"):
        load_xmc(tmp_path)


def test_wrong_number_of_names(tmp_path):
    write_pecos(tmp_path)
    write(tmp_path / "output-items.txt", "a\nb\n")
    with pytest.raises(ValueError, match=r"output-items.txt has 2 lines, but .* has 3 columns; it"):
        load_xmc(tmp_path)


@pytest.mark.parametrize("value", [2, -1, 0.5, np.nan])
def test_matrix_not_binary(tmp_path, value):
    write_pecos(tmp_path)
    wrong = Y.astype(float)
    wrong[1, 1] = value
    write_npz(tmp_path / "Y.trn.npz", wrong)
    match = rf"Y.trn.npz, row 1, column 1: the value is {value}.*save \(Y > 0\)"
    with pytest.raises(ValueError, match=match):
        load_xmc(tmp_path)


def test_matrix_with_an_entry_stored_twice(tmp_path):
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
def test_matrix_not_readable(tmp_path, damage):
    write_pecos(tmp_path)
    damage(tmp_path / "Y.trn.npz")
    match = r"Y.trn.npz is not a CSR matrix of scipy.*save_npz"
    with pytest.raises(ValueError, match=match) as caught:
        load_xmc(tmp_path)
    assert "unsafe" not in str(caught.value)  # no advice to load pickles


@pytest.mark.parametrize("damage", [not_a_zip, truncated])
def test_gzip_not_complete(tmp_path, damage):
    write_lightxml(tmp_path, compress=True)
    damage(tmp_path / "train_raw_texts.txt.gz")
    with pytest.raises(ValueError, match=r"texts.txt.gz is not a complete gzip file .* fetch it"):
        load_xmc(tmp_path)


GOOD = document("good", [0])


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"title": ', r"malformed JSON \(.*\); each line must be one complete object"),
        ("", r"malformed JSON"),
        ("[" * 100_000, r"malformed JSON \(maximum recursion"),
        ("[1, 2]", r"not a JSON object, but '\[1, 2\]'"),
        (json.dumps({"text": "x", "target_ind": []}), "has no title or content, only text, target"),
        (json.dumps({"title": 7, "target_ind": []}), "title is no text, but 7"),
        (json.dumps({"title": "x"}), "target_ind must be a list of column numbers, not None"),
        (json.dumps(document("x", 3)), "target_ind must be a list of column numbers, not 3"),
        (json.dumps(document("x", [0, 3])), "3 in target_ind is no column number from 0 to 2; it"),
        (json.dumps(document("x", [-1])), "-1 in target_ind is no column number from 0 to 2"),
        (json.dumps(document("x", [1.0])), r"1\.0 in target_ind is no column number"),
        (json.dumps(document("x", ["1"])), "'1' in target_ind is no column number"),
    ],
)
@pytest.mark.parametrize("name", ["trn.json", "tst.json"])
def test_repository_bad_line(tmp_path, name, line, match):
    write_repository(tmp_path)
    write(tmp_path / name, lines([json.dumps(GOOD), line, json.dumps(GOOD)]))
    with pytest.raises(ValueError, match=rf"{name}, line 2: {match}"):
        load_xmc(tmp_path)


def test_repository_label_without_title(tmp_path):
    write_repository(tmp_path)
    write(tmp_path / "lbl.json", json_lines([{"title": "a"}, {"uid": "x"}]))
    with pytest.raises(ValueError, match=r"lbl.json, line 2: has no title, only uid; .* a title"):
        load_xmc(tmp_path)


def test_repository_target_too_large_for_any_matrix(tmp_path):
    write(tmp_path / "trn.json", json_lines([document("x", [2**40])]))
    with pytest.raises(ValueError, match=r"line 1: 1099511627776 in target_ind is no column"):
        load_xmc(tmp_path)


# ---------------------------------------------------------------- make_xmc


def test_make_xmc_shapes_and_determinism():
    texts, labels = make_xmc(300, 50, random_state=3)
    assert len(texts) == 300
    assert all(isinstance(text, str) and text for text in texts)
    assert labels.shape == (300, 50)
    check_matrix(labels, labels.toarray() > 0)
    assert labels.indices.dtype == labels.indptr.dtype == np.int32
    assert labels.sum(axis=1).min() >= 1
    again, same = make_xmc(300, 50, random_state=3)
    assert again == texts
    assert (same != labels).nnz == 0
    assert make_xmc(300, 50, random_state=4)[0] != texts


def test_make_xmc_leaves_the_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_xmc(5, 5, random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_make_xmc_means_and_zipf_law():
    texts, labels = make_xmc(4000, 500, n_labels_per_sample=4, n_noise_words=8, random_state=0)
    assert labels.nnz / 4000 == pytest.approx(4, rel=0.03)
    assert np.mean([len(text.split()) for text in texts]) == pytest.approx(4 * 3 + 8, rel=0.03)
    counts = np.sort(labels.sum(axis=0))[::-1]
    assert 5 < counts[0] / counts[9] < 12  # rank 10 is a tenth as frequent, but for the redrawing
    assert labels.sum(axis=0)[0] < counts[0]  # the ranks are not in the order of the columns
    even = make_xmc(4000, 500, label_exponent=0, random_state=0)[1].sum(axis=0)
    assert even.max() < 2 * even.mean()


def test_make_xmc_texts_hold_the_words_of_their_labels_only():
    texts, labels = make_xmc(
        400, 20, n_labels_per_sample=2, n_noise_words=0, n_words_per_label=4, random_state=0
    )
    words_of = [
        set.intersection(*(set(texts[i].split()) for i in labels[:, [j]].nonzero()[0]))
        for j in range(20)
    ]
    for text, row in zip(texts, labels.toarray(), strict=True):
        assert set(text.split()) == set.union(*(words_of[j] for j in np.flatnonzero(row)))
        assert len(text.split()) == 4 * row.sum()


def test_make_xmc_mixes_the_words():
    texts, _ = make_xmc(
        500, 1, n_words_per_label=1, n_noise_words=30, n_words=10_000, random_state=0
    )
    label_word = set.intersection(*(set(text.split()) for text in texts)).pop()
    places = [text.split().index(label_word) / len(text.split()) for text in texts]
    assert 0.4 < np.mean(places) < 0.6
    assert np.std(places) > 0.2


def test_make_xmc_is_learnable():
    texts, labels = make_xmc(3000, 300, random_state=0)
    X = TfidfVectorizer().fit_transform(texts)
    train, test = slice(0, 2500), slice(2500, None)
    popularity = np.tile(labels[train].sum(axis=0), (500, 1))
    centroids = normalize(labels[train].T @ X[train])
    similarity = (X[test] @ centroids.T).toarray()
    truth = labels[test].toarray()

    def precision_at_1(scores):
        return truth[np.arange(500), scores.argmax(axis=1)].mean()

    assert precision_at_1(popularity) < 0.7
    assert precision_at_1(similarity) > 0.95


def test_make_xmc_vocabulary():
    assert len({word for text in make_xmc(50, 5, n_words=7)[0] for word in text.split()}) <= 7
    texts, _ = make_xmc(3000, 20, random_state=0)
    words = {word for text in texts for word in text.split()}
    assert len(words) == 100  # all different, all found by a tokenizer of whole words
    assert all(re.fullmatch(r"\w{4,}", word) for word in words)


@pytest.mark.parametrize(("n_samples", "n_labels"), [(1, 1), (1, 1000), (7, 1), (7, 2)])
def test_make_xmc_smallest_sizes(n_samples, n_labels):
    texts, labels = make_xmc(n_samples, n_labels, random_state=0)
    assert len(texts) == n_samples
    assert labels.shape == (n_samples, n_labels)
    assert labels.sum(axis=1).min() >= 1
    if n_labels <= 2:
        assert labels.toarray()[0].sum() == n_labels


def test_make_xmc_needs_no_memory_for_every_pair():
    texts, labels = make_xmc(50, 1_000_000, random_state=0)  # 50 million pairs
    assert labels.shape == (50, 1_000_000)
    assert len(texts) == 50


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"n_samples": 0}, ValueError, "n_samples == 0"),
        ({"n_labels": 0}, ValueError, "n_labels == 0"),
        ({"n_labels": 2.5}, TypeError, "n_labels must be an instance of int"),
        ({"n_labels_per_sample": 0.5}, ValueError, "n_labels_per_sample == 0.5"),
        ({"n_words_per_label": 0}, ValueError, "n_words_per_label == 0"),
        ({"n_noise_words": -1}, ValueError, "n_noise_words == -1"),
        ({"n_words": 0}, ValueError, "n_words == 0"),
        ({"label_exponent": -1}, ValueError, "label_exponent == -1"),
        ({"random_state": "x"}, ValueError, "cannot be used to seed"),
    ],
)
def test_make_xmc_bad_parameters(arguments, error, match):
    with pytest.raises(error, match=match):
        make_xmc(**{"n_samples": 5, "n_labels": 5, **arguments})
