"""The k best labels of each text, by any score matrix or any estimator that scores labels."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from skxmc._input.ranking import (
    SCORE_BLOCK,
    blocks,
    check_k,
    check_scores,
    is_list_of_outputs,
    rank_checked,
    stack_outputs,
)
from skxmc._input.types import LabelChoice, Scores
from skxmc._utils.quoting import quoted

if TYPE_CHECKING:
    import pandas as pd

    from skxmc._inference.explanation import TopKExplanation


class TopK(NamedTuple):
    """Best labels of each text, best first.

    ``top.labels`` and ``top.scores`` hold one row per text. ``top.to_lists()`` and
    ``top.to_frame()`` give the same text by text.

    Read more in the user guide: :doc:`/guide/decisions`.

    Parameters
    ----------
    labels : ndarray of shape (n_texts, k)
        Labels, taken from the estimator's ``classes_``. None at the end of a row if the text has
        fewer than k labels, which happens only with ``exclude``, ``allow`` or ``threshold``.
    scores : ndarray of shape (n_texts, k), float32
        Scores of these labels, descending. 0 if the label is None.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc import TopK
    >>> scores = np.array([[0.9, 0.3, 0.1], [0.2, 0.8, 0.7]])
    >>> top = TopK.from_scores(scores, k=2, classes=["law", "tax", "art"], threshold=0.5)
    >>> top.labels
    array([['law', None],
           ['tax', 'art']], dtype=object)
    >>> top.to_lists()
    [['law'], ['tax', 'art']]
    """

    labels: NDArray[Any]
    scores: NDArray[Any]

    @classmethod
    def from_scores(
        cls,
        y_score: Scores,
        k: int = 5,
        *,
        classes: ArrayLike | None = None,
        exclude: LabelChoice | None = None,
        allow: LabelChoice | None = None,
        threshold: float | None = None,
    ) -> TopK:
        """Rank the scores of any model.

        Equal scores rank by lower column. Absent entries of a sparse matrix follow all stored ones.

        Parameters
        ----------
        y_score : sparse matrix, array or frame of shape (n_texts, n_labels)
            Scores of all labels, the higher the better.
        k : int, default=5
            Number of labels per text, at most all.
        classes : array-like of shape (n_labels,), default=None
            Label of each column. None uses the names of a frame's columns, or numbers from 0.
        exclude, allow : list of labels, matrix, frame or list of label collections, default=None
            Labels that are left out, and the only labels that are ranked. A list holds for all
            texts. The other forms have one row per text, such as a sparse mask of shape (n_texts,
            n_labels).
        threshold : float, default=None
            Minimum score of the labels. None is no minimum.

        Returns
        -------
        TopK
            Best labels and their scores, two arrays of shape (n_texts, k).

        Raises
        ------
        TypeError
            If y_score is not a matrix of numbers, or threshold is not a number.
        ValueError
            If k is not a whole number from 1 to the number of labels, if shapes disagree, if scores
            are not finite, or if `exclude` or `allow` holds labels that are not in `classes`.
        """
        # These load scikit-learn, which a `TopK` by itself does not need.
        from skxmc._input.allowed import check_allowed
        from skxmc._input.per_label import column_labels

        if classes is None:
            classes = column_labels(y_score)
        names = None if classes is None else np.asarray(classes)
        matrix = check_scores(y_score, None if names is None else len(names))
        n_texts, n_labels = matrix.shape
        names = np.arange(n_labels) if names is None else names
        k = check_k(k, n_labels)
        allowed = check_allowed(exclude, allow, names, n_texts)
        n_enough = k if allowed is None else allowed.n_enough(k)
        columns = np.empty((n_texts, k), dtype=np.int64)
        scores = np.empty((n_texts, k), dtype=matrix.dtype)
        for rows in blocks(n_texts, SCORE_BLOCK // n_enough):
            ranked = rank_checked(matrix[rows], n_enough)
            found: Any = matrix[np.arange(n_texts)[rows, np.newaxis], ranked]
            found = found.toarray() if sparse.issparse(found) else found
            if allowed is not None:
                ranked, found = allowed.of(rows).first(ranked, found, k)
            columns[rows], scores[rows] = ranked, found
        return top_k_of_columns(names, columns, scores, threshold)

    def to_lists(self) -> list[list[Any]]:
        """Return the labels of each text, without None.

        Returns
        -------
        list of list
            One list of at most k labels per text, best first: a form of `y` that `fit` takes.
        """
        return [[label for label in row if label is not None] for row in self.labels.tolist()]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per text and label, without None.

        Returns
        -------
        pandas.DataFrame
            Columns ``text``, the number of the text from 0, ``rank`` from 1, ``label`` and
            ``score``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "TopK.to_frame needs pandas, which is not installed. Install it: pip install pandas"
            ) from error
        text, rank = np.nonzero(is_label(self.labels))
        columns = {"text": text, "rank": rank + 1}
        columns |= {"label": self.labels[text, rank], "score": self.scores[text, rank]}
        return pd.DataFrame(columns).infer_objects()


def is_label(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where the labels of a `TopK` are not None."""
    if labels.dtype != object:
        return np.ones(labels.shape, dtype=bool)
    return np.array([label is not None for label in labels.flat], dtype=bool).reshape(labels.shape)


def top_k_of_columns(
    classes: NDArray[Any],
    columns: NDArray[np.int64],
    scores: NDArray[Any],
    threshold: float | None = None,
) -> TopK:
    """Name the labels of ranked columns. Column -1, and a score below the threshold, are None."""
    lacks = columns < 0
    if threshold is not None:
        if not isinstance(threshold, Real) or isinstance(threshold, bool) or threshold != threshold:
            raise TypeError(f"threshold is {quoted(threshold)}. Pass a number, or None.")
        lacks |= scores < threshold
    labels = classes[columns]
    if lacks.any():
        labels, scores = labels.astype(object), scores.copy()
        labels[lacks], scores[lacks] = None, 0
    return TopK(labels, scores)


