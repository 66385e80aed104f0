"""OmikujiClassifier: linear models in label trees on TF-IDF, trained by omikuji."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.preprocessing import normalize
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skxmc._base import TextRankerMixin
from skxmc._input.folds import warn_if_cut
from skxmc._input.per_label import LabelTexts
from skxmc._input.split import split_texts
from skxmc._input.texts import check_texts
from skxmc._input.tfidf import fit_tfidf
from skxmc._input.types import LabelsOfTexts, Matrix, PerLabel, Texts
from skxmc._input.validation import check_labels, names_labels
from skxmc._input.weights import check_sample_weight, copies
from skxmc._omikuji_io import import_omikuji, model_from_files, model_to_files, train_model
from skxmc._utils.parallel import clip_jobs

# Stored scores must be positive. This is the score of labels that no beam finds, and of scores that
# round to 0.
MIN_SCORE = float(np.finfo(np.float32).tiny)
# omikuji allocates memory for all trees at once, and aborts if there is not enough.
MAX_TREES = 10_000
# From about 1e15 on, weights for the loss "log" become NaN, and omikuji aborts in prediction.
MAX_C = 1e6
# Prediction holds the features of this many texts in memory at a time.
TEXT_BLOCK = 65_536


class OmikujiClassifier(TextRankerMixin, ClassifierMixin, BaseEstimator):
    """Extreme multi-label text classifier: linear models in label trees, on TF-IDF.

    omikuji [2]_ clusters the labels into a few balanced trees. A linear classifier at each node
    passes texts on to the node's children. The trees are those of Parabel [1]_, with merged layers.
    The model reads words, not language.
    It trains in seconds to minutes on a CPU, so it is the baseline to beat, and a good member of a
    `LightXMLEnsemble`. It needs the extra ``[linear]``.

    Read more in the user guide: :doc:`/guide/ensembles`.

    Parameters
    ----------
    vectorizer : transformer of texts, default=None
        Transformer that gives a sparse matrix of features, such as
        ``TfidfVectorizer(ngram_range=(1, 2))``. `fit` fits a clone. None is ``TfidfVectorizer()``,
        of characters if no text has a word. Pairs of words help on some data only.
    n_trees : int, default=3
        Number of trees, at most 10,000. Their scores are averaged.
    C : float, default=1.0
        Inverse strength of regularization, at most 1e6.
    loss : {"hinge", "log"}, default="hinge"
        Loss of the linear classifiers. "hinge" is squared.
    min_branch_size : int, default=100
        Minimum number of labels that are clustered further.
    collapse_every_n_layers : int, default=5
        Number of layers of a tree that are merged with the layer above. 5 gives shallow trees with
        up to 64 children per node. 0 gives binary trees as in Parabel, which are less accurate.
    weight_threshold : float, default=0.1
        Weights closer to 0 are dropped. A higher threshold makes smaller and faster models.
    beam_size : int, default=10
        Number of nodes per layer that prediction follows. It can be set after `fit`.
    threshold : float, default=0.15
        Minimum score of the labels that `predict` returns. Scores are lower than probabilities.
    n_jobs : int or None, default=None
        Number of threads. None is 1, -1 is all CPUs.
    verbose : int, default=0
        1 shows omikuji's log on standard output, and its progress on standard error. 0 closes both
        for the whole process while omikuji trains, saves or loads.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Name or number of each label.
    n_labels_ : int
        Number of labels.
    vectorizer_ : transformer
        The fitted vectorizer.
    model_ : omikuji.Model
        The trained trees.

    See Also
    --------
    LightXMLClassifier : Reads language.
    LightXMLEnsemble : Combines both.

    Notes
    -----
    omikuji takes no weights, so `sample_weight` repeats texts. A text of weight 2 is there twice,
    and a text of weight 0 is left out. For fractions, all texts have more copies and C is lower,
    which is the same to the linear classifiers. There are at most 10 copies per text on average.
    If 10 are not enough, the weights are rounded, and each text has at least one copy. The
    vectorizer sees the copies, so they count for ``min_df``. Low weights strengthen the
    regularization: divide them by their mean if only their ratios matter.

    omikuji takes no seed, so two fits to the same data differ a little. Predictions of one fitted
    model do not. If the beam recalls fewer than k labels, `predict_topk` widens it. Labels without
    a text in `fit` come last, with the lowest possible score.

    References
    ----------
    .. [1] Y. Prabhu, A. Kag, S. Harsola, R. Agrawal, M. Varma, "Parabel: Partitioned Label Trees
       for Extreme Classification with Application to Dynamic Search Advertising", WWW 2018.
    .. [2] https://github.com/tomtung/omikuji

    Examples
    --------
    >>> from skxmc import OmikujiClassifier
    >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
    >>> clf = OmikujiClassifier().fit(texts, tags)
    >>> clf.predict_topk(["stocks and bonds"], k=1).labels
    array([['finance']], dtype=object)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "vectorizer": [HasMethods(["fit_transform", "transform"]), None],
        "n_trees": [Interval(Integral, 1, MAX_TREES, closed="both")],
        "C": [Interval(Real, 0, MAX_C, closed="right")],
        "loss": [StrOptions({"hinge", "log"})],
        "min_branch_size": [Interval(Integral, 2, None, closed="left")],
        "collapse_every_n_layers": [Interval(Integral, 0, None, closed="left")],
        "weight_threshold": [Interval(Real, 0, None, closed="left")],
        "beam_size": [Interval(Integral, 1, None, closed="left")],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "verbose": ["verbose"],
    }

    _prediction_params = ("beam_size", "threshold", "n_jobs")

    def __init__(
        self,
        *,
        vectorizer: Any = None,
        n_trees: int = 3,
        C: float = 1.0,
        loss: str = "hinge",
        min_branch_size: int = 100,
        collapse_every_n_layers: int = 5,
        weight_threshold: float = 0.1,
        beam_size: int = 10,
        threshold: float = 0.15,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.vectorizer = vectorizer
        self.n_trees = n_trees
        self.C = C
        self.loss = loss
        self.min_branch_size = min_branch_size
        self.collapse_every_n_layers = collapse_every_n_layers
        self.weight_threshold = weight_threshold
        self.beam_size = beam_size
        self.threshold = threshold
        self.n_jobs = n_jobs
        self.verbose = verbose

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
    ) -> OmikujiClassifier:
        """Train on texts and their labels.

        Parameters
        ----------
        X : list, tuple, ndarray, or column of pandas, polars or PyArrow, of str, of length n_texts
            Raw texts, which may be empty.
        y : sparse matrix, array, frame, or sequence of label collections
            Labels of each text: an indicator of 0 and 1, a frame of such columns, or label
            collections such as ``[["tax", "law"], []]``. See :doc:`/guide/data`.
        label_names : array-like of shape (n_labels,) or callable, default=None
            Names of the columns of a matrix, which become `classes_`. The default is numbers. A
            function gets these numbers and returns the names.
        label_texts : array-like of shape (n_labels,), Series, dict or callable, default=None
            Text about each label, in the order of `classes_`. `fit` adds it as a training text with
            this label alone. None or "" adds nothing. A dict, or a Series with labels as index,
            goes by label. A function gets `classes_` and returns the texts.
        sample_weight : array-like of shape (n_texts,), default=None
            Weight of each text, at least 0. See the notes of the class. Label texts have weight 1.

        Returns
        -------
        OmikujiClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If texts or labels are malformed, if lengths differ, or if a parameter is out of range.
        TypeError
            If texts or labels have a wrong type.
        ImportError
            If omikuji is not installed.
        """
        omikuji = import_omikuji()
        texts = check_texts(X)
        labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
        if names_labels(y):
            warn_if_cut({"label_texts": label_texts}, *labels.matrix.shape)
        weights = check_sample_weight(sample_weight, len(texts))
        data = split_texts(texts, labels, label_texts, None, None, 0, weights)
        texts, y, C = list(data.texts), data.y, self.C
        if data.weights is not None:
            counts, of_copy = copies(data.weights)
            rows = np.repeat(np.arange(len(texts)), counts)
            texts, y, C = [texts[row] for row in rows], y[rows], min(C * of_copy, MAX_C)
        if self.vectorizer is None:
            vectorizer, features = fit_tfidf(texts)
        else:
            vectorizer = clone(self.vectorizer)
            features = vectorizer.fit_transform(texts)
        features = _normalized(features)
        settings = omikuji.Model.default_hyper_param()
        settings.n_trees = self.n_trees
        # omikuji computes in float32, in which a smaller C would be 0.
        settings.linear_c = float(max(C, MIN_SCORE))
        settings.linear_loss_type = omikuji.LossType[self.loss.upper()].value
        # Larger values than the number of labels have the same effect, but must fit a machine word.
        most = labels.matrix.shape[1] + 1
        settings.min_branch_size = min(self.min_branch_size, most)
        settings.collapse_every_n_layers = min(self.collapse_every_n_layers, most)
        settings.linear_weight_threshold = self.weight_threshold
        model = train_model(features, y, settings, self._n_threads(), self.verbose)
        n_texts = np.bincount(y.indices, minlength=len(labels.classes))
        self._become(
            {
                "vectorizer_": vectorizer,
                "model_": model,
                "classes_": labels.classes,
                "n_labels_": len(labels.classes),
                "_n_known_labels": int(np.count_nonzero(n_texts)),
                "_by_frequency": np.argsort(-n_texts, kind="stable"),
            }
        )
        return self

    def _n_threads(self) -> int:
        return effective_n_jobs(clip_jobs(self.n_jobs))

    # ------------------------------------------------------------------ predict

    def _top_k(self, texts: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        columns, scores, _ = self._recall(texts, k, 0)
        return columns.reshape(-1, k), scores.reshape(-1, k)

    def _scores(
        self, texts: list[str], *, top_k: int | None = None, min_score: float = 0.0
    ) -> sp.csr_matrix:
        columns, scores, starts = self._recall(texts, top_k, min_score)
        matrix = sp.csr_matrix((scores, columns, starts), shape=(len(texts), self.n_labels_))
        matrix.sort_indices()
        return matrix

    def _recall(
        self, texts: list[str], k: int | None, min_score: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return columns and scores of the k best labels per text, and the start of each text.

        None recalls as many labels as the beam finds. Scores below `min_score` are left out.
        """
        columns: list[np.ndarray] = []
        scores: list[np.ndarray] = []
        for first in range(0, len(texts), TEXT_BLOCK):
            chunk = texts[first : first + TEXT_BLOCK]
            features = _normalized(self.vectorizer_.transform(chunk))
            if features.shape[1] != self.model_.n_features:
                raise ValueError(
                    f"vectorizer makes {features.shape[1]} features now, and made "
                    f"{self.model_.n_features} in fit. Use one that makes the same for all texts."
                )
            self.model_.init_prediction_thread_pool(self._n_threads())
            for start, end in zip(features.indptr, features.indptr[1:], strict=False):
                names = features.indices[start:end].tolist()
                values = features.data[start:end].tolist()
                found, of_found = self._search(list(zip(names, values, strict=True)), k)
                columns.append(found[of_found >= min_score])
                scores.append(of_found[of_found >= min_score])
        starts = np.concatenate([[0], np.cumsum([len(row) for row in columns])])
        columns.append(np.empty(0, dtype=np.int64))
        scores.append(np.empty(0, dtype=np.float32))
        return np.concatenate(columns), np.concatenate(scores), starts.astype(np.int64)

    def _search(
        self, features: list[tuple[int, float]], k: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and scores of one text, best first."""
        # A beam wider than all labels has no use, and omikuji aborts if memory cannot hold it.
        beam_size = min(self.beam_size, self.n_labels_)
        found = self._beam(features, beam_size, k)
        if k is None:
            return found
        while len(found[0]) < min(k, self._n_known_labels) and beam_size < self.n_labels_:
            beam_size = min(2 * beam_size, self.n_labels_)
            found = self._beam(features, beam_size, k)
        columns, scores = found
        if len(columns) < k:
            others = self._by_frequency[~np.isin(self._by_frequency, columns)][: k - len(columns)]
            columns = np.concatenate([columns, others])
            scores = np.concatenate([scores, np.full(len(others), MIN_SCORE, np.float32)])
        return columns, scores

    def _beam(
        self, features: list[tuple[int, float]], beam_size: int, k: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best columns that a beam recalls, and their scores. Ties: lower column."""
        # omikuji orders equal scores at random, so all that equal the k-th must be at hand.
        limit = min(2 * k if k else 1024, self.n_labels_)
        while True:
            found = self.model_.predict(features, beam_size, limit)
            has_all = len(found) < limit or limit == self.n_labels_
            if has_all or (k and found[-1][1] < found[k - 1][1]):
                break
            limit = min(2 * limit, self.n_labels_)
        columns = np.array([column for column, _ in found], dtype=np.int64)
        scores = np.array([score for _, score in found], dtype=np.float32)
        best = np.lexsort((columns, -scores))[:k]
        return columns[best], np.clip(scores[best], MIN_SCORE, 1)

    # ------------------------------------------------------------------ sklearn

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "model_" in state:
            state["model_"] = model_to_files(state["model_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "model_" in state:
            state = {**state, "model_": model_from_files(state["model_"])}
        super().__setstate__(state)


def _normalized(features: Matrix) -> sp.csr_matrix:
    """Scale rows to length 1 as omikuji does, but safely for extreme values."""
    # In float64, because its squares overflow later.
    features = sp.csr_matrix(features, dtype=np.float64, copy=True)
    if not np.isfinite(features.data).all():
        raise ValueError(
            "vectorizer gives features that are NaN or infinite. Use another vectorizer."
        )
    features.sum_duplicates()
    features = normalize(features, copy=False).astype(np.float32)
    features.eliminate_zeros()
    return features
