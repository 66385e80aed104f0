"""A balanced tree of rows, each node split in two halves by spherical 2-means."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

# A node with more rows or entries is split by itself, and 2-means runs on a sample of ROW_BLOCK
# rows. Smaller nodes are split level by level, on a matrix (4 MB) that stays in the CPU's cache.
ROW_BLOCK = 1 << 14
ENTRY_BLOCK = 1 << 19
N_START_ROUNDS = 3  # rounds of power iteration that find the start of 2-means

# Share of a row's similarity to itself that is left out of its similarity to its own center. In
# small clusters it outweighs the rest, so plain 2-means stops at once. Without any of it, rows may
# keep changing sides together. A node enters the next stage when it gains nothing, and starts from
# its best split so far.
LEFT_OUT = np.array([1.0, 0.5, 0.25], dtype=np.float32)

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]


class LabelTree(NamedTuple):
    """Splits of some rows. Node 1 is the root, and node i has the children 2i and 2i + 1.

    The weighted sum of a node's rows is its split vector. Rows whose product with it reaches the
    node's cut go to the first child.
    """

    nodes: IntArray  # (n_rows,), the node that each row has reached
    weights: FloatArray  # (depth, n_rows)
    cuts: FloatArray  # (2**depth,)


def split(
    X: sp.csr_array,
    tree: LabelTree,
    rows: IntArray,
    steps: int,
    seed: int,
    *,
    max_iter: int,
    tol: float,
) -> int:
    """Split the node of the given rows and its descendants, and return the most iterations run.

    Rows are kept in the order of their nodes, and columns are replaced by pairs of node and column.
    One vector then holds the vectors of all nodes. Its product with the matrix is the product of
    every row with its own node's vector.
    """
    rng = np.random.default_rng(seed)
    nodes = tree.nodes[rows[:1]]
    level = int(nodes[0]).bit_length() - 1
    X = X if level == 0 else X[rows]
    bounds = np.array([0, len(rows)])  # of the nodes' rows
    edges = np.array([0, X.shape[1]])  # of the nodes' columns
    # A small node uses few of many columns, but each product writes all columns that there are.
    if steps > 1 or X.nnz < 4 * X.shape[1]:
        X, edges = _renumber(X, bounds, edges[:1], edges)
    n_iters = []
    for step in range(steps):
        weights, n_iter = _two_means(X, bounds, rng, max_iter, tol)
        n_iters.append(n_iter)
        left, tree.cuts[nodes] = _upper_halves(X @ (X.T @ weights), bounds)
        tree.weights[level + step, rows] = weights
        children = 2 * np.repeat(nodes, np.diff(bounds)) + ~left
        moved = np.argsort(children, kind="stable")
        rows = rows[moved]
        tree.nodes[rows] = children[moved]
        nodes, firsts = np.unique(children[moved], return_index=True)
        bounds = np.append(firsts, len(rows))
        if step + 1 < steps:
            # Columns [a, b) of a node become [2a, a + b) on the left, [a + b, 2b) on the right.
            twice = np.repeat(edges, 2)
            X, edges = _renumber(X[moved], bounds, twice[1:-1], twice[:-1] + twice[1:])
    return max(n_iters)


def _renumber(
    X: sp.csr_array, bounds: IntArray, offsets: IntArray, edges: IntArray
) -> tuple[sp.csr_array, IntArray]:
    """Add each node's offset to its columns, then close the gaps in the columns and in `edges`."""
    row_offsets = np.repeat(offsets.astype(X.indices.dtype), np.diff(bounds))
    columns = X.indices + np.repeat(row_offsets, np.diff(X.indptr))
    used = np.zeros(edges[-1], dtype=bool)
    used[columns] = True
    numbers = np.zeros(edges[-1] + 1, dtype=X.indices.dtype)
    np.cumsum(used, out=numbers[1:])
    shape = (X.shape[0], numbers[-1])
    return sp.csr_array((X.data, numbers[columns], X.indptr), shape=shape), numbers[edges]


