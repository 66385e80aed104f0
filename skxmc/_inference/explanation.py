"""The explanation of one prediction, and its tables for terminals and notebooks."""

from __future__ import annotations

import html
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

# Columns of a terminal, and of a name or text in a notebook, which breaks lines itself.
TERMINAL_WIDTH = 100
NOTEBOOK_WIDTH = 300
# Columns for a word or name among others, for the end of a truncated text, and for the numbers of a
# text's labels.
NAME_WIDTH = 30
END_WIDTH = 25
CARRIED_WIDTH = 15
# A word whose effect rounds to 0 is not printed.
MIN_EFFECT = 5e-4


class WordEffect(NamedTuple):
    """A word of the explained text, and its effect on the score of a label.

    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    word : str
        The word, or a run of words if the text has many.
    effect : float
        Score of the text minus its score without the word. Positive words speak for the label.
    """

    word: str
    effect: float


class MemberScore(NamedTuple):
    """A member of an ensemble, and its score of a label.

    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    name : str
        Name of the member.
    score : float
        Its score, 0 if it did not propose the label.
    """

    name: str
    score: float


class NearestTexts(NamedTuple):
    """The nearest of the texts that a classifier keeps, and how near the nearest one usually is."""

    similarity: float  # cosine of the nearest text
    usual_similarity: float | None  # see `TopKExplanation`
    texts: list[tuple[str, int, float, NDArray[np.int64]]]  # text, row, cosine, columns of labels


class NeighborLabel(NamedTuple):
    """A label near a predicted label.

    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    label : str or int
        An entry of ``classes_``.
    cosine : float
        Cosine of the two labels' embeddings. In the direct mode, these are the weights of the
        recall head.
    score : float
        Score for the explained text, in (0, 1].
    """

    label: str | int
    cosine: float
    score: float


class NeighborText(NamedTuple):
    """A text near the explained text.

    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    text : str
        The text.
    row : int
        Its row in the given texts, or in those that a `NeighborsClassifier` keeps.
    cosine : float
        Cosine of the two representations, minus the part that all texts share.
    labels : tuple or None
        The predicted labels that it has, or None if its labels are not known.
    """

    text: str
    row: int
    cosine: float
    labels: tuple[str | int, ...] | None


class ExplainedLabel(NamedTuple):
    """A predicted label.

    Only a `LightXMLClassifier` has scores of heads and nearest labels, and the recall score and
    clusters only with two stages. The others are None or empty.
    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    label : str or int
        An entry of ``classes_``.
    score : float
        The score of ``predict_topk``, in (0, 1]. With two stages: recall_score * rank_score.
    recall_score : float or None
        Score of its cluster by the recall head.
    rank_score : float or None
        Score of the label by the ranking head. In the direct mode, this is `score`.
    cluster : int or None
        Its cluster, an entry of ``clusterer_.labels_``.
    cluster_place : int or None
        Place of the cluster among the recalled clusters. The best has place 1.
    cluster_size : int or None
        Number of labels in the cluster.
    neighbors : tuple of NeighborLabel
        The nearest labels, nearest first: in its cluster, or among all in the direct mode.
    words : tuple of WordEffect
        The words with the largest effects on the score, the most helpful first.
    members : tuple of MemberScore
        Score by each member of an ensemble.
    """

    label: str | int
    score: float
    recall_score: float | None = None
    rank_score: float | None = None
    cluster: int | None = None
    cluster_place: int | None = None
    cluster_size: int | None = None
    neighbors: tuple[NeighborLabel, ...] = ()
    words: tuple[WordEffect, ...] = ()
    members: tuple[MemberScore, ...] = ()


class _Table(NamedTuple):
    """Cells as text, the last of any length, and marks of the rows that belong to one above."""

    header: list[str]
    rows: list[list[str]]
    indented: list[bool]


