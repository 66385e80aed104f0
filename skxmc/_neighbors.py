"""NeighborsClassifier: the nearest training texts vote for their labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skxmc._base import TextRankerMixin, from_score_on
from skxmc._inference.explanation import NearestTexts
from skxmc._input.folds import warn_if_cut
from skxmc._input.per_label import LabelTexts
from skxmc._input.ranking import all_finite, best_positions, top_k_of_csr
from skxmc._input.sparse import as_array, ranges
from skxmc._input.split import split_texts
from skxmc._input.texts import check_texts
from skxmc._input.types import LabelsOfTexts, PerLabel, Texts
from skxmc._input.validation import check_labels, names_labels, with_new_labels
from skxmc._input.weights import check_sample_weight
from skxmc._meta.fit_params import fit_with
from skxmc._meta.held_out import name_labels
from skxmc._nearest.approximate import ApproximateKeys, is_approximate
from skxmc._nearest.exact import ExactKeys, GrowingArray, unit_rows
from skxmc._nearest.kernel_ridge import kernel_ridge_weights
from skxmc._utils.parallel import ProcessLock

# Stored votes are at least this. Labels without a vote that fill up `predict_topk` have less.
MIN_VOTE = 1e-30
MIN_SCORE = float(np.finfo(np.float32).tiny)
# Texts are represented in blocks, which bounds the memory.
TEXT_BLOCK = 8192
# So many texts tell how near the nearest one usually is.
MAX_SAMPLE, MIN_SAMPLE = 256, 100
# Texts are added by one thread at a time, because copies of a classifier share room for keys.
_adding = ProcessLock()


class NeighborsClassifier(TextRankerMixin, ClassifierMixin, BaseEstimator):
    """Extreme multi-label text classifier: the nearest training texts vote for their labels.

    Each text becomes a vector. To predict, the `n_neighbors` training texts with the highest
    cosines vote, each for all its labels. Their weights are those of a kernel ridge regression on
    these neighbors. Nothing is trained, so `fit` takes as long as the representation of the texts,
    and `partial_fit` adds texts and new labels at once. Neighbors are good at rare labels. They are
    a good member of a `LightXMLEnsemble`.

    Read more in the user guide: :doc:`/guide/neighbors`.

    Parameters
    ----------
    encoder : transformer of texts, str, path or None, default=None
        Transformer of raw texts to dense rows, of which `fit` fits a clone. None is
        ``TextEncoder()``. The name or folder of an encoder is ``TextEncoder(encoder)``. A
        `LightXMLClassifier` is trained on the texts and their labels. Wrap a fitted one in
        ``FrozenEstimator`` to use it as it is. In a `LightXMLEnsemble`, the name of another member
        is this member after its fit.
    n_neighbors : int, default=20
        Number of texts that vote. A number above that of the texts takes all. The time to predict
        grows with its cube. It can be set after `fit`.
    temperature : float, default=0.5
        Width of the kernel exp((cosine - 1) / temperature). A low temperature trusts the nearest
        most, and a high one trusts all alike. It can be set after `fit`.
    alpha : float, default=0.1
        Strength of the regularization. A low value trusts each neighbor, and a high one averages
        more of them. It can be set after `fit`.
    threshold : float, default=0.3
        Minimum score of the labels that `predict` returns.
    search : {"auto", "exact", "approximate"}, default="auto"
        Search of the nearest texts. "approximate" misses a few of them, but is many times as fast
        and takes a quarter of the memory. It needs faiss (extra ``[ann]``, Linux), and is exact
        below 10,000 texts. "auto" is "approximate" above a million texts if faiss is installed.
        `fit` chooses, and `partial_fit` keeps the choice.
    keep_texts : bool, default=False
        Whether to keep the texts, so that `explain_topk` shows the nearest ones. They are then in
        pickles and model folders too.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Name or number of each label. `partial_fit` appends new labels.
    n_labels_ : int
        Number of labels.
    encoder_ : transformer
        The fitted encoder.
    n_samples_fit_ : int
        Number of texts that can vote.
    texts_ : list of str or None
        These texts if `keep_texts` is True in `fit`.

    See Also
    --------
    TextEncoder : A pretrained encoder as a transformer.
    LightXMLEnsemble : Combines neighbors, words and language.

    Notes
    -----
    The score of a label is the sum of the weights w of the neighbors that have it. With the kernel
    K of the neighbors, and the kernel k of the text and each of them, (K + alpha I) w = k. This is
    the prediction of ``sklearn.kernel_ridge.KernelRidge`` fitted to the neighbors, with 1 for those
    that have the label and 0 for the others. So neighbors that are alike share one vote, and far
    ones give low scores. Scores are clipped to (0, 1].

    With `sample_weight`, each weight multiplies the squared errors of its text, and the text counts
    as often in the mean. So a text of weight 2 has the vote of two equal texts, but takes one place
    among the neighbors. A text of weight 0 is left out. Low weights strengthen the regularization:
    divide them by their mean if only their ratios matter.

    Cosines are those of the vectors minus their mean over the texts of `fit`, because pooled states
    have a large part in common. `partial_fit` keeps this mean. Of texts with equal cosines, the
    first is nearer.

    The exact search holds one float32 vector per text in memory: 4 bytes times the width, such as
    1.5 GB for a million texts and 384 entries. The approximate one holds int8: 1 byte times the
    width plus 16, here 0.4 GB. To take less, shorten the vectors:
    ``encoder=make_pipeline(TextEncoder(), PCA(128))``.

    Examples
    --------
    >>> from skxmc import NeighborsClassifier
    >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
    >>> clf = NeighborsClassifier().fit(texts, tags)
    >>> clf.predict_topk(["shares and bonds"], k=1).labels
    array([['finance']], dtype=object)
    >>> clf.partial_fit(["heavy rain in the north"], [["weather"]])
    NeighborsClassifier()
    >>> clf.predict_topk(["storms and showers"], k=1).labels
    array([['weather']], dtype=object)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "encoder": [str, os.PathLike, HasMethods(["fit", "transform"]), None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "search": [StrOptions({"auto", "exact", "approximate"})],
        "keep_texts": ["boolean"],
    }

    _prediction_params = ("n_neighbors", "temperature", "alpha", "threshold")
    _encoder_may_be_member = True

    # For models that were saved before these were kept.
    texts_: list[str] | None = None
    _usual_similarity: float | None = None
    _weights: GrowingArray | None = None

    def __init__(
        self,
        encoder: Any = None,
        *,
        n_neighbors: int = 20,
        temperature: float = 0.5,
        alpha: float = 0.1,
        threshold: float = 0.3,
        search: str = "auto",
        keep_texts: bool = False,
    ) -> None:
        self.encoder = encoder
        self.n_neighbors = n_neighbors
        self.temperature = temperature
        self.alpha = alpha
        self.threshold = threshold
        self.search = search
        self.keep_texts = keep_texts

    # ------------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Texts,
        y: LabelsOfTexts,
        *,
        label_names: PerLabel | None = None,
        label_texts: LabelTexts | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> NeighborsClassifier:
        """Represent texts, and keep them with their labels.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts, which may be empty.
        y : matrix, frame or list of label collections, of length n_texts
            Labels of each text: an indicator of 0 and 1, a frame of such columns, or label
            collections such as ``[["tax", "law"], []]``. See :doc:`/guide/data`.
        label_names : array-like of shape (n_labels,) or callable, default=None
            Names of the columns of a matrix, which become `classes_`. The default is numbers. A
            function gets these numbers and returns the names.
        label_texts : array-like of shape (n_labels,), Series, dict or callable, default=None
            Text about each label, in the order of `classes_`. It votes for this label alone. None
            or "" adds nothing. A dict, or a Series with labels as index, goes by label. A function
            gets `classes_` and returns the texts.
        sample_weight : array-like of shape (n_texts,), default=None
            Weight of each text, at least 0. See the notes of the class. Label texts have weight 1.
            An encoder whose `fit` takes weights gets them too.

        Returns
        -------
        NeighborsClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If texts or labels are malformed, if lengths differ, if a parameter is out of range, or
            if the encoder returns other than finite rows.
        TypeError
            If texts or labels have a wrong type, or if the encoder returns a sparse matrix.
        ImportError
            If `search` is "approximate" and faiss is not installed.
        """
        texts = check_texts(X)
        labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
        if names_labels(y):
            warn_if_cut({"label_texts": label_texts}, *labels.matrix.shape)
        weights = check_sample_weight(sample_weight, len(texts))
        data = split_texts(texts, labels, label_texts, None, None, 0, weights)
        texts, matrix, weights = list(data.texts), data.y, data.weights
        approximate = is_approximate(self.search, len(texts))
        fit_params = {} if weights is None else {"sample_weight": weights}
        name_labels(fit_params, labels.classes)
        encoder = _new_encoder(self.encoder)
        if isinstance(encoder, Pipeline):  # its fit alone would encode the texts too
            vectors = fit_with(encoder, texts, matrix, fit_params, "fit_transform")
        else:
            vectors = fit_with(encoder, texts, matrix, fit_params).transform(texts)
        vectors = _check_vectors(vectors, len(texts))
        mean = _mean(vectors, weights)
        rows = unit_rows(vectors, mean)
        keys = ApproximateKeys.of(rows) if approximate else ExactKeys(rows)
        self._become(
            {
                "encoder_": encoder,
                "_mean": mean,
                "_keys": keys,
                "_usual_similarity": _usual_similarity(keys, len(texts)),
                "_weights": None if weights is None else GrowingArray(weights),
                "_columns": GrowingArray(matrix.indices),
                "_ends": GrowingArray(matrix.indptr[1:].astype(np.int64)),
                "_counts": np.bincount(matrix.indices, minlength=len(labels.classes)),
                "classes_": labels.classes,
                "n_labels_": len(labels.classes),
                "n_samples_fit_": len(texts),
                "texts_": texts if self.keep_texts else None,
            }
        )
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self, X: Texts, y: LabelsOfTexts, *, label_names: PerLabel | None = None
    ) -> NeighborsClassifier:
        """Add texts, and the labels that are new. Without a fit before, it is `fit`.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts. To add a label that has no text, pass a text about the label.
        y : matrix, frame or list of label collections, of length n_texts
            Labels of each text, in any form that `fit` takes. Collections, frames and matrices
            with `label_names` may have new labels. Other matrices have the columns of `classes_`.
        label_names : array-like of shape (n_labels,) or callable, default=None
            Names of the columns of a matrix.

        Returns
        -------
        NeighborsClassifier
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            For the same reasons as in `fit`. The classifier is unchanged.

        Notes
        -----
        The encoder and the mean are those of `fit`. So begin with a `fit` on some hundreds of
        texts, and call it again if the texts have changed much. New texts have weight 1.
        """
        if not hasattr(self, "classes_"):
            return self.fit(X, y, label_names=label_names)
        texts, before = check_texts(X), self._snapshot()
        by_name = label_names is not None or names_labels(y)
        labels = check_labels(
            y,
            classes=None if by_name else before.classes_,
            label_names=label_names,
            n_texts=len(texts),
            allow_none=True,
        )
        rows = before._represent(texts)
        with _adding:
            now = self._snapshot()
            if now._mean is not before._mean:  # another thread has called fit
                rows = now._represent(texts)
            classes, columns = now.classes_, labels.matrix.indices
            if by_name:
                classes, columns = with_new_labels(labels, classes)
            counts = np.bincount(columns, minlength=len(classes))
            counts[: now.n_labels_] += now._counts
            ends = labels.matrix.indptr[1:].astype(np.int64) + len(now._columns.values)
            self._become(
                {
                    "_keys": now._keys.extended(rows),
                    "_weights": now._weights and now._weights.extended(np.ones(len(texts))),
                    "_columns": now._columns.extended(columns),
                    "_ends": now._ends.extended(ends),
                    "_counts": counts,
                    "classes_": classes,
                    "n_labels_": len(classes),
                    "n_samples_fit_": now.n_samples_fit_ + len(texts),
                    "texts_": now.texts_ and now.texts_ + texts,
                }
            )
        return self

    def _represent(self, texts: list[str]) -> np.ndarray:
        """Return vectors of length 1, minus the mean of `fit`."""
        vectors = _check_vectors(self.encoder_.transform(texts), len(texts), len(self._mean))
        return unit_rows(vectors, self._mean)

    # ------------------------------------------------------------------ predict

    def _top_k(self, texts: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        columns = [np.empty((0, k), dtype=np.int64)]
        scores = [np.empty((0, k), dtype=np.float32)]
        for votes in self._votes(texts):
            best, values = top_k_of_csr(self._filled_up(votes, k), k)
            columns.append(best)
            scores.append(values)
        return np.concatenate(columns), np.concatenate(scores)

    def _scores(
        self, texts: list[str], *, top_k: int | None = None, min_score: float = 0.0
    ) -> sp.csr_matrix:
        if top_k is not None:
            columns, scores = self._top_k(texts, top_k)
            starts = np.arange(0, len(texts) * top_k + 1, top_k)
            shape = (len(texts), self.n_labels_)
            votes = sp.csr_matrix((scores.ravel(), columns.ravel(), starts), shape=shape)
            votes.sort_indices()
            return from_score_on(votes, min_score)
        blocks = [sp.csr_matrix((0, self.n_labels_), dtype=np.float32)]
        blocks += [from_score_on(sp.csr_matrix(v), min_score) for v in self._votes(texts)]
        return cast(sp.csr_matrix, sp.vstack(blocks, format="csr"))

    def _votes(self, texts: list[str]) -> Iterator[sp.csr_array]:
        """Yield the sums of the weights of neighbors, block by block: CSR (block, n_labels)."""
        n = int(min(self.n_neighbors, self.n_samples_fit_))
        for start in range(0, len(texts), TEXT_BLOCK):
            queries = self._represent(texts[start : start + TEXT_BLOCK])
            rows, cosines = self._keys.nearest(queries, n)
            weights = kernel_ridge_weights(
                self._keys,
                rows,
                cosines,
                temperature=self.temperature,
                alpha=self.alpha,
                sample_weight=None if self._weights is None else self._weights.values[rows],
            )
            yield self._sums_by_label(rows, weights)

    def _sums_by_label(self, rows: np.ndarray, weights: np.ndarray) -> sp.csr_array:
        """Sum the weights (B, n) of the texts `rows` (B, n) by their labels: CSR (B, n_labels)."""
        ends = self._ends.values
        starts = np.where(rows > 0, ends[rows - 1], 0)
        lengths = ends[rows] - starts
        columns = self._columns.values[ranges(starts.ravel(), lengths.ravel())]
        bounds = np.concatenate([[0], np.cumsum(lengths.sum(axis=1))])
        votes = np.repeat(weights.ravel(), lengths.ravel())
        sums = sp.csr_array((votes, columns, bounds), shape=(len(rows), self.n_labels_))
        sums.sum_duplicates()
        np.clip(sums.data, MIN_VOTE, 1, out=sums.data)
        return sums

    def _nearest_texts(self, text: str, n: int) -> NearestTexts:
        (rows,), (cosines,) = self._keys.nearest(
            self._represent([text]), min(n, self.n_samples_fit_)
        )
        near = []
        if self.texts_ is not None:
            ends, columns = self._ends.values, self._columns.values
            for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True):
                start = ends[row - 1] if row else 0
                near.append((self.texts_[row], row, cosine, columns[start : ends[row]]))
        return NearestTexts(float(cosines[0]), self._usual_similarity, near)

    def _filled_up(self, votes: sp.csr_array, k: int) -> sp.csr_array:
        """Add labels without a vote, frequent ones first, if a text has fewer than k labels."""
        if np.diff(votes.indptr).min() >= k:
            return votes
        # If k labels are at hand, those without a vote are enough for each text.
        share = self._counts / self.n_samples_fit_
        columns = np.sort(best_positions(share[np.newaxis], k)[0])
        scores = np.maximum(MIN_VOTE * share[columns], MIN_SCORE).astype(np.float32)
        n = votes.shape[0]
        others = sp.csr_array(
            (np.tile(scores, n), np.tile(columns, n), np.arange(0, n * k + 1, k)), votes.shape
        )
        filled = sp.csr_array(votes.maximum(others))
        filled.sort_indices()
        return filled


