"""Small data sets in each of the three file layouts, for the tests of `load_xmc`."""

import gzip
import json

import numpy as np
from scipy import sparse

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
    write(folder / "train_labels.txt", "c a\nb\n\nb  a c a\n", compress)
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