@dataclass(frozen=True, repr=False)
class TopKExplanation:
    """An explanation of the best labels of one text, from ``explain_topk``.

    A terminal prints it as tables of at most 100 columns, and a notebook shows it as HTML. It
    holds plain values and named tuples, so ``pandas.DataFrame(explanation.labels)`` works.
    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    text : str
        The explained text.
    labels : tuple of ExplainedLabel
        The predicted labels, best first.
    neighbors : tuple of NeighborText
        The nearest texts, nearest first. Empty if there are none to compare with.
    similarity : float or None
        Cosine of the nearest text, kept or given, or None without such texts.
    usual_similarity : float or None
        Of 100 such texts, 99 have another one with at least this cosine. None for few texts.
    text_read : str or None
        The part of the text that a `LightXMLClassifier` read, decoded by the tokenizer.
    n_tokens : int or None
        Number of tokens of the whole text, including special tokens.
    n_tokens_read : int or None
        Number of tokens that the model read. The tokenizer cut the others, see `max_length`.
    n_recalled : int or None
        Number of clusters recalled for the text, or None without two stages.
    cut_from_start : bool, default=False
        Whether the tokenizer cuts the start of a long text instead of its end.

    Examples
    --------
    >>> from skxmc import ExplainedLabel, NeighborLabel, TopKExplanation, WordEffect
    >>> words = (WordEffect("Bonds", 0.25), WordEffect("fell", -0.125))
    >>> near = NeighborLabel("insurance", cosine=0.75, score=0.0625)
    >>> label = ExplainedLabel("finance", 0.375, words=words, neighbors=(near,))
    >>> print(TopKExplanation("Bonds fell", (label,)))
    The best label of 'Bonds fell'
    A word's number is what the score loses without it. A similar label's number is its own score.
    #  score  label
    1  0.375  finance
                words: Bonds +0.250, fell -0.125
                similar labels: insurance 0.062
    """

    text: str
    labels: tuple[ExplainedLabel, ...]
    neighbors: tuple[NeighborText, ...] = ()
    similarity: float | None = None
    usual_similarity: float | None = None
    text_read: str | None = None
    n_tokens: int | None = None
    n_tokens_read: int | None = None
    n_recalled: int | None = None
    cut_from_start: bool = False

    @property
    def is_unfamiliar(self) -> bool | None:
        """Whether the text is unlike all texts that it was compared with.

        Returns
        -------
        bool or None
            True if `similarity` is below `usual_similarity`. None if either is not known.
        """
        if self.similarity is None or self.usual_similarity is None:
            return None
        return self.similarity < self.usual_similarity

    def __str__(self) -> str:
        lines = [*self._summary(TERMINAL_WIDTH), *_lines(self._label_table())]
        if self.neighbors:
            lines += ["Most similar texts", *_lines(self._text_table())]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [f"<p>{html.escape(line)}</p>" for line in self._summary(NOTEBOOK_WIDTH)]
        parts.append(_html_table(self._label_table()))
        if self.neighbors:
            parts += ["<p>Most similar texts</p>", _html_table(self._text_table())]
        return "<div>\n" + "\n".join(parts) + "\n</div>"

    def _summary(self, width: int) -> list[str]:
        """Describe the text, and warn if it was cut or is unlike all others."""
        k = len(self.labels)
        title = f"The {k} best labels of " if k > 1 else "The best label of "
        lines = [f"{title}'{_shortened(self.text, width - len(title) - 2)}'"]
        if self.is_unfamiliar:
            lines += [
                "This text is unlike all texts that it was compared with. Check its labels.",
                f"The most similar one has a similarity of {self.similarity:.2f}. "
                f"Of 100 texts, 99 have at least {self.usual_similarity:.2f}.",
            ]
        if self.text_read is not None and self.n_tokens != self.n_tokens_read:
            # Shortened at the end where the tokenizer did not cut.
            if self.cut_from_start:
                where = f"from '{_shortened(self.text_read, END_WIDTH)}' on"
            else:
                where = f"up to '{_shortened(self.text_read[::-1], END_WIDTH)[::-1]}'"
            lines.append(
                f"The model read {self.n_tokens_read} of its {self.n_tokens} tokens, {where}. The "
                "tokenizer cut the rest."
            )
        keys = []
        if any(label.words for label in self.labels):
            keys.append("A word's number is what the score loses without it.")
        if any(label.neighbors for label in self.labels):
            keys.append("A similar label's number is its own score.")
        return [*lines, " ".join(keys)] if keys else lines

    def _label_table(self) -> _Table:
        """Make the table of labels, in which reasons follow each label."""
        table = _Table(["#", "score", "label"], [], [])
        for number, label in enumerate(self.labels, start=1):
            reasons = self._reasons(label)
            table.rows.append([str(number), f"{label.score:.3f}", str(label.label)])
            table.rows.extend(["", "", reason] for reason in reasons)
            table.indented.extend([False] + [True] * len(reasons))
        return table

    def _reasons(self, label: ExplainedLabel) -> list[str]:
        """Describe the words, members, similar labels and clusters behind a label."""
        reasons = []
        if label.words:
            words = [
                f"{_shortened(word, NAME_WIDTH)} {effect:+.3f}"
                for word, effect in label.words
                if abs(effect) >= MIN_EFFECT
            ]
            reasons.append("words: " + (", ".join(words) or "no single word matters"))
        if label.members:
            scores = [
                f"{_shortened(name, NAME_WIDTH)} {score:.3f}" for name, score in label.members
            ]
            reasons.append("members: " + ", ".join(scores))
        if label.neighbors:
            similar = [
                f"{_shortened(str(near.label), NAME_WIDTH)} {near.score:.3f}"
                for near in label.neighbors
            ]
            reasons.append("similar labels: " + ", ".join(similar))
        if label.recall_score is not None:
            reasons.append(
                f"cluster {label.cluster} of {label.cluster_size} labels: {label.recall_score:.3f} "
                f"(place {label.cluster_place} of {self.n_recalled}), rank in it: "
                f"{label.rank_score:.3f}"
            )
        return reasons

    def _text_table(self) -> _Table:
        """Make the table of texts, whose labels have the numbers of the label table."""
        number_of = {label.label: str(number) for number, label in enumerate(self.labels, 1)}
        has_labels = self.neighbors[0].labels is not None
        header = ["row", "similarity", *(["has #"] if has_labels else []), "text"]
        table = _Table(header, [], [False] * len(self.neighbors))
        for near in self.neighbors:
            cells = [str(near.row), f"{near.cosine:.3f}"]
            if near.labels is not None:
                carried = " ".join(number_of[label] for label in near.labels)
                cells.append(_shortened(carried, CARRIED_WIDTH) or "none")
            table.rows.append([*cells, near.text])
        return table


