"""Explain the predictions of any classifier of texts: words, members, and the nearest texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from skxmc._inference.explanation import (
    ExplainedLabel,
    MemberScore,
    NearestTexts,
    NeighborText,
    TopKExplanation,
    WordEffect,
)
from skxmc._input.ranking import check_k
from skxmc._input.texts import check_texts

if TYPE_CHECKING:
    from skxmc._base import TextRankerMixin

# Codes such as "I00-I99" are one word.
WORD = re.compile(r"\w+(?:[-.'\u2019]\w+)*")
# A text with more different words is cut into so many runs of words, which bounds the time.
MAX_PARTS = 64


def explain_by_words(
    clf: TextRankerMixin, text: object, k: Any, *, n_words: Any, n_neighbors: Any
) -> TopKExplanation:
    """Explain one prediction, as `TextRankerMixin.explain_topk` documents."""
    text = check_text(text)
    k = check_k(k, clf.n_labels_)
    n_words = check_k(n_words, name="n_words")
    n_neighbors = check_k(n_neighbors, name="n_neighbors")
    (columns,), (scores,) = clf._top_k([text], k)
    words, members = word_effects(clf, text, columns, n_words)
    labels = [
        ExplainedLabel(label, score, words=of_words, members=of_members)
        for label, score, of_words, of_members in zip(
            clf.classes_[columns].tolist(), scores.tolist(), words, members, strict=True
        )
    ]
    nearest = clf._nearest_texts(text, n_neighbors)
    neighbors = () if nearest is None else tuple(_neighbors(nearest, columns, clf.classes_))
    return TopKExplanation(
        text=text,
        labels=tuple(labels),
        neighbors=neighbors,
        similarity=None if nearest is None else nearest.similarity,
        usual_similarity=None if nearest is None else nearest.usual_similarity,
    )


def check_text(text: object) -> str:
    """Check that `text` is one text."""
    if not isinstance(text, str):
        raise TypeError(
            f"text must be one str, got {type(text).__name__}. Explain one text at a time, such as "
            "X[0]."
        )
    return check_texts([text], name="text")[0]


def word_effects(
    clf: TextRankerMixin, text: str, columns: np.ndarray, n_words: int
) -> tuple[list[tuple[WordEffect, ...]], list[tuple[MemberScore, ...]]]:
    """Score labels without each word of the text, and by each member of an ensemble.

    Returns
    -------
    words : list of tuple of WordEffect, of length k
        The `n_words` words with the largest effects on each label, the most helpful first.
    members : list of tuple of MemberScore, of length k
        Score of each label by each member. Empty tuples if there are no members.
    """
    parts = parts_of(text)
    texts = [text, *(without for _, without in parts)]
    scores, by_member = clf._scores_by_member(texts, len(columns))
    at_columns = scores[:, columns].toarray()
    effects = at_columns[0] - at_columns[1:]
    words = []
    for of_label in effects.T:
        largest = np.argsort(-np.abs(of_label), kind="stable")[:n_words]
        largest = largest[np.argsort(-of_label[largest], kind="stable")]
        words.append(tuple(WordEffect(parts[i][0], float(of_label[i])) for i in largest))
    of_members = {name: matrix[[0]][:, columns].toarray()[0] for name, matrix in by_member.items()}
    members = [
        tuple(MemberScore(name, float(of_labels[place])) for name, of_labels in of_members.items())
        for place in range(len(columns))
    ]
    return words, members


def parts_of(text: str) -> list[tuple[str, str]]:
    """Return the words of a text, each with the text without it.

    A word that comes again is left out everywhere. A text with more than `MAX_PARTS` different
    words is cut into so many runs of words instead.
    """
    found = list(WORD.finditer(text))
    places: dict[str, list[tuple[int, int]]] = {}
    for match in found:
        places.setdefault(match.group().casefold(), []).append(match.span())
    spans = list(places.values())
    if len(spans) > MAX_PARTS:
        runs = np.array_split(np.arange(len(found)), MAX_PARTS)
        spans = [[(found[run[0]].start(), found[run[-1]].end())] for run in runs]
    return [(text[slice(*of_part[0])], _without(text, of_part)) for of_part in spans]


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(text)]
    kept = "".join(text[end:start] for end, start in zip(ends, starts, strict=True))
    return " ".join(kept.split())


def _neighbors(
    nearest: NearestTexts, columns: np.ndarray, classes: np.ndarray
) -> list[NeighborText]:
    """Describe the nearest texts, with those of the labels `columns` that they have."""
    return [
        NeighborText(text, row, cosine, tuple(classes[columns[np.isin(columns, has)]].tolist()))
        for text, row, cosine, has in nearest.texts
    ]
