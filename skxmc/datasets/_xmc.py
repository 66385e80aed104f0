"""Readers of the file layouts in which benchmark data sets are published."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.utils import Bunch

from skxmc._utils.paths import user_path
from skxmc._utils.quoting import listed, quoted
from skxmc.datasets._csr import Integers, binary_csr, flatten
from skxmc.datasets._label_lines import find_separator, split_labels
from skxmc.datasets._lines import read_lines, read_records
from skxmc.datasets._pairs import read_filter, read_pairs

_MAX_LABELS = np.iinfo(np.int32).max
_LOOKED_FOR = """\
Y.trn.npz (PECOS xmc-base: X.trn.txt, Y.trn.npz, output-items.txt),
train_labels.txt (LightXML, AttentionXML: train_raw_texts.txt or train_texts.txt, train_labels.txt),
trn_X_Y.txt (DeepXML: trn_X.txt, trn_X_Y.txt, Y.txt),
trn.json or trn.raw.json (Extreme Classification Repository: trn.json, lbl.json)"""


class _Part(NamedTuple):
    """Training or test part, and the files that its errors name."""

    texts: list[str]
    text_file: Path
    y: sparse.csr_array
    label_file: Path
    n_unknown: Integers | None = None  # true labels of each row that have no column


def load_xmc(
    path: str | PathLike[str],
    *,
    fields: str | Iterable[str] = ("title", "content"),
    encoding: str = "utf-8",
    label_separator: str | None = None,
) -> Bunch:
    r"""Read a benchmark set from a folder, in the layout that its files show.

    The function looks for these layouts in this order. ``.txt`` and ``.json`` files may also be
    gzipped (``.txt.gz``, ``.json.gz``).

    - PECOS ``xmc-base``: ``X.trn.txt`` (one text per line), ``Y.trn.npz`` (texts x labels, 0/1,
      from ``scipy.sparse.save_npz``), ``output-items.txt`` (one label name per line, optional), and
      ``X.tst.txt``, ``Y.tst.npz``. X-Transformer's older names are read too:
      ``train_raw_texts.txt``, ``test_raw_texts.txt`` and ``label_map.txt``.
    - LightXML and AttentionXML: ``train_raw_texts.txt`` or ``train_texts.txt`` (one text per line),
      ``train_labels.txt`` (the labels of the same text), and the same for ``test_...``. The raw
      file, whose texts are not tokenized yet, is read first.
    - DeepXML: ``trn_X.txt`` (one text per line), ``trn_X_Y.txt`` (a header ``n_texts n_labels``,
      then ``column:value`` pairs per text), ``Y.txt`` (one label name per line, optional), and the
      same for ``tst_...``.
    - Extreme Classification Repository: ``trn.json`` or ``trn.raw.json`` (one JSON object per line
      with ``title``, ``content`` and ``target_ind``), and ``tst.json`` or ``tst.raw.json``. Label
      names are optional. They are in ``lbl.json`` (one object per line with the ``title`` of a
      label), or in ``lbl.raw.txt``, ``Yf.txt`` or ``labels.txt`` (one name per line).

    In all layouts but the second, the files determine the columns. If there are no label names,
    column numbers are the names. In the second layout, the columns are the sorted labels of the
    training part. A label that occurs only in the test part has no column in `y_test`, because no
    model could know it. Such labels are counted in `n_unknown_test`.

    Read more in the user guide: :doc:`/guide/data`.

    Parameters
    ----------
    path : str or path-like
        The folder.
    fields : str or iterable of str, default=("title", "content")
        Fields of the JSON objects that make up a text, joined by a blank. The other layouts have no
        fields. For title sets, such as ``LF-AmazonTitles-131K``, pass ``fields="title"``.
    encoding : str, default="utf-8"
        Encoding of the text and JSON files.
    label_separator : str, default=None
        Character between labels in the second layout, such as ``","`` or a tab. ``" "`` is any
        whitespace. None looks for it in the training part: tabs, ``|``, ``;`` or ``,`` separate
        labels if most parts between them occur in several lines, and whitespace otherwise.

    Returns
    -------
    Bunch
        A dict whose entries are attributes too.

        ``X_train``, ``X_test`` : list of str
            The texts, unchanged. Empty texts are kept.
        ``y_train``, ``y_test`` : csr_array of float32, shape (n_texts, n_labels)
            1 for the labels of a text. A repeated label of a text counts once.
        ``label_names`` : ndarray of object (str), shape (n_labels,)
            Distinct names. If several labels share a name, each is followed by its column in
            brackets. The dtype is object, because in an array of fixed width one long name
            would lengthen all.
        ``n_unknown_test`` : ndarray of int64, shape (n_test_texts,)
            Number of true labels per test text that have no column, because they do not occur
            in training. Only the second layout has such labels, and they count as missed.
            Precision at k is right without them. Metrics that divide by the number of true
            labels (recall, nDCG) must add them to the row sums of `y_test`.

        ``filter_test`` : csr_array of float32, shape (n_test_texts, n_labels)
            1 for labels that are not to be predicted for a text, from ``filter_labels_test.txt``.
            The LF-* sets list there the products that are texts and labels at once. `y_test` lacks
            these labels. Set their scores to 0 before you measure. It has no entries without file.

        If there is no test part, the values of the test part are None.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, holds none of the layouts, or lacks one of two files that
        belong together.
    ValueError
        If a file is malformed, or if files do not fit each other. The message names the file,
        the line or row, and the remedy.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skxmc.datasets import load_xmc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "train_texts.txt").write_text("taxes on land\nland law\n")
    ...     _ = Path(folder, "train_labels.txt").write_text("tax land\nland law\n")
    ...     data = load_xmc(folder)
    >>> data.X_train
    ['taxes on land', 'land law']
    >>> data.label_names.tolist()
    ['land', 'law', 'tax']
    >>> data.y_train.toarray()
    array([[1., 0., 1.],
           [1., 1., 0.]], dtype=float32)
    """
    folder = user_path(path)
    layout = layout_of(folder)
    if layout == "PECOS":
        return _load_pecos(folder, encoding)
    if layout == "LightXML":
        return _load_lightxml(folder, encoding, label_separator)
    if layout == "DeepXML":
        return _load_deepxml(folder, encoding)
    names = (fields,) if isinstance(fields, str) else tuple(fields)
    return _load_repository(folder, names, encoding)


def layout_of(folder: Path) -> str:
    """Return the layout of a folder: "PECOS", "LightXML", "DeepXML" or "Repository"."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder. Pass the folder that holds the unpacked data set."
        )
    if _find(folder, "Y.trn.npz"):
        return "PECOS"
    if _find(folder, "train_labels.txt"):
        return "LightXML"
    if _find(folder, "trn_X_Y.txt"):
        return "DeepXML"
    if _find(folder, "trn.json", "trn.raw.json"):
        return "Repository"
    raise FileNotFoundError(
        f"{folder} holds none of the layouts that load_xmc knows. It looked for\n{_LOOKED_FOR}.\n"
        "Pass the folder that holds these files directly."
    )


