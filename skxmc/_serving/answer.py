"""Predictions as plain values for JSON, and the reasons for them."""

from __future__ import annotations

from typing import Any

from skxmc._base import TextRankerMixin
from skxmc._inference.explanation import ExplainedLabel, TopKExplanation
from skxmc._input.texts import check_texts

Answer = list[dict[str, Any]]


def predict_plain(clf: TextRankerMixin, texts: list[str], k: int, why: bool) -> list[Answer]:
    """Predict the best k labels per text as dicts: label, score and, if asked for, why."""
    texts = check_texts(texts)
    if why:
        return [_explained(clf.explain_topk(text, k)) for text in texts]
    columns, scores = clf._ready()._top_k(texts, k)
    return [
        [{"label": label, "score": _rounded(score)} for label, score in zip(*row, strict=True)]
        for row in zip(clf.classes_[columns].tolist(), scores.tolist(), strict=True)
    ]


def _explained(explanation: TopKExplanation) -> Answer:
    return [
        {"label": found.label, "score": _rounded(found.score), "why": _reasons(found, explanation)}
        for found in explanation.labels
    ]


def _reasons(found: ExplainedLabel, explanation: TopKExplanation) -> dict[str, Any]:
    """Return the reasons for a label, without kinds of which nothing is known."""
    reasons = {
        "words": [{"word": word, "effect": _rounded(effect)} for word, effect in found.words],
        "members": {name: _rounded(score) for name, score in found.members},
        "similar_labels": [
            {"label": near.label, "score": _rounded(near.score)} for near in found.neighbors
        ],
        "similar_texts": [
            {"text": near.text, "similarity": _rounded(near.cosine)}
            for near in explanation.neighbors
            if found.label in (near.labels or ())
        ],
        "text_is_unfamiliar": explanation.is_unfamiliar,
    }
    return {kind: value for kind, value in reasons.items() if value not in ([], {}, None)}


def _rounded(score: float) -> float:
    """Keep seven digits, which is what a float32 has. Converted to float, it would show more."""
    return float(f"{score:.7g}")
