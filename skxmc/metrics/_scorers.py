"""Scorers of the metrics, for scikit-learn's model selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skxmc._input.ranking import check_k
from skxmc._input.types import LabelsOfTexts
from skxmc._topk import predict_topk
from skxmc.metrics._plain import precision_at_k


def make_at_k_scorer(metric: Callable[..., float], *, k: int = 5, **kwargs: Any) -> AtKScorer:
    """Make a scorer of one of the metrics of this package, for ``scoring=`` in scikit-learn.

    The scorer ranks labels by `skxmc.predict_topk` and reads their names from ``classes_``, also
    through a Pipeline or a search. True labels may therefore come in any form, names included.
    Read more in the user guide: :doc:`/guide/searching`.

    Parameters
    ----------
    metric : callable
        Called as ``metric(y_true, top, k=k, classes=estimator.classes_, **kwargs)``. `top` is the
        named tuple of `skxmc.predict_topk`.
    k : int, default=5
        Number of labels per text that count.
    **kwargs
        Further arguments of `metric`, such as ``propensities``.

    Returns
    -------
    AtKScorer
        Picklable callable ``scorer(estimator, X, y_true) -> float``.

    Raises
    ------
    ValueError
        If k is not a whole number from 1.

    Examples
    --------
    >>> from skxmc.metrics import make_at_k_scorer, ndcg_at_k
    >>> make_at_k_scorer(ndcg_at_k, k=3)
    make_at_k_scorer(ndcg_at_k, k=3)
    """
    return AtKScorer(metric, k, kwargs)


def precision_at_k_scorer(k: int = 5) -> AtKScorer:
    """Make a scorer of `precision_at_k`.

    Read more in the user guide: :doc:`/guide/searching`.

    Parameters
    ----------
    k : int, default=5
        Number of labels per text that count.

    Returns
    -------
    AtKScorer
        Picklable callable ``scorer(estimator, X, y_true) -> float``.

    Raises
    ------
    ValueError
        If k is not a whole number from 1.

    See Also
    --------
    make_at_k_scorer : Makes scorers of the other metrics.

    Examples
    --------
    >>> from skxmc.metrics import precision_at_k_scorer
    >>> precision_at_k_scorer(k=1)
    make_at_k_scorer(precision_at_k, k=1)
    """
    return make_at_k_scorer(precision_at_k, k=k)


class AtKScorer:
    """Scorer that `make_at_k_scorer` returns.

    scikit-learn's ``make_scorer`` cannot replace it, because it does not read ``classes_``. It also
    takes two labels for a binary problem, and slices or negates their scores.
    """

    def __init__(self, metric: Callable[..., float], k: int, kwargs: dict[str, Any]) -> None:
        self.metric = metric
        self.k = check_k(k)
        self.kwargs = kwargs

    def __call__(self, estimator: Any, X: Any, y_true: LabelsOfTexts) -> float:
        top = predict_topk(estimator, X, self.k)
        return self.metric(y_true, top, k=self.k, classes=estimator.classes_, **self.kwargs)

    def __repr__(self) -> str:
        metric = getattr(self.metric, "__name__", repr(self.metric))
        names = "".join(f", {name}=..." for name in self.kwargs)
        return f"make_at_k_scorer({metric}, k={self.k}{names})"
