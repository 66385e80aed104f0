"""Readers of the file layouts in which the field hands out its benchmark sets."""

from __future__ import annotations

import json
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

from skxmc._utils.warnings import warn_user
from skxmc.datasets._csr import Integers, binary_csr, flatten
from skxmc.datasets._lines import read_lines

_MAX_LABELS = np.iinfo(np.int32).max
_LOOKED_FOR = """\
Y.trn.npz (PECOS xmc-base: X.trn.txt, Y.trn.npz, output-items.txt),
train_labels.txt (LightXML, AttentionXML: train_raw_texts.txt or train_texts.txt, train_labels.txt),
trn.json or trn.raw.json (Extreme Classification Repository: trn.json, lbl.json)"""


class _Part(NamedTuple):
    """The training or the test part, and what the errors about it need."""

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
) -> Bunch:
    r"""Read a benchmark set from a folder; its layout is found out from the files there.

    The layouts, in the order in which they are looked for; ``.txt`` and ``.json`` files may also
    be gzipped (``.txt.gz``, ``.json.gz``):

    - PECOS ``xmc-base``: ``X.trn.txt`` (a text a line), ``Y.trn.npz`` (texts x labels, 0/1, from
      ``scipy.sparse.save_npz``), ``output-items.txt`` (a label name a line, optional), and
      ``X.tst.txt``, ``Y.tst.npz``. X-Transformer's older names, ``train_raw_texts.txt``,
      ``test_raw_texts.txt`` and ``label_map.txt``, do as well.
    - LightXML and AttentionXML: ``train_raw_texts.txt``, else ``train_texts.txt`` (a text a
      line), ``train_labels.txt`` (the labels of the same text, separated by whitespace), and
      ``test_...`` likewise. Of the two text files, the raw one has not been tokenised yet.
    - Extreme Classification Repository: ``trn.json`` or ``trn.raw.json`` (a JSON object a line
      with ``title``, ``content`` and ``target_ind``), ``lbl.json`` (the same with the ``title``
      of each label), else ``lbl.raw.txt``, ``Yf.txt`` or ``labels.txt`` (a name a line), all
      optional; and ``tst.json`` or ``tst.raw.json``.

    In the first and the third layout the columns are the files' own, and where there are no label
    names, the names are the column numbers. In the second they are the labels of the training
    part, sorted: a label that occurs in the test part only is nothing that a model could know, so
    it has no column in `y_test`, but is counted in `n_unknown_test`.

    Parameters
    ----------
    path : str or path-like
        The folder.
    fields : str or iterable of str, default=("title", "content")
        Fields of the JSON objects that make up a text, joined by a blank. The title sets
        (``LF-AmazonTitles-131K`` and its like) are meant to be used with ``fields="title"``.
        The other layouts have no fields.
    encoding : str, default="utf-8"
        Encoding of the text and JSON files.

    Returns
    -------
    Bunch
        A dict whose entries are attributes too.

        ``X_train``, ``X_test`` : list of str
            The texts, as they stand in the files. Empty ones are kept.
        ``y_train``, ``y_test`` : csr_array of float32, shape (n_texts, n_labels)
            1 for the labels of a text. A label named twice for a text counts once.
        ``label_names`` : ndarray of object (str), shape (n_labels,)
            All different: where several labels bear one name, as products may bear one title,
            each is followed by its column in brackets. Objects, since one long title in an
            array of fixed width would lengthen all.
        ``n_unknown_test`` : ndarray of int64, shape (n_test_texts,)
            How many true labels of a test text have no column, because they do not occur in
            training; all zero but in the second layout. They are labels missed: precision at k
            is right without them, but what divides by the number of true labels (recall, nDCG)
            must add them to the row sums of `y_test`.

        Where there is no test part, ``X_test``, ``y_test`` and ``n_unknown_test`` are None.

    Raises
    ------
    FileNotFoundError
        If the folder is not there, holds none of the layouts, or lacks one of two files that
        belong together.
    ValueError
        If a file cannot be read as what it should be, or files do not fit each other. The
        message names the file, the line or row, and the remedy.

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
    folder = Path(path)
    layout = layout_of(folder)
    if layout == "PECOS":
        return _load_pecos(folder, encoding)
    if layout == "LightXML":
        return _load_lightxml(folder, encoding)
    names = (fields,) if isinstance(fields, str) else tuple(fields)
    return _load_repository(folder, names, encoding)


def layout_of(folder: Path) -> str:
    """Which of the layouts a folder has: "PECOS", "LightXML" or "Repository"."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder; give the folder that holds the unpacked data set."
        )
    if _find(folder, "Y.trn.npz"):
        return "PECOS"
    if _find(folder, "train_labels.txt"):
        return "LightXML"
    if _find(folder, "trn.json", "trn.raw.json"):
        return "Repository"
    raise FileNotFoundError(
        f"{folder} holds none of the layouts that load_xmc knows. Looked for\n{_LOOKED_FOR};\n"
        "give the folder in which these files lie, not one above it."
    )


