"""Top-k prediction with any fitted estimator that scores labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skxmc._input.ranking import check_k, is_list_of_outputs, rank_columns, stack_outputs


class TopK(NamedTuple):
    """Best labels of each text, best first.

    Read more in the user guide: :doc:`/guide/metrics`.

    Parameters
    ----------
    labels : ndarray of shape (n_texts, k)
        Labels, taken from the estimator's ``classes_``.
    scores : ndarray of shape (n_texts, k), float32
        Scores of these labels, descending.
    """

    labels: NDArray[Any]
    scores: NDArray[Any]


def predict_topk(estimator: Any, X: Any, k: int = 5) -> TopK:
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

    Returns
    -------
    TopK
        Named tuple of labels and scores, two arrays of shape (n_texts, k).

    Raises
    ------
    ValueError
        If k is not a whole number from 1 to the number of labels.
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
    if hasattr(estimator, "predict_topk"):
        return estimator.predict_topk(X, k=k)
    if hasattr(estimator, "best_estimator_"):
        return predict_topk(estimator.best_estimator_, X, k)
    if hasattr(innermost(estimator)[0], "predict_topk"):
        estimator, X = innermost(estimator, X)
        return estimator.predict_topk(X, k=k)
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
    classes = np.asarray(classes)
    columns = rank_columns(scores, check_k(k, len(classes)), len(classes))
    rows = np.arange(len(columns))[:, None]
    values = scores[rows, columns] if not sparse.issparse(scores) else scores.tocsr()[rows, columns]
    values = values.toarray() if sparse.issparse(values) else np.asarray(values)
    return TopK(classes[columns], values)


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
