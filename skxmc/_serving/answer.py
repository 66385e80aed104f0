"""Predictions as plain values for JSON, and the reasons for them that a model can give."""

from __future__ import annotations

from typing import Any

import numpy as np

from skxmc._base import TextRankerMixin
from skxmc._classifier import LightXMLClassifier
from skxmc._ensemble import LightXMLEnsemble
from skxmc._input.texts import check_texts
from skxmc._meta.members import is_dropped, scores_of_members

Answer = list[dict[str, Any]]


def predict_plain(clf: TextRankerMixin, texts: list[str], k: int, why: bool) -> list[Answer]:
    """Predict the best k labels per text as dicts: label, score and, if asked for, why."""
    texts = check_texts(texts)
    if why and isinstance(clf, LightXMLClassifier):
        return [_explained(clf, text, k) for text in texts]
    columns, scores = clf._ready()._top_k(texts, k)
    answers = [
        [{"label": label, "score": _rounded(score)} for label, score in zip(*row, strict=True)]
        for row in zip(clf.classes_[columns].tolist(), scores.tolist(), strict=True)
    ]
    if why and isinstance(clf, LightXMLEnsemble):
        by_member = _scores_by_member(clf, texts, columns)
        for row, answer in enumerate(answers):
            for place, found in enumerate(answer):
                shares = {name: _rounded(part[row, place]) for name, part in by_member.items()}
                found["why"] = {"members": shares}
    return answers


def _scores_by_member(
    clf: LightXMLEnsemble, texts: list[str], columns: np.ndarray
) -> dict[str, np.ndarray]:
    """Score the labels `columns` (n, k) with each member. Labels that it did not propose have 0."""
    members = {name: m for name, m in clf.named_estimators_.items() if not is_dropped(m)}
    n_candidates = min(max(clf.n_candidates, columns.shape[1]), clf.n_labels_)
    matrices = scores_of_members(members, texts, n_candidates)
    rows = np.arange(len(texts))[:, np.newaxis]
    return {
        name: matrix[rows, columns].toarray()
        for name, matrix in zip(members, matrices, strict=True)
    }


def _explained(clf: LightXMLClassifier, text: str, k: int) -> Answer:
    """Predict with the labels that the model finds most similar to each, and their scores."""
    answer = []
    for found in clf.explain_topk(text, k).labels:
        similar = [{"label": near.label, "score": _rounded(near.score)} for near in found.neighbors]
        why = {"similar_labels": similar}
        answer.append({"label": found.label, "score": _rounded(found.score), "why": why})
    return answer


def _rounded(score: float) -> float:
    """Keep seven digits, which is what a float32 has. Converted to float, it would show more."""
    return float(f"{score:.7g}")
