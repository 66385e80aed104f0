"""The k best columns of each row, compared with sorting in plain Python."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from skxmc._input import ranking
from skxmc._input.ranking import rank_columns, top_k_of_csr
from skxmc._input.validation import check_labels

# SciPy before 1.13 has no 1-D sparse arrays.
HAS_1D = pytest.mark.skipif(sparse.coo_array(np.ones(2)).ndim == 2, reason="needs SciPy 1.13")

STORED = sparse.csr_array(
    (
        np.array([0.5, 0.9, 0.5, -1.0, 0.0, 2.0, 2.0, 2.0, 2.0, 2.0]),
        [0, 2, 4, 1, 3, 0, 1, 2, 3, 4],
        [0, 3, 5, 5, 10],
    ),
    shape=(4, 5),
)


def test_top_k_of_csr_returns_best_stored_entries():
    columns, scores = top_k_of_csr(STORED, 3)
    np.testing.assert_array_equal(columns, [[2, 0, 4], [3, 1, -1], [-1, -1, -1], [0, 1, 2]])
    np.testing.assert_array_equal(scores, [[0.9, 0.5, 0.5], [0, -1, 0], [0, 0, 0], [2, 2, 2]])
    assert columns.dtype == np.int64


def test_top_k_of_csr_k_above_number_of_columns_fills_with_minus_1():
    columns, scores = top_k_of_csr(STORED, 7)
    assert columns.shape == scores.shape == (4, 7)
    np.testing.assert_array_equal(columns[3], [0, 1, 2, 3, 4, -1, -1])
    np.testing.assert_array_equal(columns[1], [3, 1, -1, -1, -1, -1, -1])


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.float32, np.float32), (np.float64, np.float64), (np.int8, np.float64), (bool, np.float64)],
)
def test_top_k_of_csr_keeps_float_dtype_of_scores(dtype, expected):
    columns, scores = top_k_of_csr(sparse.csr_array(np.eye(3, dtype=dtype)), 2)
    assert scores.dtype == expected
    np.testing.assert_array_equal(columns, [[0, -1], [1, -1], [2, -1]])
    np.testing.assert_array_equal(scores, [[1, 0], [1, 0], [1, 0]])


def test_top_k_of_csr_empty_matrix_returns_minus_1():
    columns, scores = top_k_of_csr(sparse.csr_array((2, 3)), 2)
    np.testing.assert_array_equal(columns, np.full((2, 2), -1))
    np.testing.assert_array_equal(scores, np.zeros((2, 2)))
    np.testing.assert_array_equal(rank_columns(sparse.csr_array((2, 3)), 2, 3), [[0, 1], [0, 1]])


def ranked_in_python(row, k):
    """Rank the columns of {column: score}, then append the lowest columns not in it."""
    stored = sorted(row, key=lambda column: (-row[column], column))
    return (stored + [column for column in range(k) if column not in row])[:k]


def random_rows(rng, n, n_columns):
    """Make rows of very different lengths, with many ties, and zero and negative scores."""
    rows = []
    for _ in range(n):
        length = rng.choice([0, 1, 2, 5, n_columns // 2, n_columns])
        columns = rng.choice(n_columns, size=length, replace=False)
        rows.append(dict(zip(columns.tolist(), rng.integers(-2, 3, length).tolist(), strict=True)))
    return rows


def as_csr(rows, n_columns):
    rows = [dict(sorted(row.items())) for row in rows]
    return sparse.csr_array(
        (
            np.array([score for row in rows for score in row.values()], dtype=float),
            np.array([column for row in rows for column in row], dtype=np.int32),
            np.cumsum([0, *map(len, rows)]),
        ),
        shape=(len(rows), n_columns),
    )


@pytest.mark.parametrize("block_size", [1, 40, 1 << 20])
@pytest.mark.parametrize("k", [1, 3, 12, 30])
def test_rank_columns_sparse_scores_agree_with_sorting(monkeypatch, block_size, k):
    monkeypatch.setattr(ranking, "SCORE_BLOCK", block_size)
    rows = random_rows(np.random.default_rng(k), 60, 30)
    matrix = as_csr(rows, 30)
    expected = [ranked_in_python(row, k) for row in rows]
    np.testing.assert_array_equal(rank_columns(matrix, k, 30), expected)

    columns, scores = top_k_of_csr(matrix, k)
    for row, found, values in zip(rows, columns, scores, strict=True):
        n_stored = min(k, len(row))
        assert found[:n_stored].tolist() == ranked_in_python(row, k)[:n_stored]
        assert values[:n_stored].tolist() == [row[column] for column in found[:n_stored]]
        assert (found[n_stored:] == -1).all()
        assert (values[n_stored:] == 0).all()


@pytest.mark.parametrize("block_size", [1, 40, 1 << 20])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_rank_columns_dense_scores_agree_with_sorting(monkeypatch, block_size, dtype, k):
    monkeypatch.setattr(ranking, "SCORE_BLOCK", block_size)
    scores = np.random.default_rng(k).integers(0, 4, (40, 30)).astype(dtype)
    expected = [ranked_in_python(dict(enumerate(row)), k) for row in scores.astype(int).tolist()]
    np.testing.assert_array_equal(rank_columns(scores, k, 30), expected)


def test_rank_columns_negative_scores_rank_below_zero():
    assert rank_columns([[-1.0, 0.0, -2.0, -0.0]], 4, 4).tolist() == [[1, 3, 0, 2]]


def test_rank_columns_absent_entries_follow_all_stored_ones():
    y_score = sparse.csr_array((np.array([-5.0, 0.0]), [3, 4], [0, 2]), shape=(1, 6))
    assert rank_columns(y_score, 6, 6).tolist() == [[4, 3, 0, 1, 2, 5]]


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
def test_rank_columns_every_sparse_format_agrees_with_dense(format):
    dense = np.random.default_rng(0).integers(0, 4, (20, 12)).astype(float)
    y_score = sparse.csr_array(dense).asformat(format)
    np.testing.assert_array_equal(rank_columns(y_score, 5, 12), rank_columns(dense, 5, 12))
    np.testing.assert_array_equal(y_score.toarray(), dense)


def test_rank_columns_unsorted_entries_tie_by_lower_column():
    y_score = sparse.csr_array((np.ones(3), [2, 0, 1], [0, 3]), shape=(1, 3))
    assert rank_columns(y_score, 2, 3).tolist() == [[0, 1]]
    assert y_score.indices.tolist() == [2, 0, 1]


def peak_memory(function, *args):
    tracemalloc.start()
    function(*args)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_top_k_of_csr_unequal_rows_use_memory_by_stored_entries():
    # Padding every row to the longest would take 2,000 x 100,000 scores, 1.6 GB.
    columns = np.append(np.arange(100_000), np.zeros(1_999))
    rows = np.append(np.zeros(100_000), np.arange(1, 2_000))
    matrix = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(2_000, 100_000))
    assert peak_memory(top_k_of_csr, matrix, 5) < 80e6


def test_rank_columns_dense_scores_use_bounded_memory(monkeypatch):
    monkeypatch.setattr(ranking, "SCORE_BLOCK", 1 << 14)
    scores = np.random.default_rng(0).random((1_000, 1_000))
    assert peak_memory(rank_columns, scores, 5, 1_000) < scores.nbytes / 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.coo_array])
def test_rank_columns_scores_not_finite_are_refused(value, form):
    y_score = form(np.array([[1.0, value], [0.5, 0.2]]))
    with pytest.raises(ValueError, match=r"^y_score holds NaN or infinite scores"):
        rank_columns(y_score, 1, 2)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_rank_columns_wrong_shape_or_k_is_refused(form):
    y_score = form(np.eye(3))
    with pytest.raises(
        ValueError, match=r"^y_score has 3 columns, but there are 4 labels\..*named"
    ):
        rank_columns(y_score, 2, 4)
    with pytest.raises(ValueError, match=r"^k is 4, but there are only 3 labels"):
        rank_columns(y_score, 4, 3)


@pytest.mark.parametrize(
    ("y_score", "error", "message"),
    [
        (np.array([["a", "b"]]), TypeError, r"^y_score must be a matrix .* ndarray of dtype <U1"),
        (np.eye(2) * 1j, TypeError, r"^y_score must be a matrix .* of dtype complex128"),
        ((np.eye(2), np.eye(2)), TypeError, r"^y_score must be .* predict_topk returns, got tuple"),
        (sparse.csr_array(np.eye(2) * 1j), TypeError, r"^y_score has dtype complex128"),
        (np.ones(2), ValueError, r"^y_score must be of shape \(n, n_labels\), got \(2,\)"),
        pytest.param(
            sparse.coo_array(np.ones(2)),
            ValueError,
            r"^y_score must be two-dimensional",
            marks=HAS_1D,
        ),
    ],
)
def test_rank_columns_scores_not_a_matrix_of_numbers_are_refused(y_score, error, message):
    with pytest.raises(error, match=message):
        rank_columns(y_score, 1, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda scores: scores.bfloat16(),
        lambda scores: scores.requires_grad_(),
        lambda scores: scores.to_sparse(),
        lambda scores: scores.to("meta"),
    ],
    ids=["bfloat16", "gradient", "sparse", "meta"],
)
@pytest.mark.parametrize(
    ("check", "name"), [(lambda t: rank_columns(t, 1, 3), "y_score"), (check_labels, "y")]
)
def test_tensor_that_numpy_cannot_read_names_the_conversion(check, name, change):
    torch = pytest.importorskip("torch")
    message = rf"^{name} cannot be converted to a NumPy array \(.*by {name}\.detach\(\)\.cpu"
    with pytest.raises(TypeError, match=message):
        check(change(torch.eye(3)))


def test_rank_columns_broken_sparse_scores_are_refused():
    y_score = sparse.csr_array(np.eye(2))
    y_score.indices = np.array([0, 10**8], dtype=np.int32)
    with pytest.raises(ValueError, match=r"^y_score is a broken csr matrix"):
        rank_columns(y_score, 1, 2)
