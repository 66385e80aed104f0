"""OmikujiClassifier: linear models in label trees on TF-IDF, trained by omikuji."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skxmc._base import TextRankerMixin
from skxmc._input.split import add_label_texts
from skxmc._input.tfidf import fit_tfidf
from skxmc._input.validation import check_labels, check_texts
from skxmc._omikuji_io import import_omikuji, model_from_files, model_to_files, train_model
from skxmc._utils.parallel import clip_jobs

# Scores that round to 0, and those of labels that no beam finds: stored entries must be positive.
MIN_SCORE = float(np.finfo(np.float32).tiny)
# omikuji makes room for all trees at once, and aborts where there is none.
MAX_TREES = 10_000
# From about 1e15 on, weights for the loss "log" become NaN, at which omikuji aborts in prediction.
MAX_C = 1e6
# Features of so many texts are in memory at a time in prediction.
TEXT_BLOCK = 65_536


class OmikujiClassifier(TextRankerMixin, ClassifierMixin, BaseEstimator):
    """Extreme multi-label text classifier: linear models in label trees, on TF-IDF.

    Labels are clustered into a few balanced trees, and a linear classifier at each node sends
    texts on to its children, as in Parabel [1]_; omikuji [2]_ does the work. It reads words, not
    language, and trains in seconds to minutes on a CPU: the baseline to beat, and a good partner
    in a `LightXMLEnsemble`. Needs the extra ``[linear]``.

    Parameters
    ----------
    vectorizer : transformer of texts, default=None
        Gives a sparse matrix of features, such as ``TfidfVectorizer(ngram_range=(1, 2))``; a clone
        is fitted. None is ``TfidfVectorizer()``, of characters where no text holds a word.
    n_trees : int, default=3
        Trees, whose scores are averaged; at most 10,000.
    C : float, default=1.0
        Inverse strength of regularisation, at most 1e6.
    loss : {"hinge", "log"}, default="hinge"
        Of the linear classifiers; "hinge" is squared.
    min_branch_size : int, default=100
        Fewer labels than this are not clustered further.
    collapse_every_n_layers : int, default=0
        Layers of a tree that are made one with the layer above: 0 for trees as deep as those of
        Parabel, 5 for shallow and wide ones as in Bonsai, which are slower and often better.
    weight_threshold : float, default=0.1
        Weights closer to 0 are dropped: higher makes smaller and faster models.
    beam_size : int, default=10
        Nodes of each layer that are followed in prediction. It can be set after `fit`.
    threshold : float, default=0.5
        Score from which `predict` takes a label.
    n_jobs : int or None, default=None
        Threads; None is 1 and -1 all.
    verbose : int, default=0
        1 shows omikuji's log on the standard output and its progress on the standard error. With
        0 both are closed to the whole process while omikuji trains, is saved or loaded.

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
    LightXMLEnsemble : Averages both.

    Notes
    -----
    omikuji draws from the system's entropy and takes no seed: two fits to the same data differ a
    little. Predictions of one fitted model do not. Where the beam recalls fewer labels than are
    asked for, it is widened; labels that had no text in `fit` come last, by the lowest score there
    is.

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
        collapse_every_n_layers: int = 0,
        weight_threshold: float = 0.1,
        beam_size: int = 10,
        threshold: float = 0.5,
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
        self, X: Any, y: Any, *, label_names: Any = None, label_texts: Any = None
    ) -> OmikujiClassifier:
        """Train on texts and their labels.

        Parameters
        ----------
        X : list, tuple, ndarray, or column of pandas, polars or PyArrow, of str, of length n_texts
            Raw texts. Empty ones are legal.
        y : sparse matrix, array, frame, or sequence of label collections
            The labels of each text: a scipy sparse matrix or array or a dense array of 0 and 1,
            of shape (n_texts, n_labels); a frame of such columns, whose names become `classes_`;
            or a list of collections of labels such as ``[["tax", "law"], []]``, whose sorted
            labels become `classes_`. Nested lists are always collections.
        label_names : array-like of shape (n_labels,), default=None
            Names of the columns of a matrix, which become `classes_`; numbers by default.
        label_texts : array-like of shape (n_labels,), of str or None, default=None
            What is written about each label, in the order of `classes_`, None or "" where
            nothing is. Each is one more training text, whose only label is that label.

        Returns
        -------
        OmikujiClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If texts or labels are not what they must be, if lengths differ, or if a parameter is
            out of range. The message says what to do.
        TypeError
            If texts or labels are of a type that cannot stand for them.
        ImportError
            If omikuji is not installed.
        """
        omikuji = import_omikuji()
        texts = check_texts(X)
        labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
        texts, y = add_label_texts(texts, labels.matrix, label_texts)
        if self.vectorizer is None:
            vectorizer, features = fit_tfidf(texts)
        else:
            vectorizer = clone(self.vectorizer)
            features = vectorizer.fit_transform(texts)
        features = _normalized(features)
        settings = omikuji.Model.default_hyper_param()
        settings.n_trees = self.n_trees
        # omikuji computes in float32, where a smaller C would be 0.
        settings.linear_c = float(max(self.C, MIN_SCORE))
        settings.linear_loss_type = omikuji.LossType[self.loss.upper()].value
        # Beyond the number of labels they change nothing, and must fit a machine word.
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
        """Columns and scores of the k best labels, or of all recalled, and where texts start.

        Of these, those from `min_score` on.
        """
        columns: list[np.ndarray] = []
        scores: list[np.ndarray] = []
        for first in range(0, len(texts), TEXT_BLOCK):
            chunk = texts[first : first + TEXT_BLOCK]
            features = _normalized(self.vectorizer_.transform(chunk))
            if features.shape[1] != self.model_.n_features:
                raise ValueError(
                    f"vectorizer makes {features.shape[1]} features now, and made "
                    f"{self.model_.n_features} in fit. It must make the same ones of any text."
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
        """Columns and scores of one text, best first."""
        # No beam need be wider than all labels, and omikuji aborts where memory cannot hold one.
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
        """Columns and scores that a beam recalls, the k best; equal scores by lower column."""
        # omikuji orders equal scores at random, so all that equal the k-th must be there to choose.
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

    def __sklearn_tags__(self) -> Any:
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


def _normalized(features: Any) -> sp.csr_matrix:
    """Rows of length 1, as omikuji makes them, without its trouble with extreme values."""
    # In float64, whose squares do not overflow so soon.
    features = sp.csr_matrix(features, dtype=np.float64, copy=True)
    if not np.isfinite(features.data).all():
        raise ValueError("vectorizer gives features that are NaN or infinite. Use another one.")
    features.sum_duplicates()
    features = normalize(features, copy=False).astype(np.float32)
    features.eliminate_zeros()
    return features
