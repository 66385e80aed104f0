"""WrapperMixin: base of estimators that rescore the labels which one other estimator proposes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import MetaEstimatorMixin
from sklearn.utils import Tags, gen_batches, get_tags

from skxmc._base import TEXT_BLOCK
from skxmc._inference.explanation import NearestTexts
from skxmc._input.allowed import AllowedLabels
from skxmc._input.sparse import has_entries, row_of_entry
from skxmc._meta.held_out import Fitted
from skxmc._meta.rescoring import (
    RescorerMixin,
    candidate_scores,
    check_scores_labels,
    nearest_texts_of,
    same_labels,
)


class WrapperMixin(RescorerMixin, MetaEstimatorMixin):
    """Mixin of meta-estimators of one ``estimator``, which is ``estimator_`` after `fit`."""

    estimator: Any
    estimator_: Any

    def _others(self) -> list[Any]:
        check_scores_labels("estimator", self.estimator)
        return [self.estimator]

    def _nearest_texts(self, text: str, n: int) -> NearestTexts | None:
        return nearest_texts_of([self.estimator_], text, n)

    def _candidates(
        self, texts: list[str], n_candidates: int, k: int, allowed: AllowedLabels | None
    ) -> sp.csr_matrix:
        """Return the scores of the fitted estimator, see `candidate_scores`."""
        classes, numbers = self.estimator_.classes_, np.arange(self.n_labels_)
        if not (same_labels(classes, self.classes_) or same_labels(classes, numbers)):
            raise ValueError(
                f"estimator_ has other labels now than in the fit of this {type(self).__name__}. "
                "After add_labels, remove_labels or partial_fit with new labels, call fit again."
            )
        return _scores_by(self.estimator_, texts, n_candidates, k, allowed)

    def _held_out_candidates(self, fitted: Fitted) -> tuple[sp.csr_matrix, np.ndarray]:
        """Return the scores of held-out texts, and which of these labels are true."""
        n_candidates = min(self.n_candidates, len(fitted.classes))
        scores = [
            _scores_by(fitted.estimator, fitted.texts[block], n_candidates, 1, None)
            for block in gen_batches(len(fitted.texts), TEXT_BLOCK)
        ]
        candidates = sp.vstack(scores, format="csr")
        rows = row_of_entry(candidates)
        return candidates, has_entries(fitted.labels.matrix, rows, candidates.indices)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        with suppress(TypeError, AttributeError):  # fit refuses such an estimator
            tags.non_deterministic = get_tags(self.estimator).non_deterministic
        return tags


def _scores_by(
    estimator: Any, texts: list[str], n_candidates: int, k: int, allowed: AllowedLabels | None
) -> sp.csr_matrix:
    what = f"estimator, {type(estimator).__name__},"
    return candidate_scores(what, estimator, texts, n_candidates, k=k, allowed=allowed)