def _load_pecos(folder: Path, encoding: str) -> Bunch:
    def part(text_names: tuple[str, ...], label_name: str) -> _Part | None:
        files = _pair(folder, text_names, (label_name,))
        if files is None:
            return None
        return _Part(list(read_lines(files[0], encoding)), files[0], _read_npz(files[1]), files[1])

    train = part(("X.trn.txt", "train_raw_texts.txt"), "Y.trn.npz")
    test = part(("X.tst.txt", "test_raw_texts.txt"), "Y.tst.npz")
    assert train is not None  # its labels are what the layout was known by
    n_labels = train.y.shape[1]
    if test is not None and test.y.shape[1] != n_labels:
        raise ValueError(
            f"{test.label_file} has {test.y.shape[1]} columns, but {train.label_file} has "
            f"{n_labels}; both must be over the same labels."
        )
    name_file = _find(folder, "output-items.txt", "label_map.txt")
    names = list(map(str, range(n_labels)))
    if name_file:
        names = list(read_lines(name_file, encoding))
        if len(names) != n_labels:
            raise ValueError(
                f"{name_file} has {len(names)} lines, but {train.label_file} has {n_labels} "
                "columns; it must name one label a line, in the order of the columns."
            )
    return _bunch(train, test, names)


def _load_lightxml(folder: Path, encoding: str) -> Bunch:
    files = _pair(folder, ("train_raw_texts.txt", "train_texts.txt"), ("train_labels.txt",))
    test_files = _pair(folder, ("test_raw_texts.txt", "test_texts.txt"), ("test_labels.txt",))
    assert files is not None  # its labels are what the layout was known by
    names = sorted({label for line in read_lines(files[1], encoding) for label in line.split()})
    column = {name: j for j, name in enumerate(names)}
    separated = [name for name in names if name.endswith((",", ";"))]
    if separated:
        warn_user(
            f"{files[1]} has the label {separated[0]!r}, with a separator at its end: what "
            "separates labels is blanks. Names with blanks in them need the layout of PECOS.",
        )

    def part(text_file: Path, label_file: Path) -> _Part:
        n_unknown = []

        def rows() -> Iterator[list[int]]:
            for line in read_lines(label_file, encoding):
                labels = set(line.split())
                known = [column[label] for label in labels if label in column]
                n_unknown.append(len(labels) - len(known))
                yield known

        y = binary_csr(*flatten(rows()), len(names))
        texts = list(read_lines(text_file, encoding))
        return _Part(texts, text_file, y, label_file, np.array(n_unknown, dtype=np.int64))

    return _bunch(part(*files), part(*test_files) if test_files else None, names)


def _load_repository(folder: Path, fields: tuple[str, ...], encoding: str) -> Bunch:
    train_file = _find(folder, "trn.json", "trn.raw.json")
    test_file = _find(folder, "tst.json", "tst.raw.json")
    assert train_file is not None  # what the layout was known by
    names = None
    if name_file := _find(folder, "lbl.json"):
        names = [
            _text(name_file, number, record, ("title",))
            for number, record in _records(name_file, encoding)
        ]
    elif name_file := _find(folder, "lbl.raw.txt", "Yf.txt", "labels.txt"):
        names = list(read_lines(name_file, encoding))
    limit = _MAX_LABELS if names is None else len(names)

    def read(file: Path) -> tuple[list[str], Integers, Integers]:
        texts = []

        def rows() -> Iterator[list[int]]:
            for number, record in _records(file, encoding):
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
    return _bunch(part(train_file, train), test_part, names)


