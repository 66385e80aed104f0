"""Label features, and balanced clusters of labels by recursive spherical 2-means."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, TypeAlias

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
from sklearn.utils import Tags, check_array, check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from skxmc import _label_tree
from skxmc._input.sparse import checked_csr
from skxmc._input.types import LabelsOfTexts, Matrix
from skxmc._input.validation import check_labels
from skxmc._label_tree import LabelTree, members_of, split
from skxmc._utils.parallel import clip_jobs
from skxmc._utils.params import check_params
from skxmc._utils.quoting import MAX_ERROR, shortened

# max_cluster_size="auto" is 1 (the direct mode) below MIN_CLUSTERED_LABELS labels. From there on it
# is MIN_AUTO_CLUSTER_SIZE, or more if that makes more than MAX_AUTO_CLUSTERS clusters. Each cluster
# costs the recall head one weight per feature, and every training step touches all weights.
MIN_CLUSTERED_LABELS = 1 << 15
MIN_AUTO_CLUSTER_SIZE = 64
MAX_AUTO_CLUSTERS = 8192

IntArray = NDArray[np.int64]
Features: TypeAlias = NDArray[np.float32] | sp.csr_array


def label_features(Y: LabelsOfTexts, X: Matrix) -> Any:
    """Compute PIFA features of labels from the features of their texts.

    The features of a label are the normalized sum of its texts' normalized features.
    Read more in the user guide: :doc:`/guide/large_label_sets`.

    Parameters
    ----------
    Y : {array-like, sparse matrix} of shape (n_texts, n_labels)
        Labels of the texts, in any form that `LightXMLClassifier.fit` takes.
    X : {array-like, sparse matrix} of shape (n_texts, n_features)
        Features of the texts, such as TF-IDF.

    Returns
    -------
    csr_matrix, or ndarray if X is dense, of shape (n_labels, n_features), float32
        Rows of unit L2 norm. A label without texts has a row of zeros.

    Raises
    ------
    TypeError, ValueError
        If the numbers of rows differ, if Y holds numbers other than 0 and 1, or if X holds NaN or
        infinite numbers.

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


def check_features(X: Matrix, name: str, check: Callable[..., Features] | None = None) -> Features:
    """Convert features to a canonical float32 CSR copy, or to a dense float32 array.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_rows, n_features)
    name : str
        Name in error messages.
    check : callable, default=None
        Function with the arguments of `check_array` of scikit-learn, which is the default.
    """
    check = partial(check_array, input_name=name) if check is None else check
    X = checked_csr(X, name) if sp.issparse(X) else X
    try:
        with np.errstate(over="ignore"):  # numbers too large for float32 become inf, an error
            return check(X, accept_sparse="csr", dtype=np.float32)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{name} must be a sparse or dense matrix of finite numbers, with at least one row and "
            f"one column: {shortened(str(error), MAX_ERROR)}"
        ) from error