def _load_pecos(folder: Path, encoding: str) -> Bunch:
    def part(text_names: tuple[str, ...], label_name: str) -> _Part | None:
        files = _pair(folder, text_names, (label_name,))
        if files is None:
            return None
        return _Part(list(read_lines(files[0], encoding)), files[0], _read_npz(files[1]), files[1])

    train = part(("X.trn.txt", "train_raw_texts.txt"), "Y.trn.npz")
    test = part(("X.tst.txt", "test_raw_texts.txt"), "Y.tst.npz")
    assert train is not None  # the layout was recognized by its labels
    return _with_names(folder, train, test, ("output-items.txt", "label_map.txt"), encoding)


def _load_lightxml(folder: Path, encoding: str, separator: str | None) -> Bunch:
    files = _pair(folder, ("train_raw_texts.txt", "train_texts.txt"), ("train_labels.txt",))
    test_files = _pair(folder, ("test_raw_texts.txt", "test_texts.txt"), ("test_labels.txt",))
    assert files is not None  # the layout was recognized by its labels
    lines = list(read_lines(files[1], encoding))
    if separator is None:
        separator = find_separator(lines, files[1])
    elif separator.isspace() and separator != "\t":
        separator = None
    names = sorted({label for line in lines for label in split_labels(line, separator)})
    column = {name: j for j, name in enumerate(names)}

    def part(text_file: Path, label_file: Path) -> _Part:
        n_unknown = []

        def rows() -> Iterator[list[int]]:
            for line in read_lines(label_file, encoding):
                labels = set(split_labels(line, separator))
                known = [column[label] for label in labels if label in column]
                n_unknown.append(len(labels) - len(known))
                yield known

        y = binary_csr(*flatten(rows()), len(names))
        texts = list(read_lines(text_file, encoding))
        return _Part(texts, text_file, y, label_file, np.array(n_unknown, dtype=np.int64))

    return _bunch(part(*files), part(*test_files) if test_files else None, names, folder)


