"""Prediction methods that all estimators of raw texts share."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np
import scipy.sparse as sp
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from skxmc._inference.explanation import NearestTexts, TopKExplanation
from skxmc._inference.words import explain_by_words
from skxmc._input.allowed import AllowedLabels, check_allowed
from skxmc._input.ranking import SCORE_BLOCK, blocks, check_k, top_k_of_csr
from skxmc._input.texts import check_texts
from skxmc._input.types import LabelChoice, LabelsOfTexts, Texts
from skxmc._storage.mixin import PretrainedMixin
from skxmc._topk import TopK, top_k_of_columns
from skxmc._utils.params import check_params
from skxmc.metrics import precision_at_k

# Texts whose labels are restricted are ranked in blocks, which bounds the memory of their labels.
TEXT_BLOCK = 2048
# If so many labels include enough allowed ones, they are ranked at once.
MANY_LABELS = 1000

Ranker = TypeVar("Ranker", bound="TextRankerMixin")


class TextRankerMixin(PretrainedMixin):
    """Mixin of classifiers of raw texts with `predict_topk` and a sparse `decision_function`."""

    classes_: np.ndarray
    n_labels_: int
    threshold: float
    _parameter_constraints: dict[str, list[Any]]

    # Parameters of prediction. They may be set after `fit`.
    _prediction_params: tuple[str, ...] = ()

    def _top_k(self, texts: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and scores of the k best labels, best first, (n_texts, k) each."""
        raise AttributeError(f"{type(self).__name__} must define _top_k.")

    def _scores(
        self, texts: list[str], *, top_k: int | None = None, min_score: float = 0.0
    ) -> sp.csr_matrix:
        """Return scores, from `min_score` on, of the best `top_k` labels or all recalled ones."""
        raise AttributeError(f"{type(self).__name__} must define _scores.")

    def _predicted(self, texts: list[str]) -> sp.csr_matrix:
        """Return the scores of the labels that `predict` returns."""
        return self._scores(texts, min_score=self.threshold)

    def _scores_by_member(
        self, texts: list[str], k: int
    ) -> tuple[sp.csr_matrix, dict[str, sp.csr_matrix]]:
        """Return the scores, and those by each member of an ensemble, of at least k labels."""
        return self._scores(texts), {}

    def _nearest_texts(self, text: str, n: int) -> NearestTexts | None:
        """Find the nearest texts of `fit`, if the classifier or one inside compares with them."""
        return None

    def _top_k_allowed(
        self, texts: list[str], k: int, allowed: AllowedLabels
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and scores of the k best allowed labels, and -1 and 0 if none is left."""
        columns = np.empty((len(texts), k), dtype=np.int64)
        scores = np.empty((len(texts), k), dtype=np.float32)
        for block in blocks(len(texts), TEXT_BLOCK):
            found = self._best_of_block(texts[block], k, allowed.of(block))
            columns[block], scores[block] = found
        return columns, scores

    def _best_of_block(
        self, texts: list[str], k: int, allowed: AllowedLabels
    ) -> tuple[np.ndarray, np.ndarray]:
        n_enough = allowed.n_enough(k)
        if n_enough <= MANY_LABELS:
            return allowed.first(*self._top_k(texts, n_enough), k)
        # The labels that are recalled anyway are enough for most texts.
        columns, scores = top_k_of_csr(allowed.kept(self._scores(texts)), k)
        lacking = np.flatnonzero(allowed.lacks(columns))
        for part in blocks(len(lacking), SCORE_BLOCK // n_enough):
            rows = lacking[part]
            ranked = self._top_k([texts[row] for row in rows], n_enough)
            columns[rows], scores[rows] = allowed.of(rows).first(*ranked, k)
        return columns, scores

    def _become(self, fitted: dict[str, Any]) -> None:
        """Set fitted attributes in one step, so that other threads see all old ones or all new."""
        replaced = vars(self).copy()
        vars(self).update(fitted)
        del replaced  # only now, because freeing memory may let other threads run

    def _snapshot(self: Ranker) -> Ranker:
        """Copy the state, which `fit` and `set_params` in other threads then leave alone.

        The weights are shared: a new `device` moves them for all.
        """
        snapshot = object.__new__(type(self))
        vars(snapshot).update(vars(self))
        return snapshot

    def _ready(self: Ranker) -> Ranker:
        """Return a snapshot that is fitted and has legal parameters of prediction."""
        ready = self._snapshot()
        check_is_fitted(ready)
        check_params(ready, self._prediction_params)
        return ready

    def _validate_params(self) -> None:
        check_params(self)

    def _ready_to_score(self: Ranker) -> Ranker:
        """Return the snapshot that scores for `predict` and `predict_proba`."""
        return self._ready()

    def predict_topk(
        self,
        X: Texts,
        k: int = 5,
        *,
        exclude: LabelChoice | None = None,
        allow: LabelChoice | None = None,
        threshold: float | None = None,
    ) -> TopK:
        """Predict the k best labels of each text.

        Read more in the user guide: :doc:`/guide/decisions`.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts.
        k : int, default=5
            Number of labels per text, at most all.
        exclude : list of labels, matrix, frame or list of label collections, default=None
            Labels that are not predicted. A list holds for all texts. The other forms are those of
            `y` and have one row per text, such as a sparse mask of shape (n_texts, n_labels).
        allow : list of labels, matrix, frame or list of label collections, default=None
            The only labels that are predicted, in the same forms.
        threshold : float, default=None
            Minimum score of the labels. None is no minimum.

        Returns
        -------
        TopK
            Named tuple ``(labels, scores)`` of two arrays of shape (n_texts, k), best label first.
            Labels are entries of `classes_`. Scores are float32 in (0, 1]. If fewer than k labels
            are allowed or reach `threshold`, the last labels are None and their scores 0.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        TypeError, ValueError
            If X holds no texts, k is not a whole number from 1 to the number of labels, or
            threshold is not a number. Also if `exclude` or `allow` holds other labels than
            `classes_`, or a parameter that was set after `fit` is out of range.

        Notes
        -----
        Excluded labels take no places: further labels are ranked until k allowed ones are found.
        If few labels are allowed, this may mean to score all labels of a text.

        Examples
        --------
        >>> from skxmc import NeighborsClassifier
        >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
        >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
        >>> clf = NeighborsClassifier().fit(texts, tags)
        >>> labels, scores = clf.predict_topk(["shares and bonds", "a dog"], k=1)
        >>> labels
        array([['finance'],
               ['animals']], dtype=object)
        >>> scores.shape
        (2, 1)
        """
        ready = self._ready()
        k = check_k(k, ready.n_labels_)
        texts = check_texts(X, allow_empty=True)
        allowed = check_allowed(exclude, allow, ready.classes_, len(texts))
        if allowed is None:
            columns, scores = ready._top_k(texts, k)
        else:
            columns, scores = ready._top_k_allowed(texts, k, allowed)
        return top_k_of_columns(ready.classes_, columns, scores, threshold)

    def explain_topk(
        self, text: str, k: int = 5, *, n_words: int = 5, n_neighbors: int = 3
    ) -> TopKExplanation:
        """Explain the k best labels of one text: words, members of an ensemble, nearest texts.

        Read more in the user guide: :doc:`/guide/understanding`.

        Parameters
        ----------
        text : str
            Raw text.
        k : int, default=5
            Number of labels, at most all. They are those that `predict_topk` gives this text alone.
        n_words : int, default=5
            Number of words per label.
        n_neighbors : int, default=3
            Number of nearest texts.

        Returns
        -------
        TopKExplanation
            Explanation that prints as a table, in notebooks too. Its attributes are plain values.

        Raises
        ------
        TypeError
            If `text` is not one text.
        NotFittedError
            If `fit` was not called.
        ValueError
            If `k`, `n_words` or `n_neighbors` is out of range.

        Notes
        -----
        The effect of a word is the score of the text minus its score without this word. So the time
        is that of a prediction for as many texts as there are different words, and at most 64: a
        longer text is cut into 64 runs of words.

        If a `NeighborsClassifier` is inside, the explanation tells whether the text is unlike all
        texts of its `fit`. With ``keep_texts=True``, it shows the nearest ones.

        Examples
        --------
        >>> from skxmc import NeighborsClassifier
        >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
        >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
        >>> clf = NeighborsClassifier(keep_texts=True).fit(texts, tags)
        >>> explanation = clf.explain_topk("stocks rose", k=1)
        >>> explanation.labels[0].words[0].word
        'stocks'
        >>> explanation.neighbors[0].text
        'stocks fell again'
        """
        return explain_by_words(self._ready(), text, k, n_words=n_words, n_neighbors=n_neighbors)

    def decision_function(self, X: Texts, *, top_k: int | None = None) -> sp.csr_matrix:
        """Score the recalled labels of each text.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts.
        top_k : int, default=None
            Number of labels to keep per text, which bounds the memory. None keeps all.

        Returns
        -------
        csr_matrix of shape (n_texts, n_labels), float32
            Scores in (0, 1]. Labels that were not recalled are absent, that is 0.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        TypeError, ValueError
            If X holds no texts, top_k is not a whole number from 1 to the number of
            labels, or a parameter that was set after `fit` is out of range.

        Examples
        --------
        >>> from skxmc import NeighborsClassifier
        >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
        >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
        >>> clf = NeighborsClassifier().fit(texts, tags)
        >>> clf.decision_function(["shares and bonds", "a dog"], top_k=1).toarray() > 0
        array([[False,  True, False],
               [ True, False, False]])
        """
        ready = self._ready()
        if top_k is not None:
            top_k = check_k(top_k, ready.n_labels_, "top_k")
        return ready._scores(check_texts(X, allow_empty=True), top_k=top_k)

    def predict_proba(self, X: Texts) -> sp.csr_matrix:
        """Score the recalled labels of each text.

        The scores are those of `decision_function`, except that a `PropensityRanker` returns the
        scores of its estimator. They are not exclusive and do not sum to 1.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts.

        Returns
        -------
        csr_matrix of shape (n_texts, n_labels), float32
            See `decision_function`.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        TypeError, ValueError
            If X holds no texts, or a parameter that was set after `fit` is out of
            range.

        Examples
        --------
        See `decision_function`.
        """
        return self._ready_to_score().decision_function(X)

    def predict(self, X: Texts) -> sp.csr_matrix:
        """Predict the labels whose score reaches `threshold`.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts.

        Returns
        -------
        csr_matrix of shape (n_texts, n_labels), int64
            1 where a label is predicted.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        TypeError, ValueError
            If X holds no texts, or a parameter that was set after `fit` is out of
            range.

        Examples
        --------
        >>> from skxmc import NeighborsClassifier
        >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
        >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
        >>> clf = NeighborsClassifier(threshold=0.15).fit(texts, tags)
        >>> clf.predict(["shares and bonds", "a dog"]).toarray()
        array([[0, 1, 0],
               [1, 1, 0]])
        """
        ready = self._ready_to_score()
        predicted = ready._predicted(check_texts(X, allow_empty=True))
        predicted.data = np.ones(predicted.nnz)
        return cast(sp.csr_matrix, predicted.astype(np.int64))

    def score(self, X: Texts, y: LabelsOfTexts) -> float:
        """Measure P@1, the share of texts whose best label is a true one.

        Other classifiers of scikit-learn report the subset accuracy, which is about 0 with
        thousands of labels. Read more in the user guide: :doc:`/guide/metrics`.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts.
        y : matrix, frame or list of label collections, of length n_texts
            True labels in any form that `fit` takes.

        Returns
        -------
        float
            P@1, from 0 to 1.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        TypeError, ValueError
            If X and y are not texts and labels of the same length, or a parameter that was set
            after `fit` is out of range.

        Examples
        --------
        >>> from skxmc import NeighborsClassifier
        >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
        >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
        >>> clf = NeighborsClassifier().fit(texts, tags)
        >>> clf.score(["shares and bonds", "a dog"], [["finance"], ["animals"]])
        1.0
        """
        ready = self._ready()
        return precision_at_k(y, ready.predict_topk(X, k=1), k=1, classes=ready.classes_)

    def __getstate__(self) -> dict[str, Any]:
        # A copy: pickling takes a while, and `fit` in another thread may come to its end.
        return dict(super().__getstate__())  # type: ignore[call-overload]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.two_d_labels = True
        tags.target_tags.single_output = False
        tags.target_tags.multi_output = False  # that one means multiclass-multioutput
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        return tags


def from_score_on(scores: sp.csr_matrix, min_score: float) -> sp.csr_matrix:
    """Drop the entries below `min_score`."""
    if min_score > 0:
        scores.data[scores.data < min_score] = 0
    scores.eliminate_zeros()
    return scores