def largest_cluster(max_cluster_size: int | str, n_labels: int) -> int:
    """Return the maximum number of labels per cluster, which `n_labels` decides for "auto"."""
    if max_cluster_size != "auto":
        return int(max_cluster_size)
    if n_labels < MIN_CLUSTERED_LABELS:
        return 1
    return max(MIN_AUTO_CLUSTER_SIZE, -(-n_labels // MAX_AUTO_CLUSTERS))


def count_clusters(max_cluster_size: int, n_labels: int) -> int:
    """Return the number of clusters: one per label if the size is 1, else a power of two."""
    if max_cluster_size == 1:
        return n_labels
    return 1 << (-(-n_labels // max_cluster_size) - 1).bit_length()


class BalancedLabelClusterer(
    ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, BaseEstimator
):
    """Clustering of labels by recursive spherical 2-means, with balanced sizes.

    The sizes of the clusters differ by at most one. Each split runs spherical 2-means, and cuts
    at the median of (similarity to one center minus similarity to the other). The depth is
    ``ceil(log2(n_labels / max_cluster_size))``. There are ``2 ** depth`` clusters, with
    ``floor(max_cluster_size / 2)`` to ``max_cluster_size`` labels per cluster.

    Read more in the user guide: :doc:`/guide/large_label_sets`.

    Parameters
    ----------
    max_cluster_size : int or "auto", default="auto"
        Maximum number of labels per cluster. 1 is the direct mode: each label is a cluster of its
        own. `LightXMLClassifier` then ranks every label, and has no recall head.
        "auto" is 1 below 32,768 labels, and 64 up to 524,288. With more labels, it is the size
        that makes 8,192 clusters.
    max_iter : int, default=20
        Maximum number of 2-means iterations per split. Few splits need that many.
    tol : float, default=1e-3
        Minimum relative gain per iteration in the sum of cosines of rows to centers. If the gain
        is smaller, the split stops.
    random_state : int, RandomState instance or None, default=None
        Seed of the starts and samples of the splits. Pass an int for the same clusters every time.
    n_jobs : int, default=None
        Number of threads, as in joblib: None is 1, -1 is all CPUs. It does not change the result.

    Attributes
    ----------
    labels_ : ndarray of shape (n_labels,), int64
        Cluster of each label. The two halves of a last split have neighboring numbers.
    n_clusters_ : int
        Number of clusters.
    n_iter_ : int
        Maximum number of 2-means iterations over all splits, 0 if nothing was split.
    cluster_centers_ : csr_matrix of shape (n_clusters, n_features), float32
        Normalized sum of each cluster's normalized rows, computed on access.
    n_features_in_ : int
        Number of features seen in `fit`.

    Notes
    -----
    While 2-means runs, a row's similarity to its own center leaves out its similarity to itself:
    wholly at first, and less later. The cut includes it. Dense X is converted to CSR. The
    estimator keeps the normalized rows for `transform`, as they are smaller than the split vectors.

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
    def fit(self, X: Matrix, y: Any = None) -> BalancedLabelClusterer:
        """Cluster the labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_labels, n_features)
            Features of the labels, as `label_features` makes them. Only directions count. Equal
            rows and rows of zeros go where they keep the clusters balanced.
        y : object, default=None
            Not used, present because pipelines pass it.

        Returns
        -------
        BalancedLabelClusterer
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            If X is not a matrix of finite numbers with at least one row and one column.
        """
        self._rows = self._unit_rows(X, reset=True)
        n_labels = self._rows.shape[0]
        size = largest_cluster(self.max_cluster_size, n_labels)
        n_clusters = count_clusters(size, n_labels)
        self.n_iter_ = self._grow(0 if size == 1 else n_clusters.bit_length() - 1)
        self.labels_ = np.arange(n_labels) if size == 1 else self._tree.nodes - n_clusters
        self.n_clusters_ = self._n_features_out = n_clusters
        return self

    def _validate_params(self) -> None:
        check_params(self)

    def _grow(self, depth: int) -> int:
        """Split large nodes one by one, then split each smaller node all the way down."""
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
            # Drawn before the threads start, because their order must not matter.
            seeds = random_state.randint(np.iinfo(np.int32).max, size=len(members))
            n_iters = Parallel(n_jobs=clip_jobs(self.n_jobs), require="sharedmem")(
                delayed(cut)(rows, steps, seed) for rows, seed in zip(members, seeds, strict=True)
            )
            n_iter = max(n_iter, *n_iters)
            level += steps
        return n_iter

    def predict(self, X: Matrix) -> IntArray:
        """Find the cluster of each row by the splits that `fit` made.

        The rows of `fit` get their `labels_`. Exceptions are rows that tie at a split (equal rows,
        rows of zeros), because `fit` may separate them for balance. In the direct mode, each row
        gets the label with the most similar features.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features)
            Features of labels or of anything else.

        Returns
        -------
        ndarray of shape (n_rows,), int64
            Number of the cluster, from 0.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted, or is a copy that `labels_only` made.
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
                if routed.size:  # the same products as in `split`, for the same scores
                    inside = members[node - 2**level]
                    scores = rows[routed] @ (fitted[inside].T @ weights[inside])
                    nodes[routed] = 2 * node + (scores < tree.cuts[node])
        return nodes - 2**depth

    def transform(self, X: Matrix) -> sp.csr_matrix:
        """Return the clusters that `predict` finds as a membership matrix.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features)
            Features of labels or of anything else.

        Returns
        -------
        csr_matrix of shape (n_rows, n_clusters), float32
            Matrix with a single 1 per row, in the column of its cluster.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            In the same cases as `predict`.

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
        """Normalized sum of each cluster's normalized rows.

        Returns
        -------
        csr_matrix of shape (n_clusters, n_features), float32
            New matrix, computed at each access.

        Raises
        ------
        NotFittedError
            In the same cases as `predict`.
        """
        self._check_has_rows()
        membership = _one_hot(self.labels_, self.n_clusters_).T.tocsr()
        return sp.csr_matrix(normalize(membership @ self._rows, copy=False))

    def labels_only(self) -> BalancedLabelClusterer:
        """Copy the clusterer without the rows of `fit`, which are often larger than a model.

        The copy keeps `labels_`. It can neither `predict` nor `transform`, and has no
        `cluster_centers_`. A classifier keeps such a copy.

        Returns
        -------
        BalancedLabelClusterer
            The fitted copy.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.

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
                "This clusterer keeps only its labels_, as the clusterer of a classifier does. To "
                "use it on other rows, fit a BalancedLabelClusterer on label_features(y, X)."
            )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _unit_rows(self, X: Matrix, *, reset: bool) -> sp.csr_array:
        """Return rows of unit norm, or of zeros, as a canonical float32 copy."""
        X = check_features(X, "X", partial(validate_data, self, reset=reset))
        if not sp.issparse(X):
            # In parts, because scipy's intermediate arrays take eight times as much memory.
            parts = gen_batches(len(X), _label_tree.ROW_BLOCK)
            X = sp.vstack([sp.csr_array(X[part]) for part in parts], format="csr")
        return _unit(sp.csr_array(X))


def _unit(X: Features) -> Features:
    """Scale rows to unit norm (rows of zeros stay), in place if X is sparse."""
    # Squares of large numbers overflow, and squares of small ones vanish. So rows are first scaled
    # by powers of two, which rounds nothing.
    if not isinstance(X, np.ndarray):
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