def _load_repository(folder: Path, fields: tuple[str, ...], encoding: str) -> Bunch:
    train_file = _find(folder, "trn.json", "trn.raw.json")
    test_file = _find(folder, "tst.json", "tst.raw.json")
    assert train_file is not None  # the layout was recognized by it
    names = None
    if name_file := _find(folder, "lbl.json"):
        names = [
            _text(name_file, number, record, ("title",))
            for number, record in read_records(name_file, encoding)
        ]
    elif name_file := _find(folder, "lbl.raw.txt", "Yf.txt", "labels.txt"):
        names = list(read_lines(name_file, encoding))
    limit = _MAX_LABELS if names is None else len(names)

    def read(file: Path) -> tuple[list[str], Integers, Integers]:
        texts = []

        def rows() -> Iterator[list[int]]:
            for number, record in read_records(file, encoding):
                texts.append(_text(file, number, record, fields))
                yield _targets(file, number, record, limit)

        indices, indptr = flatten(rows())
        return texts, indices, indptr

    train = read(train_file)
    test = read(test_file) if test_file else None
    if names is None:
        used = train[1] if test is None else np.concatenate([train[1], test[1]])
        names = list(map(str, range(used.max(initial=-1) + 1)))
    n_labels = len(names)

    def part(file: Path, content: tuple[list[str], Integers, Integers]) -> _Part:
        return _Part(content[0], file, binary_csr(*content[1:], n_labels), file)

    test_part = part(test_file, test) if test_file and test else None
    return _bunch(part(train_file, train), test_part, names, folder)


def _load_deepxml(folder: Path, encoding: str) -> Bunch:
    def part(which: str) -> _Part | None:
        files = _pair(folder, (f"{which}_X.txt",), (f"{which}_X_Y.txt",))
        if files is None:
            return None
        texts = list(read_lines(files[0], encoding))
        return _Part(texts, files[0], read_pairs(files[1], encoding), files[1])

    train, test = part("trn"), part("tst")
    assert train is not None  # the layout was recognized by its labels
    return _with_names(folder, train, test, ("Y.txt",), encoding)


def _with_names(
    folder: Path, train: _Part, test: _Part | None, name_files: tuple[str, ...], encoding: str
) -> Bunch:
    """Check that both parts have the same columns, and read their names."""
    n_labels = train.y.shape[1]
    if test is not None and test.y.shape[1] != n_labels:
        raise ValueError(
            f"{test.label_file} has {test.y.shape[1]} columns, but {train.label_file} has "
            f"{n_labels}. Write both with the same labels as columns."
        )
    name_file = _find(folder, *name_files)
    names = list(map(str, range(n_labels)))
    if name_file:
        names = list(read_lines(name_file, encoding))
        if len(names) != n_labels:
            raise ValueError(
                f"{name_file} has {len(names)} lines, but {train.label_file} has {n_labels} "
                "columns. Write one label name per line, in the order of the columns."
            )
    return _bunch(train, test, names, folder)


def _bunch(train: _Part, test: _Part | None, names: list[str], folder: Path) -> Bunch:
    for part in (train, test):
        if part is not None and len(part.texts) != part.y.shape[0]:
            raise ValueError(
                f"{part.text_file} has {len(part.texts)} lines, but {part.label_file} has "
                f"{part.y.shape[0]} rows. List the same texts in both, in the same order."
            )
    n_unknown = y_test = filter_test = None
    if test is not None:
        y_test, filter_test = (
            test.y,
            read_filter(_find(folder, "filter_labels_test.txt"), test.y.shape),
        )
        if filter_test.nnz:
            y_test = sparse.csr_array(y_test - y_test.multiply(filter_test))
            y_test.eliminate_zeros()
        n_unknown = test.n_unknown
        if n_unknown is None:
            n_unknown = np.zeros(len(test.texts), dtype=np.int64)
    return Bunch(
        X_train=train.texts,
        y_train=train.y,
        X_test=test.texts if test else None,
        y_test=y_test,
        label_names=_unique_names(names),
        n_unknown_test=n_unknown,
        filter_test=filter_test,
    )