def _mean(vectors: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the weighted mean of vectors, (width,) float64."""
    if weights is None:
        return vectors.mean(axis=0, dtype=np.float64)
    shares = weights / weights.max()
    sums = (shares[part] @ vectors[part] for part in gen_batches(len(vectors), TEXT_BLOCK))
    return np.sum(list(sums), axis=0) / shares.sum()


def _new_encoder(encoder: Any) -> Any:
    """Return an encoder that `fit` may fit."""
    if encoder is None or isinstance(encoder, str | os.PathLike):
        from skxmc._text_encoder import TextEncoder  # loads torch: only where needed

        return TextEncoder() if encoder is None else TextEncoder(encoder)
    return clone(encoder)


def _usual_similarity(keys: ExactKeys | ApproximateKeys, n_keys: int) -> float | None:
    """Return the 1st percentile of the cosines of keys to their nearest other keys."""
    if n_keys < MIN_SAMPLE:
        return None
    sample = np.linspace(0, n_keys - 1, min(n_keys, MAX_SAMPLE)).astype(int)
    rows, cosines = keys.nearest(keys.vectors(sample), 2)
    is_first_itself = rows[:, 0] == sample
    return float(np.percentile(np.where(is_first_itself, cosines[:, 1], cosines[:, 0]), 1))


def _check_vectors(vectors: Any, n_texts: int, width: int | None = None) -> np.ndarray:
    """Check the output of an encoder: one finite vector per text, of the width of `fit`."""
    if sp.issparse(vectors):
        raise TypeError(
            "encoder gives a sparse matrix, but neighbors need dense vectors. Add a step: "
            "make_pipeline(encoder, TruncatedSVD(128))."
        )
    vectors = as_array(vectors, "encoder.transform(X)")
    is_number = vectors.dtype.kind in "fiu"
    if vectors.ndim != 2 or len(vectors) != n_texts or vectors.shape[1] == 0 or not is_number:
        raise ValueError(
            f"encoder gives an array of shape {vectors.shape} and dtype {vectors.dtype} for "
            f"{n_texts} texts. Use an encoder that gives one vector of numbers per text."
        )
    if width is not None and vectors.shape[1] != width:
        raise ValueError(
            f"encoder gives vectors of width {vectors.shape[1]} now, and gave {width} in fit. Use "
            "one that gives the same width for all texts."
        )
    if not all_finite(vectors):
        raise ValueError("encoder gives vectors that are NaN or infinite. Use another encoder.")
    return vectors