def _bunch(train: _Part, test: _Part | None, names: list[str]) -> Bunch:
    for part in (train, test):
        if part is not None and len(part.texts) != part.y.shape[0]:
            raise ValueError(
                f"{part.text_file} has {len(part.texts)} lines, but {part.label_file} has "
                f"{part.y.shape[0]} rows; both must list the same texts in the same order."
            )
    n_unknown = None
    if test is not None:
        n_unknown = test.n_unknown
        if n_unknown is None:
            n_unknown = np.zeros(len(test.texts), dtype=np.int64)
    return Bunch(
        X_train=train.texts,
        y_train=train.y,
        X_test=test.texts if test else None,
        y_test=test.y if test else None,
        label_names=_unique_names(names),
        n_unknown_test=n_unknown,
    )


def _unique_names(names: list[str]) -> npt.NDArray[np.object_]:
    while len(set(names)) < len(names):
        count = Counter(names)
        names = [name if count[name] == 1 else f"{name} [{j}]" for j, name in enumerate(names)]
    return np.array(names, dtype=object)


def _find(folder: Path, *names: str) -> Path | None:
    """The first of the files that is there, as it is or gzipped."""
    candidates = (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((file for file in candidates if file.is_file()), None)


def _pair(
    folder: Path, text_names: tuple[str, ...], label_names: tuple[str, ...]
) -> tuple[Path, Path] | None:
    """The text and the label file of a part; None where there is neither."""
    text_file, label_file = _find(folder, *text_names), _find(folder, *label_names)
    if text_file and label_file:
        return text_file, label_file
    if text_file or label_file:
        missing = label_names if text_file else text_names
        raise FileNotFoundError(
            f"{text_file or label_file} is there, but {' or '.join(missing)} is not; put it "
            "into the same folder, or move the other one away."
        )
    return None


def _read_npz(file: Path) -> sparse.csr_array:
    try:
        if not zipfile.is_zipfile(file):  # numpy would ask to load it unsafely
            raise ValueError("not an npz file, or not all of it")
        with file.open("rb") as stream:  # by name, numpy leaves a damaged file open
            loaded = sparse.load_npz(stream)  # refuses pickles
        if loaded.format != "csr" or loaded.ndim != 2:
            raise ValueError(f"its format is {loaded.format}, in {loaded.ndim} dimensions")
        y = sparse.csr_array(loaded)
        y.check_format(full_check=True)  # scipy believes indices, and crashes on wrong ones
    except Exception as error:  # a damaged zip file may raise nearly anything
        raise ValueError(
            f"{file} is not a CSR matrix of scipy ({error}); write it with "
            "scipy.sparse.save_npz(file, Y.tocsr())."
        ) from error
    y.sum_duplicates()
    y.eliminate_zeros()
    wrong = np.flatnonzero(y.data != 1)
    if len(wrong):
        row = np.searchsorted(y.indptr, wrong[0], side="right") - 1
        raise ValueError(
            f"{file}, row {row}, column {y.indices[wrong[0]]}: the value is {y.data[wrong[0]]}, "
            "but labels are 0 or 1; where values above 0 mean relevance, save (Y > 0)."
        )
    return y.astype(np.float32, copy=False)


def _records(file: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and the JSON objects that stand there."""
    for number, line in enumerate(read_lines(file, encoding), start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{file}, line {number}: malformed JSON ({error}); each line must be one complete "
                "object."
            ) from error
        if not isinstance(record, dict):
            raise ValueError(f"{file}, line {number}: not a JSON object, but {line[:40]!r}.")
        yield number, record


def _text(file: Path, number: int, record: dict[str, Any], fields: tuple[str, ...]) -> str:
    if not any(field in record for field in fields):
        raise ValueError(
            f"{file}, line {number}: has no {' or '.join(fields)}, only {', '.join(record)}; "
            "fields= names the fields of a text, and each label needs a title."
        )
    values = [record.get(field) or "" for field in fields]
    for field, value in zip(fields, values, strict=True):
        if not isinstance(value, str):
            raise ValueError(f"{file}, line {number}: {field} is no text, but {value!r}.")
    return " ".join(filter(None, values))


def _targets(file: Path, number: int, record: dict[str, Any], limit: int) -> list[int]:
    targets = record.get("target_ind")
    if not isinstance(targets, list):
        raise ValueError(
            f"{file}, line {number}: target_ind must be a list of column numbers, not {targets!r}."
        )
    for target in targets:
        if type(target) is not int or not 0 <= target < limit:
            raise ValueError(
                f"{file}, line {number}: {target!r} in target_ind is no column number from 0 to "
                f"{limit - 1}; it counts the lines of the label file from 0."
            )
    return targets