def _two_means(
    X: sp.csr_array, bounds: IntArray, rng: np.random.Generator, max_iter: int, tol: float
) -> tuple[FloatArray, int]:
    """Run balanced spherical 2-means in every node, and return row weights and iterations.

    A row weighs 1 / norm of its side's sum, and is negative on the right side. The weighted sum of
    a node's rows is thus the difference of its centers. The centers are never formed: everything
    follows from the products of the rows with the sum and the difference of the two sides.
    """
    n_rows, sizes = X.shape[0], np.diff(bounds)
    if n_rows > ROW_BLOCK and len(sizes) == 1:
        sample = np.sort(rng.choice(n_rows, ROW_BLOCK, replace=False))
        weights = np.zeros(n_rows, dtype=np.float32)
        bounds = np.array([0, ROW_BLOCK])
        weights[sample], n_iter = _two_means(X[sample], bounds, rng, max_iter, tol)
        return weights, n_iter

    per_node = partial(np.add.reduceat, indices=bounds[:-1], dtype=np.float64)
    per_row = partial(np.repeat, repeats=sizes)

    def unit(to_own_sum: FloatArray) -> FloatArray:
        # If rows cancel out or are zero, their sum has no norm to divide by.
        return per_row(1 / np.sqrt(np.maximum(per_node(to_own_sum), 1e-6)))

    XT = X.T
    scores = rng.standard_normal(n_rows, dtype=np.float32)
    for _ in range(N_START_ROUNDS):
        scores -= per_row(per_node(scores) / sizes)
        scores = X @ (XT @ scores) - scores  # without the similarity to itself, 1

    to_sum = X @ (XT @ np.ones(n_rows, dtype=np.float32))
    best = np.full(len(sizes), -1.0)
    best_scores = weights = np.zeros(n_rows)
    stage = np.zeros(len(sizes), dtype=np.int64)
    n_iter = 0
    while n_iter < max_iter and (stage < len(LEFT_OUT)).any():
        n_iter += 1
        left, _ = _upper_halves(scores, bounds)
        to_difference = X @ (XT @ np.where(left, np.float32(1), np.float32(-1)))
        to_left, to_right = (to_sum + to_difference) / 2, (to_sum - to_difference) / 2
        unit_left, unit_right = unit(to_left * left), unit(to_right * ~left)
        cosines = per_node(np.where(left, to_left * unit_left, to_right * unit_right))
        better = per_row(cosines > best)
        best_scores = np.where(better, to_left * unit_left - to_right * unit_right, best_scores)
        weights = np.where(better, np.where(left, unit_left, -unit_right), weights)
        stage += cosines - best <= tol * cosines
        best = np.maximum(best, cosines)
        left_out = per_row(LEFT_OUT[np.minimum(stage, len(LEFT_OUT) - 1)])
        scores = best_scores - left_out * weights
    return weights.astype(np.float32), n_iter


def _upper_halves(scores: FloatArray, bounds: IntArray) -> tuple[NDArray[np.bool_], FloatArray]:
    """Mark the higher half of each node's scores (ties: earlier rows), and return its cut."""
    sizes = np.diff(bounds)
    halves = (sizes[:, np.newaxis] + 1) // 2
    slots = np.arange(sizes.max()) < sizes[:, np.newaxis]  # sizes differ by one at most
    table = np.full(slots.shape, -np.inf, dtype=np.float32)
    table[slots] = scores
    ranked = np.sort(table, axis=1)
    least = np.take_along_axis(ranked, sizes.max() - halves, axis=1)
    below = np.take_along_axis(ranked, sizes.max() - halves - 1, axis=1)
    above, tied = table > least, table == least
    room = halves - np.count_nonzero(above, axis=1, keepdims=True)
    left = above | (tied & (np.cumsum(tied, axis=1) <= room))
    # In float64, so that the middle of two neighboring float32 numbers lies between them.
    return left[slots], (least.astype(np.float64) + below).ravel() / 2


def members_of(nodes: IntArray, level: int) -> list[IntArray]:
    """Return the rows of each node of a level, in ascending order."""
    ends = np.cumsum(np.bincount(nodes - 2**level, minlength=2**level))
    return np.split(np.argsort(nodes, kind="stable"), ends[:-1])
