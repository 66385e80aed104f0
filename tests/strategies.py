"""Strategies of the property tests: texts and labels in every form, and bad input."""

from __future__ import annotations

import collections

import numpy as np
import pandas as pd
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse


def cases(n: int) -> settings:
    """Run `n` cases in CI, and twenty times as many in the thorough profile."""
    return settings(max_examples=n * settings().max_examples // 10)


# ---------------------------------------------------------------- texts

# Zero bytes, halves of surrogate pairs, right-to-left and joining characters, invisible ones, those
# whose length changes in lower case, and special words of tokenizers.
SPECIAL = [
    *("\0", "\ud800", "\udfff", "\ud83d\ude00", "\ude00\ud83d", "\u202e", "\ufeff", "\u200b"),
    *("e\u0301", "\u0301", "\u1112\u1161\u11ab", "\U0001f469\u200d\U0001f467", "\U0010ffff"),
    *("\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627", "\ufdfa", "\u0130", "\ufb03"),
    *(
        "\r\n",
        "\u2028",
        "\x1b[0m",
        "\x85",
        "\u3000",
        "\t",
        "[CLS] [SEP] [PAD] [UNK]",
        "##a",
        "</s>",
    ),
]
BLANK = " \t\n\r\x0b\x0c\x1c\x85\xa0\u2003\u3000"
HUGE = 50_000  # characters


def text() -> st.SearchStrategy[str]:
    """Draw any text: of all characters, of special ones, of plain words, blank or empty."""
    word = st.sampled_from(SPECIAL) | st.text("abcxyz019", min_size=1, max_size=6)
    return st.one_of(
        st.lists(word, max_size=8).map(" ".join),
        st.lists(word, max_size=8).map("".join),
        st.text(st.characters(), max_size=12),
        st.text(BLANK, max_size=4),
    )


def huge_text() -> st.SearchStrategy[str]:
    return text().filter(len).map(lambda unit: (unit * (HUGE // len(unit) + 1))[:HUGE])


def without_surrogates(text: str) -> str:
    """Join surrogate pairs and replace halves of pairs, character by character."""
    joined = []
    for character in text:
        is_second = "\udc00" <= character <= "\udfff"
        if is_second and joined and "\ud800" <= joined[-1] <= "\udbff":
            first = ord(joined.pop()) - 0xD800
            character = chr(0x10000 + (first << 10) + ord(character) - 0xDC00)
        joined.append(character)
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in joined)


def _arrow(texts):
    import pyarrow

    return pyarrow.array(texts, type=pyarrow.string())


def _chunked(texts):
    import pyarrow

    return pyarrow.chunked_array([texts[:1], texts[1:]], type=pyarrow.string())


def _polars(texts):
    import polars

    return polars.Series(texts, dtype=polars.String)


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "deque": collections.deque,
    "values of a dict": lambda texts: dict(enumerate(texts)).values(),
    "array of objects": lambda texts: np.array(texts, dtype=object),
    "view of an array": lambda texts: np.array(texts * 2, dtype=object)[len(texts) :],
    "series of objects": lambda texts: pd.Series(texts, dtype=object),
}
# These cannot hold surrogates, and the first cannot hold zero bytes at the end.
STRING_CONTAINERS = {
    "fixed-width array": lambda texts: np.array(texts, dtype=str),
    "series of str": lambda texts: pd.Series(texts, dtype="str", index=range(7, 7 + len(texts))),
    "series of string": lambda texts: pd.Series(texts, dtype="string"),
    "series of categories": lambda texts: pd.Series(texts, dtype="str").astype("category"),
    "index": lambda texts: pd.Index(texts, dtype="str"),
    "polars": _polars,
    "arrow": _arrow,
    "chunked arrow": _chunked,
}


@st.composite
def columns_of_text(draw, min_size=1, max_size=6):
    """Draw texts in any container that `fit` takes, and the list of str that they mean."""
    texts = draw(st.lists(text(), min_size=min_size, max_size=max_size))
    name = draw(st.sampled_from([*CONTAINERS, *STRING_CONTAINERS]))
    if name in CONTAINERS:
        return CONTAINERS[name](texts), [without_surrogates(t) for t in texts]
    texts = [without_surrogates(t) for t in texts]
    if name == "fixed-width array":
        texts = [t.rstrip("\0") for t in texts]
    return STRING_CONTAINERS[name](texts), texts


def missing_text():
    return st.sampled_from([None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])


def no_text():
    """Draw an element that is neither a text nor missing."""
    others = [
        True,
        b"bytes",
        bytearray(b"b"),
        1j,
        (),
        ["a"],
        {"a"},
        {},
        object(),
        str,
        np.array("a"),
    ]
    return st.integers() | st.floats(allow_nan=False) | st.sampled_from(others)


def no_texts():
    """Draw input that is not a column of texts."""
    grid = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda s: np.full(s, "a"))
    return st.one_of(
        text(),  # a bare string
        st.none() | st.integers() | st.floats() | st.binary(max_size=4),
        st.lists(st.lists(text(), max_size=2), min_size=1, max_size=3),
        st.dictionaries(text(), text(), max_size=2),
        st.sets(text(), max_size=2) | st.frozensets(text(), max_size=2),
        st.lists(text(), max_size=2).map(iter),
        st.lists(text(), max_size=2).map(lambda texts: (t for t in texts)),
        st.sampled_from([np.array([b"a"]), np.array("a"), np.full((1, 1, 1), "a")]),
        grid
        | grid.map(pd.DataFrame)
        | st.just(pd.DataFrame({"text": ["a"]}))
        | grid.map(lambda array: array.astype(object)),
        st.sampled_from([list, str, pd.Series, len, object(), collections.UserDict(a="b")]),
        st.sampled_from(["csr", "coo", "dok"]).map(
            lambda f: sparse.csr_array(np.eye(2)).asformat(f)
        ),
    )


# ---------------------------------------------------------------- labels

SPARSE_FORMATS = ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"]
DTYPES = [bool, np.int8, np.uint8, np.int64, np.uint64, np.float32, np.float64, np.longdouble]
# Ways to store a cell, by the kind of dtype: a list of entries that add up to its value.
ONES = {"b": [[1], [1, 1], [0, 1]], "u": [[1], [0, 1]], "i": [[1], [0, 1], [2, -1]]}
ZEROS = {"b": [[], [0]], "u": [[], [0], [0, 0]], "i": [[], [0], [1, -1]]}
ONES["f"] = [[1], [0, 1], [0.5, 0.5]]
ZEROS["f"] = ZEROS["i"]


def indicators(min_rows=1, max_rows=5, min_labels=1, max_labels=6):
    """Draw dense arrays of bool, in which any cell may be True."""
    shape = st.tuples(st.integers(min_rows, max_rows), st.integers(min_labels, max_labels))
    return shape.flatmap(lambda s: hnp.arrays(bool, s, elements=st.booleans()))


@st.composite
def as_sparse(draw, dense):
    """Draw `dense` in any sparse format and dtype, with zeros, duplicates and any order."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    entries = []
    for row, column in np.ndindex(dense.shape):
        ways = (ONES if dense[row, column] else ZEROS)[dtype.kind]
        entries += [(row, column, value) for value in draw(st.sampled_from(ways))]
    entries = draw(st.permutations(entries))
    format = draw(st.sampled_from(SPARSE_FORMATS))
    kind = draw(st.sampled_from(["array", "matrix"]))
    index_dtype = draw(st.sampled_from([np.int32, np.int64]))
    matrix = stored_as(entries, dense.shape, dtype, format, kind, index_dtype)
    if format in ("csr", "csc") and draw(st.booleans()):
        matrix.has_canonical_format = True  # may be wrong
    return matrix


def stored_as(entries, shape, dtype, format, kind="array", index_dtype=np.int32):
    """Store the entries (row, column, value), unchanged if the format allows it."""
    make = getattr(sparse, f"{format}_{kind}")
    rows, columns = (np.array([e[i] for e in entries], dtype=index_dtype) for i in (0, 1))
    values = np.array([e[2] for e in entries], dtype=dtype)
    if format in ("csr", "csc", "bsr"):
        major, minor = (columns, rows) if format == "csc" else (rows, columns)
        order = np.argsort(major, kind="stable")
        n_major = shape[1] if format == "csc" else shape[0]
        counts = np.bincount(major, minlength=n_major)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(index_dtype)
        values = values[order] if format != "bsr" else values[order].reshape(-1, 1, 1)
        matrix = make((values, minor[order], starts), shape=shape)
        matrix.indices, matrix.indptr = minor[order], starts  # the constructor narrows them
        return matrix
    coo = getattr(sparse, f"coo_{kind}")((values, (rows, columns)), shape=shape)
    if format == "coo":
        coo.row, coo.col = rows, columns
        return coo
    return coo.asformat(format)


@st.composite
def as_dense(draw, dense):
    """Draw `dense` as an array of any dtype and layout."""
    array = dense.astype(draw(st.sampled_from([*DTYPES, np.float16, np.uint16])))
    layout = draw(st.sampled_from(["C", "Fortran", "strided", "reversed", "read-only"]))
    if layout == "Fortran":
        return np.asfortranarray(array)
    if layout == "strided":
        return np.repeat(np.repeat(array, 2, axis=0), 3, axis=1)[::2, ::3]
    if layout == "reversed":
        return array[::-1, ::-1].copy()[::-1, ::-1]
    array.flags.writeable = layout != "read-only"
    return array


def label():
    """Draw a label, str or int."""
    return st.one_of(text(), st.integers(0, 2**63 - 1))


def label_names(n):
    """Draw `n` distinct labels, all str or all int.

    No label is blank, and no two differ only in blanks. Those give a warning, which
    test_validation_collections.py tests.
    """
    kinds = [text().filter(str.strip), st.integers(0, 2**63 - 1), st.integers(0, n + 3)]

    def bare(label):
        return label.strip() if isinstance(label, str) else label

    return st.one_of([st.lists(k, min_size=n, max_size=n, unique_by=bare) for k in kinds])


@st.composite
def as_frame(draw, dense, names):
    """Draw `dense` as a frame with columns `names` of any dtype."""
    dtypes = ["bool", "int8", "uint64", "float32", "Int64", "boolean", "Sparse[float64]"]
    data = pd.DataFrame(dense.astype(int))
    chosen = [draw(st.sampled_from(dtypes)) for _ in names]
    data = pd.concat([data[i].astype(dtype) for i, dtype in enumerate(chosen)], axis=1)
    data.columns = pd.Index(names, dtype=object)
    if all(isinstance(n, str) and n == without_surrogates(n) for n in names) and draw(
        st.booleans()
    ):
        import polars

        return polars.DataFrame({n: dense[:, i].astype(int) for i, n in enumerate(names)})
    data.index = [0] * len(data)
    return data


@st.composite
def as_collections(draw, dense, names):
    """Draw `dense` as one collection of `names` per row, with repetitions, in any container."""

    def numpy_ints(labels):
        return [np.int64(x) if isinstance(x, int) else np.str_(x) for x in labels]

    kinds = [list, tuple, set, frozenset, numpy_ints]
    kinds += [lambda x: np.array(x, dtype=object), lambda x: pd.Series(x, dtype=object)]
    rows = []
    for present in dense:
        labels = [names[i] for i in np.flatnonzero(present)]
        labels = draw(st.permutations(labels + labels[: draw(st.integers(0, 1))]))
        rows.append(draw(st.sampled_from(kinds))(labels))
    outer = draw(st.sampled_from([list, tuple, collections.deque, "objects", "series"]))
    if isinstance(outer, str):
        column = np.empty(len(rows), dtype=object)
        column[:] = rows
        return pd.Series(column) if outer == "series" else column
    return outer(rows)


@st.composite
def labels_of(draw, dense):
    """Draw `dense` in any form that `fit` takes, with the labels of its columns."""
    form = draw(st.sampled_from(["sparse", "sparse", "dense", "frame", "collections"]))
    if form == "sparse":
        return draw(as_sparse(dense)), np.arange(dense.shape[1]), dense
    if form == "dense":
        return draw(as_dense(dense)), np.arange(dense.shape[1]), dense
    names = draw(label_names(dense.shape[1]))
    if form == "frame":
        return draw(as_frame(dense, names)), names, dense
    used = sorted(range(len(names)), key=names.__getitem__)
    used = [i for i in used if dense[:, i].any()]
    return draw(as_collections(dense, names)), [names[i] for i in used], dense[:, used]


def wrong_value():
    """Draw a number that is neither 0 nor 1."""
    wide = st.integers(-(2**31), 2**31).filter(lambda x: x not in (0, 1))
    return wide | st.floats().filter(lambda x: x not in (0, 1)) | st.sampled_from([0.5, 2, -1])


def no_labels():
    """Draw input that cannot be the labels of two texts."""
    return st.one_of(
        st.none() | st.integers() | st.floats() | text() | st.binary(max_size=3),
        st.lists(st.integers() | text() | st.none(), min_size=2, max_size=2),  # a flat list
        st.sampled_from([np.ones(2), np.ones(()), np.ones((2, 2, 2)), np.eye(2) * 1j]),
        st.sampled_from([np.array([["a", "b"], ["c", "d"]]), np.full((2, 2), None)]),
        st.sampled_from([np.eye(2).astype("M8[s]"), np.ma.masked_less(np.eye(2), 1)]),
        st.sampled_from([np.zeros((2, 0)), np.zeros((0, 2)), np.eye(3), [], [[], []], [["a"]]]),
        st.sampled_from(
            [sparse.csr_array(np.eye(2) * 1j), sparse.coo_array(np.ones(2)), {0: ["a"]}]
        ),
        st.sampled_from([{"a"}, iter([["a"], ["b"]]), list, object(), [[["a"]], []], [{}, {}]]),
        st.sampled_from(
            [pd.DataFrame({"a": ["1", "0"]}), pd.DataFrame([[1, 0]] * 2, columns=[2, 2])]
        ),
        wrong_label().map(lambda label: [["a"], [label]]),
        wrong_label().map(lambda label: [[label], [1]]),
    )


def wrong_label():
    """Draw a value that is not a label, or cannot be a label together with "a" and 1."""
    mixed = [None, float("nan"), True, 1.5, b"a", ("a",), object(), np.True_, pd.NA]
    return st.integers(max_value=-1) | st.integers(min_value=2**63) | st.sampled_from(mixed)


@st.composite
def broken_sparse(draw):
    """Draw a matrix of shape (4, 4) whose arrays do not fit, which would crash compiled code."""
    format = draw(st.sampled_from(["csr", "csc", "coo", "bsr", "lil"]))
    matrix = getattr(sparse, f"{format}_{draw(st.sampled_from(['array', 'matrix']))}")(np.eye(4))
    far = st.sampled_from([4, 5, 10**6, 2**31 - 1]) | st.integers(-(2**31), -1)
    place = draw(st.integers(0, 3))
    if format == "lil":
        if draw(st.booleans()):
            matrix.rows[place] = [draw(far)]
        else:
            matrix.data[place] = [1.0] * draw(st.sampled_from([0, 2, 10**5]))
        return matrix
    if format == "coo":
        (matrix.row, matrix.col)[draw(st.integers(0, 1))][place] = draw(far)
        return matrix
    how = draw(st.sampled_from(["index", "start", "lengths", "starts", "dtype"]))
    if how == "index":
        matrix.indices[place] = draw(far)
    elif how == "start":
        wrong = far if place else far | st.integers(1, 3)
        matrix.indptr[place] = draw(wrong.filter(lambda x: x != 4 or place != 3))
        matrix.indptr[4] = max(3, matrix.indptr[4])
    elif how == "lengths":
        name = draw(st.sampled_from(["data", "indices"]))
        setattr(matrix, name, getattr(matrix, name)[:place])
    elif how == "starts":
        matrix.indptr = draw(st.sampled_from([matrix.indptr[:-1], np.append(matrix.indptr, 4)]))
    else:
        name = draw(st.sampled_from(["indptr", "indices"]))
        setattr(matrix, name, getattr(matrix, name).astype(float))
    return matrix


# ---------------------------------------------------------------- parameters

JUNK = [None, "no such value", b"x", [1], {}, object(), 1j, np.array([1, 2]), int, float("nan")]


def wrong_int(least, *allowed, most=None):
    """Draw no integer from `least` to `most`, and none of `allowed`."""
    junk = [x for x in [*JUNK, 2.5, float("inf")] if not any(x is a for a in allowed)]
    wrong = st.integers(max_value=least - 1) | st.sampled_from(junk)
    return wrong if most is None else wrong | st.integers(min_value=most + 1)


def wrong_real(low, high=None, *allowed, open_low=False, open_high=False):
    """Draw no number from `low` to `high`, and none of `allowed`."""
    junk = [x for x in [*JUNK, -float("inf")] if not any(x is a for a in allowed)]
    wrong = st.sampled_from(junk) | st.floats(max_value=low, exclude_max=not open_low)
    if high is not None:
        wrong = wrong | st.floats(min_value=high, exclude_min=not open_high)
    return wrong


def wrong_k(n_labels):
    """Draw a value that is not a whole number from 1 to `n_labels`."""
    wrong = [True, False, np.True_, 2.0, np.float32(1), "3", [1], np.array([1]), float("nan"), 1j]
    return st.one_of(
        st.integers(max_value=0), st.integers(min_value=n_labels + 1), st.sampled_from(wrong)
    )


def whole(least, most):
    """Draw a Python int, or a NumPy integer of any width that holds it."""
    widths = [np.int8, np.uint8, np.int16, np.int64]
    small = [width for width in widths if most <= np.iinfo(width).max]
    return st.tuples(st.integers(least, most), st.sampled_from([int, *small])).map(
        lambda drawn: drawn[1](drawn[0])
    )