def predict_topk(
    estimator: Any,
    X: Any,
    k: int = 5,
    *,
    exclude: LabelChoice | None = None,
    allow: LabelChoice | None = None,
    threshold: float | None = None,
) -> TopK:
    """Predict the k best labels of each text with any fitted estimator that scores labels.

    The function reaches through a ``Pipeline``, a ``GridSearchCV`` and the like to the
    ``predict_topk`` of the estimator inside. If there is none, it ranks the scores of
    ``decision_function`` or ``predict_proba``.
    Read more in the user guide: :doc:`/guide/searching`.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator with ``classes_``.
    X : array-like of shape (n_texts,)
        Texts, or other input of the estimator.
    k : int, default=5
        Number of labels per text.
    exclude, allow : list of labels, matrix, frame or list of label collections, default=None
        Labels that are not predicted, and the only labels that are. A list holds for all texts. The
        other forms have one row per text, such as a sparse mask of shape (n_texts, n_labels).
    threshold : float, default=None
        Minimum score of the labels. None is no minimum.

    Returns
    -------
    TopK
        Named tuple of labels and scores, two arrays of shape (n_texts, k). If fewer than k labels
        are allowed or reach `threshold`, the last labels are None and their scores 0.

    Raises
    ------
    ValueError
        If k is not a whole number from 1 to the number of labels, or if `exclude` or `allow` holds
        other labels than ``classes_``.
    TypeError
        If the estimator does not score labels, or is a search with ``refit=False``.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.multiclass import OneVsRestClassifier
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn.pipeline import make_pipeline
    >>> from skxmc import predict_topk
    >>> model = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(MultinomialNB()))
    >>> model = model.fit(["red apple", "red car"], [[1, 0], [0, 1]])
    >>> predict_topk(model, ["an apple"], k=1).labels
    array([[0]])
    """
    restrictions: dict[str, Any] = {"exclude": exclude, "allow": allow, "threshold": threshold}
    restrictions = {name: value for name, value in restrictions.items() if value is not None}
    if hasattr(estimator, "predict_topk"):
        return estimator.predict_topk(X, k=k, **restrictions)
    if hasattr(estimator, "best_estimator_"):
        return predict_topk(estimator.best_estimator_, X, k, **restrictions)
    if hasattr(innermost(estimator)[0], "predict_topk"):
        estimator, X = innermost(estimator, X)
        return estimator.predict_topk(X, k=k, **restrictions)
    for method in ("decision_function", "predict_proba"):
        if hasattr(estimator, method):
            scores = getattr(estimator, method)(X)
            break
    else:
        raise TypeError(
            f"{type(estimator).__name__} does not score labels. Pass an estimator with "
            "predict_topk, decision_function or predict_proba."
        )
    classes = estimator.classes_
    if is_list_of_outputs(scores):
        scores = stack_outputs(scores, classes)
    if isinstance(classes, list) and len(np.shape(classes[0])) == 1:
        classes = np.arange(len(classes))  # a list of the classes 0 and 1 of each label
    return TopK.from_scores(scores, k, classes=classes, **restrictions)


def explain_topk(
    estimator: Any, text: str, k: int = 5, *, n_words: int = 5, n_neighbors: int = 3
) -> TopKExplanation:
    """Explain the k best labels of one text with any classifier of this package.

    The function reaches through a ``Pipeline``, a ``GridSearchCV`` and the like to the
    ``explain_topk`` of the classifier inside, and explains the text as this classifier receives it.
    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier of this package, or a pipeline or search with one.
    text : str
        Raw text.
    k : int, default=5
        Number of labels.
    n_words : int, default=5
        Number of words per label.
    n_neighbors : int, default=3
        Number of nearest texts, and of nearest labels of a `LightXMLClassifier`.

    Returns
    -------
    TopKExplanation
        Explanation that prints as a table, in notebooks too.

    Raises
    ------
    TypeError
        If `text` is not one text, or if the estimator is no classifier of this package.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from skxmc import NeighborsClassifier, explain_topk
    >>> shorten = FunctionTransformer(lambda texts: [text[:100] for text in texts])
    >>> model = make_pipeline(shorten, NeighborsClassifier())
    >>> model = model.fit(["the cat sat", "stocks fell"], [["animals"], ["finance"]])
    >>> explain_topk(model, "stocks rose", k=1).labels[0].label
    'finance'
    """
    inside = innermost(estimator)[0]
    if not hasattr(inside, "explain_topk"):
        raise TypeError(
            f"{type(inside).__name__} has no explain_topk. Pass a classifier of skxmc, or a "
            "pipeline or search with one."
        )
    if isinstance(text, str):
        (text,) = innermost(estimator, [text])[1]
    return inside.explain_topk(text, k, n_words=n_words, n_neighbors=n_neighbors)


def innermost(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """Return the estimator inside nested pipelines and searches, and `X` as it receives it."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "cv_results_") and getattr(estimator, "refit", True) is False:
            raise TypeError(
                f"This {type(estimator).__name__} has refit=False and so holds no fitted model. "
                "Search with refit=True, or fit a model with its best_params_."
            )
        elif hasattr(estimator, "steps"):
            for _, transformer in estimator.steps[:-1]:
                if X is not None and transformer not in (None, "passthrough"):
                    X = transformer.transform(X)
            estimator = estimator.steps[-1][1]
        else:
            return estimator, X