def _unique_names(names: list[str]) -> npt.NDArray[np.object_]:
    while len(set(names)) < len(names):
        count = Counter(names)
        names = [name if count[name] == 1 else f"{name} [{j}]" for j, name in enumerate(names)]
    return np.array(names, dtype=object)


def _find(folder: Path, *names: str) -> Path | None:
    """Return the first of the files that exists, plain or gzipped."""
    candidates = (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((file for file in candidates if file.is_file()), None)


def _pair(
    folder: Path, text_names: tuple[str, ...], label_names: tuple[str, ...]
) -> tuple[Path, Path] | None:
    """Return the text file and the label file of a part, or None if it has neither."""
    text_file, label_file = _find(folder, *text_names), _find(folder, *label_names)
    if text_file and label_file:
        return text_file, label_file
    if text_file or label_file:
        missing = label_names if text_file else text_names
        raise FileNotFoundError(
            f"{text_file or label_file} exists, but {' or '.join(missing)} does not. Put it into "
            "the same folder, or move the other file away."
        )
    return None


def _read_npz(file: Path) -> sparse.csr_array:
    try:
        if not zipfile.is_zipfile(file):  # numpy would ask to load it unsafely
            raise ValueError("not a complete npz file")
        with file.open("rb") as stream:  # given a name, numpy leaves a damaged file open
            loaded = sparse.load_npz(stream)  # refuses pickles
        if loaded.format != "csr" or loaded.ndim != 2:
            raise ValueError(f"its format is {loaded.format}, in {loaded.ndim} dimensions")
        y = sparse.csr_array(loaded)
        y.check_format(full_check=True)  # scipy trusts indices, and crashes on wrong ones
    except Exception as error:  # a damaged zip file may raise nearly any error
        raise ValueError(
            f"{file} is not a CSR matrix of scipy ({error}). Write it with "
            "scipy.sparse.save_npz(file, Y.tocsr())."
        ) from error
    y.sum_duplicates()
    y.eliminate_zeros()
    wrong = np.flatnonzero(y.data != 1)
    if len(wrong):
        row = np.searchsorted(y.indptr, wrong[0], side="right") - 1
        raise ValueError(
            f"{file}, row {row}, column {y.indices[wrong[0]]}: the value is {y.data[wrong[0]]}, "
            "but labels are 0 or 1. If values above 0 mean relevance, save (Y > 0)."
        )
    return y.astype(np.float32, copy=False)


def read_json_texts(file: Path, fields: Iterable[str], encoding: str) -> Iterator[str]:
    """Read the texts of a file of JSON lines."""
    names = tuple(fields)
    for number, record in read_records(file, encoding):
        yield _text(file, number, record, names)


def _text(file: Path, number: int, record: dict[str, Any], fields: tuple[str, ...]) -> str:
    if not any(field in record for field in fields):
        raise ValueError(
            f"{file}, line {number}: has no {' or '.join(fields)}, only {listed(record)}. Pass "
            "the fields of a text as fields=, and give each label a title."
        )
    values = [record.get(field) or "" for field in fields]
    for field, value in zip(fields, values, strict=True):
        if not isinstance(value, str):
            raise ValueError(
                f"{file}, line {number}: {field} must be a string, got {quoted(value)}. Write it "
                "in quotes."
            )
    return " ".join(filter(None, values))


def _targets(file: Path, number: int, record: dict[str, Any], limit: int) -> list[int]:
    targets = record.get("target_ind")
    if not isinstance(targets, list):
        raise ValueError(
            f"{file}, line {number}: target_ind must be a list of column numbers, got "
            f"{quoted(targets)}."
        )
    for target in targets:
        if type(target) is not int or not 0 <= target < limit:
            raise ValueError(
                f"{file}, line {number}: {quoted(target)} in target_ind is not a column number "
                f"from 0 to {limit - 1}. Count the lines of the label file from 0."
            )
    return targets
