"""Label features, and balanced clusters of labels by recursive spherical 2-means."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import normalize
from sklearn.utils import check_array, check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from skxmc import _label_tree
from skxmc._input.sparse import checked_csr
from skxmc._input.validation import check_labels
from skxmc._label_tree import LabelTree, members_of, split
from skxmc._utils.parallel import clip_jobs

# max_cluster_size="auto" is 1 (the direct mode) below MIN_CLUSTERED_LABELS labels. From there on it
# is MIN_AUTO_CLUSTER_SIZE, or more if that makes more than MAX_AUTO_CLUSTERS clusters. Each cluster
# costs the recall head one weight per feature, and every training step touches all weights.
MIN_CLUSTERED_LABELS = 1 << 15
MIN_AUTO_CLUSTER_SIZE = 64
MAX_AUTO_CLUSTERS = 8192

IntArray = NDArray[np.int64]


def label_features(Y: Any, X: Any) -> Any:
    """PIFA label features: the normalised sum of the normalised features of a label's texts.

    Parameters
    ----------
    Y : {array-like, sparse matrix} of shape (n_texts, n_labels)
        Labels of the texts, 0 and 1, or in any other form that `LightXMLClassifier.fit` takes.
    X : {array-like, sparse matrix} of shape (n_texts, n_features)
        Features of the texts, such as TF-IDF.

    Returns
    -------
    csr_matrix, or ndarray where X is dense, of shape (n_labels, n_features), float32
        Rows of unit L2 norm; rows of zeros for labels without a text.

    Raises
    ------
    TypeError, ValueError
        If the numbers of rows differ, Y holds anything but 0 and 1, or X is not of finite numbers.

    Examples
    --------
    >>> from skxmc import label_features
    >>> label_features([["law"], ["law", "tax"]], [[2.0, 0.0], [0.0, 3.0]]).round(2)
    array([[0.71, 0.71],
           [0.  , 1.  ]], dtype=float32)
    """
    X = check_features(X, "X")
    labels = check_labels(Y, name="Y", n_texts=X.shape[0]).matrix
    features = _unit(labels.T.tocsr() @ _unit(X))
    return sp.csr_matrix(features) if sp.issparse(features) else features


def check_features(X: Any, name: str, check: Callable[..., Any] | None = None) -> Any:
    """Features as a canonical float32 CSR copy, or as a dense float32 array.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_rows, n_features)
    name : str
        What error messages call it.
    check : callable, default=None
        sklearn's `check_array` or one like it; None is that.
    """
    check = partial(check_array, input_name=name) if check is None else check
    X = checked_csr(X, name) if sp.issparse(X) else X
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, which is refused
            return check(X, accept_sparse="csr", dtype=np.float32)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{name} must be a sparse or dense matrix of finite numbers, with at least one row and "
            f"one column: {error}"
        ) from error


def largest_cluster(max_cluster_size: int | str, n_labels: int) -> int:
    """Most labels in a cluster, where "auto" depends on how many labels there are."""
    if max_cluster_size != "auto":
        return int(max_cluster_size)
    if n_labels < MIN_CLUSTERED_LABELS:
        return 1
    return max(MIN_AUTO_CLUSTER_SIZE, -(-n_labels // MAX_AUTO_CLUSTERS))


def count_clusters(max_cluster_size: int, n_labels: int) -> int:
    """How many clusters of at most so many labels: a power of two, but one a label for 1."""
    if max_cluster_size == 1:
        return n_labels
    return 1 << (-(-n_labels // max_cluster_size) - 1).bit_length()


class BalancedLabelClusterer(
    ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, BaseEstimator
):
    """Clusters of labels that differ in size by one at most.

    The labels are halved again and again, by spherical 2-means and a cut at the median of
    (similarity to one centre minus similarity to the other). The depth is chosen once,
    ``ceil(log2(n_labels / max_cluster_size))``; there are ``2 ** depth`` clusters, of
    ``floor(max_cluster_size / 2)`` to ``max_cluster_size`` labels.

    Parameters
    ----------
    max_cluster_size : int or "auto", default="auto"
        Most labels in a cluster. 1 is the direct mode: each label is a cluster of its own, so that
        `LightXMLClassifier` ranks nothing and its ``bottleneck_dim`` has no effect. "auto" is 1
        below 32,768 labels, 64 from there on, and what makes 8,192 clusters beyond 524,288.
    max_iter : int, default=20
        Most 2-means iterations of a split; few need as many.
    tol : float, default=1e-3
        Least relative gain in the sum of cosines of rows to centres for which a split iterates on.
    random_state : int, RandomState instance or None, default=None
        Seeds the starts and samples of the splits. Pass an int for the same clusters every time.
    n_jobs : int, default=None
        Threads, in joblib's sense: None is 1, -1 is all CPUs. They do not change the result.

    Attributes
    ----------
    labels_ : ndarray of shape (n_labels,), int64
        Cluster of each label. Clusters that were parted last have neighbouring numbers.
    n_clusters_ : int
        Number of clusters.
    n_iter_ : int
        Most 2-means iterations of a split; 0 where nothing was split.
    cluster_centers_ : csr_matrix of shape (n_clusters, n_features), float32
        Normalised sum of each cluster's normalised rows, computed when asked for.
    n_features_in_ : int
        Number of features seen in `fit`.

    Notes
    -----
    While it looks for centres, a split leaves a row's similarity to itself out of that to its own
    centre, wholly at first and less later; the cut counts it. Dense X is computed on as CSR. The
    rows are kept for `transform`, normalised, as they weigh less than the split vectors.

    References
    ----------
    Jiang et al., "LightXML: Transformer with dynamic negative sampling for high-performance
    extreme multi-label text classification" (AAAI 2021), section "Label clustering".

    Examples
    --------
    >>> from skxmc import BalancedLabelClusterer
    >>> X = [[1, 0, 0], [0, 0, 1], [2, 1, 0], [0, 1, 2]]
    >>> clusters = BalancedLabelClusterer(max_cluster_size=2, random_state=0).fit_predict(X)
    >>> bool(clusters[0] == clusters[2] != clusters[1] == clusters[3])
    True
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "max_cluster_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
    }

    def __init__(
        self,
        max_cluster_size: int | str = "auto",
        *,
        max_iter: int = 20,
        tol: float = 1e-3,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.max_cluster_size = max_cluster_size
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> BalancedLabelClusterer:
        """Cluster the labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_labels, n_features)
            Features of the labels, one row each, as `label_features` makes them. Only directions
            count. Equal rows, and rows of zeros, are shared out as balance wants.
        y : object, default=None
            Not used; there because pipelines pass one.

        Returns
        -------
        BalancedLabelClusterer
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            If X is not a matrix of finite numbers with at least one row and column.
        """
        self._rows = self._unit_rows(X, reset=True)
        n_labels = self._rows.shape[0]
        size = largest_cluster(self.max_cluster_size, n_labels)
        n_clusters = count_clusters(size, n_labels)
        self.n_iter_ = self._grow(0 if size == 1 else n_clusters.bit_length() - 1)
        self.labels_ = np.arange(n_labels) if size == 1 else self._tree.nodes - n_clusters
        self.n_clusters_ = self._n_features_out = n_clusters
        return self

    def _grow(self, depth: int) -> int:
        """Split large nodes one by one, then each of the others all the way down."""
        n_rows, nnz = self._rows.shape[0], self._rows.nnz
        nodes, weights = np.ones(n_rows, dtype=np.int64), np.zeros((depth, n_rows), np.float32)
        self._tree = LabelTree(nodes, weights, np.zeros(2**depth))
        random_state = check_random_state(self.random_state)
        cut = partial(split, self._rows, self._tree, max_iter=self.max_iter, tol=self.tol)
        level = n_iter = 0
        while level < depth:
            is_wide = nnz >> level > _label_tree.ENTRY_BLOCK
            is_large = is_wide or n_rows >> level > _label_tree.ROW_BLOCK
            steps = 1 if is_large else depth - level
            members = members_of(self._tree.nodes, level)
            # Drawn before the threads start, whose order must not matter.
            seeds = random_state.randint(np.iinfo(np.int32).max, size=len(members))
            n_iters = Parallel(n_jobs=clip_jobs(self.n_jobs), require="sharedmem")(
                delayed(cut)(rows, steps, seed) for rows, seed in zip(members, seeds, strict=True)
            )
            n_iter = max(n_iter, *n_iters)
            level += steps
        return n_iter

    def predict(self, X: Any) -> IntArray:
        """Find the cluster of each row by the splits that `fit` made.

        The rows of `fit` get their `labels_`, but for rows tied at a split (equal rows, rows of
        zeros), which balance may have parted. In direct mode it is the label of nearest features.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features)
            Features, of labels or of anything else.

        Returns
        -------
        ndarray of shape (n_rows,), int64
            Number of the cluster, from 0.

        Raises
        ------
        NotFittedError
            Before `fit`, and by the copy that `labels_only` makes.
        TypeError, ValueError
            If X is not a matrix of finite numbers with as many columns as in `fit`.

        Examples
        --------
        >>> from skxmc import BalancedLabelClusterer
        >>> clusterer = BalancedLabelClusterer(max_cluster_size=2, random_state=0)
        >>> clusterer = clusterer.fit([[1, 0, 0], [0, 0, 1], [2, 1, 0], [0, 1, 2]])
        >>> bool(clusterer.predict([[3, 1, 0]])[0] == clusterer.labels_[0])
        True
        """
        self._check_has_rows()
        rows, fitted, tree = self._unit_rows(X, reset=False), self._rows, self._tree
        if self.n_clusters_ > len(tree.cuts):  # direct mode
            block = max(1, _label_tree.ENTRY_BLOCK // self.n_clusters_)
            batches = gen_batches(rows.shape[0], block)
            nearest = [(rows[batch] @ fitted.T).toarray().argmax(axis=1) for batch in batches]
            return np.concatenate(nearest)
        nodes, depth = np.ones(rows.shape[0], dtype=np.int64), len(tree.weights)
        for level, weights in enumerate(tree.weights):
            members = members_of(tree.nodes >> (depth - level), level)
            for node, routed in enumerate(members_of(nodes, level), start=2**level):
                if routed.size:  # the very products of `split`, so that its rows score the same
                    inside = members[node - 2**level]
                    scores = rows[routed] @ (fitted[inside].T @ weights[inside])
                    nodes[routed] = 2 * node + (scores < tree.cuts[node])
        return nodes - 2**depth

    def transform(self, X: Any) -> sp.csr_matrix:
        """Make the membership matrix of what `predict` finds.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features)
            Features, of labels or of anything else.

        Returns
        -------
        csr_matrix of shape (n_rows, n_clusters), float32
            A single 1 in each row.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            As `predict` does.

        Examples
        --------
        >>> from skxmc import BalancedLabelClusterer
        >>> X = [[1, 0, 0], [0, 0, 1], [2, 1, 0], [0, 1, 2]]
        >>> BalancedLabelClusterer(max_cluster_size=2, random_state=0).fit_transform(X).shape
        (4, 2)
        """
        return _one_hot(self.predict(X), self.n_clusters_)

    @property
    def cluster_centers_(self) -> sp.csr_matrix:
        """Normalised sum of each cluster's normalised rows.

        Returns
        -------
        csr_matrix of shape (n_clusters, n_features), float32
            Computed anew each time.

        Raises
        ------
        NotFittedError
            As `predict` does.
        """
        self._check_has_rows()
        membership = _one_hot(self.labels_, self.n_clusters_).T.tocsr()
        return sp.csr_matrix(normalize(membership @ self._rows, copy=False))

    def labels_only(self) -> BalancedLabelClusterer:
        """Copy with `labels_`, but without the rows of `fit`, which outweigh many a model.

        The copy can neither `predict` nor `transform`, and has no `cluster_centers_`. A classifier
        keeps no more.

        Returns
        -------
        BalancedLabelClusterer
            Fitted.

        Raises
        ------
        NotFittedError
            Before `fit`.

        Examples
        --------
        >>> from skxmc import BalancedLabelClusterer
        >>> clusterer = BalancedLabelClusterer(max_cluster_size=1).fit([[1, 0], [0, 1]])
        >>> clusterer.labels_only().labels_
        array([0, 1])
        """
        check_is_fitted(self)
        copied = copy.copy(self)
        del copied._rows, copied._tree
        return copied

    def _check_has_rows(self) -> None:
        check_is_fitted(self)
        if not hasattr(self, "_rows"):
            raise NotFittedError(
                "This clusterer keeps only its labels_, as that of a classifier does. To "
                "transform other rows, fit one of its own on label_features(y, X)."
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _unit_rows(self, X: Any, *, reset: bool) -> sp.csr_array:
        """Rows of unit norm, or of zeros, as a canonical float32 copy."""
        X = check_features(X, "X", partial(validate_data, self, reset=reset))
        if not sp.issparse(X):
            # In parts, as what scipy makes on the way takes eight times as much memory.
            parts = gen_batches(len(X), _label_tree.ROW_BLOCK)
            X = sp.vstack([sp.csr_array(X[part]) for part in parts], format="csr")
        return _unit(sp.csr_array(X))


def _unit(X: Any) -> Any:
    """Rows of unit norm, or of zeros; a matrix of X's kind, in place where X is sparse."""
    # Squares of large numbers overflow and those of small ones vanish. Powers of two round nothing.
    if sp.issparse(X):
        lengths = np.diff(X.indptr)
        filled = np.flatnonzero(lengths)
        largest = np.maximum.reduceat(np.abs(X.data), X.indptr[filled]) if filled.size else X.data
        X.data = np.ldexp(X.data, np.repeat(-np.frexp(largest)[1], lengths[filled]))
    else:
        X = np.ldexp(X, -np.frexp(np.abs(X).max(axis=1, keepdims=True))[1])
    return normalize(X, copy=False)


def _one_hot(labels: IntArray, n_clusters: int) -> sp.csr_matrix:
    entries = np.ones(len(labels), dtype=np.float32), labels, np.arange(len(labels) + 1)
    return sp.csr_matrix(entries, shape=(len(labels), n_clusters))