def _shortened(text: str, width: int) -> str:
    """Shorten a text to one line of at most `width` columns, without control characters."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    ends = list(accumulate(2 if east_asian_width(c) in "WF" else 1 for c in plain))
    if not ends or ends[-1] <= width:
        return plain
    return plain[: bisect_right(ends, width - 3)] + "..."


def _lines(table: _Table) -> list[str]:
    """Align a table for a terminal."""
    rows = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    room = TERMINAL_WIDTH - sum(widths) - 2 * len(widths)
    lines = []
    for cells, is_indented in zip(rows, [False, *table.indented], strict=True):
        indent = "  " if is_indented else ""
        aligned = [cell.rjust(width) for cell, width in zip(cells[:-1], widths, strict=True)]
        lines.append("  ".join([*aligned, indent + _shortened(cells[-1], room - len(indent))]))
    return [line.rstrip() for line in lines]


def _html_table(table: _Table) -> str:
    """Lay a table out for a notebook, without colors, so that any background suits it."""
    lines = [_html_row("th", table.header, "")]
    bold = "; font-weight: bold" if any(table.indented) else ""  # above the indented ones
    for cells, is_indented in zip(table.rows, table.indented, strict=True):
        lines.append(_html_row("td", cells, "; padding-left: 2em" if is_indented else bold))
    return "\n".join(["<table>", *lines, "</table>"])


def _html_row(tag: str, cells: list[str], style: str) -> str:
    escaped = [html.escape(_shortened(cell, NOTEBOOK_WIDTH)) for cell in cells]
    # Padded here, because not every viewer of HTML has a style for tables.
    padded = "padding: 0.2em 0.6em; text-align"
    numbers = [
        f'<{tag} style="{padded}: right; white-space: nowrap">{cell}</{tag}>'
        for cell in escaped[:-1]
    ]
    name = f'<{tag} style="{padded}: left{style}">{escaped[-1]}</{tag}>'
    return f"<tr>{''.join(numbers)}{name}</tr>"
