"""The explanation of one prediction, and its tables for terminals and notebooks."""

from __future__ import annotations

import html
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple
from unicodedata import east_asian_width

# Columns of a terminal, and of a name or text in a notebook, which breaks lines itself.
TERMINAL_WIDTH = 100
NOTEBOOK_WIDTH = 300
# Columns for the end of a truncated text, and for the numbers of a text's labels.
END_WIDTH = 25
CARRIED_WIDTH = 15


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
        Its row in the given texts.
    cosine : float
        Cosine of the two representations, minus the part that all texts share.
    labels : tuple or None
        The predicted labels that it has, or None if no labels were given.
    """

    text: str
    row: int
    cosine: float
    labels: tuple[str | int, ...] | None


class ExplainedLabel(NamedTuple):
    """A predicted label. In the direct mode, its recall score and cluster fields are None.

    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    label : str or int
        An entry of ``classes_``.
    score : float
        The score of ``predict_topk``: recall_score * rank_score, in (0, 1].
    recall_score : float or None
        Score of its cluster by the recall head.
    rank_score : float
        Score of the label by the ranking head. In the direct mode, this is `score`.
    cluster : int or None
        Its cluster, an entry of ``clusterer_.labels_``.
    cluster_place : int or None
        Place of the cluster among the recalled clusters. The best has place 1.
    cluster_size : int or None
        Number of labels in the cluster.
    neighbors : tuple of NeighborLabel
        The nearest labels, nearest first: in its cluster, or among all in the direct mode.
    """

    label: str | int
    score: float
    recall_score: float | None
    rank_score: float
    cluster: int | None
    cluster_place: int | None
    cluster_size: int | None
    neighbors: tuple[NeighborLabel, ...]


class _Table(NamedTuple):
    """Cells as text, the last of any length, and marks of the rows that belong to one above."""

    header: list[str]
    rows: list[list[str]]
    indented: list[bool]


@dataclass(frozen=True, repr=False)
class TopKExplanation:
    """An explanation of the best labels of one text, from `LightXMLClassifier.explain_topk`.

    A terminal prints it as tables of at most 100 columns, and a notebook shows it as HTML. It
    holds plain values and named tuples, so ``pandas.DataFrame(explanation.labels)`` works.
    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    text : str
        The explained text.
    text_read : str
        The part that the model read, decoded by the tokenizer.
    n_tokens : int
        Number of tokens of the whole text, including special tokens.
    n_tokens_read : int
        Number of tokens that the model read. The tokenizer cut the others, see `max_length`.
    n_recalled : int or None
        Number of clusters recalled for the text, or None in the direct mode.
    labels : tuple of ExplainedLabel
        The predicted labels, best first.
    neighbors : tuple of NeighborText
        The nearest texts, nearest first. Empty if no texts were given.
    cut_from_start : bool, default=False
        Whether the tokenizer cuts the start of a long text instead of its end.

    Examples
    --------
    >>> from skxmc import ExplainedLabel, NeighborLabel, TopKExplanation
    >>> near = NeighborLabel("insurance", cosine=0.75, score=0.125)
    >>> label = ExplainedLabel("finance", 0.375, 0.75, 0.5, 2, 1, 16, (near,))
    >>> print(TopKExplanation("Bonds fell", "bonds fell", 4, 4, 32, (label,)))
    The best label of 'Bonds fell'
    The model read all of its 4 tokens.
    score = recall of the cluster, by the recall head, x rank of the label, by the ranking head
    #  score  recall   rank  cluster  place  size  cosine  label
    1  0.375   0.750  0.500        2   1/32    16          finance
       0.125                                        0.750    insurance
    """

    text: str
    text_read: str
    n_tokens: int
    n_tokens_read: int
    n_recalled: int | None
    labels: tuple[ExplainedLabel, ...]
    neighbors: tuple[NeighborText, ...] = ()
    cut_from_start: bool = False

    def __str__(self) -> str:
        lines = [*self._summary(TERMINAL_WIDTH), *_lines(self._label_table())]
        if self.neighbors:
            lines += ["Nearest texts", *_lines(self._text_table())]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [f"<p>{html.escape(line)}</p>" for line in self._summary(NOTEBOOK_WIDTH)]
        parts.append(_html_table(self._label_table()))
        if self.neighbors:
            parts += ["<p>Nearest texts</p>", _html_table(self._text_table())]
        return "<div>\n" + "\n".join(parts) + "\n</div>"

    def _summary(self, width: int) -> list[str]:
        """Describe the text, the part that the model read, and the factors of the scores."""
        k = len(self.labels)
        title = f"The {k} best labels of " if k > 1 else "The best label of "
        title += f"'{_shortened(self.text, width - len(title) - 2)}'"
        if self.n_tokens_read == self.n_tokens:
            read = f"The model read all of its {self.n_tokens} tokens."
        else:
            # Shortened at the end where the tokenizer did not cut.
            if self.cut_from_start:
                where = f"from '{_shortened(self.text_read, END_WIDTH)}' on"
            else:
                where = f"up to '{_shortened(self.text_read[::-1], END_WIDTH)[::-1]}'"
            read = (
                f"The model read {self.n_tokens_read} of its {self.n_tokens} tokens, {where}. The "
                "tokenizer cut the rest."
            )
        if self.n_recalled is None:
            return [title, read, "score = rank of the label, by the ranking head (direct mode)"]
        factors = "recall of the cluster, by the recall head, x rank of the label, by the"
        return [title, read, f"score = {factors} ranking head"]

    def _label_table(self) -> _Table:
        header = ["#", "score", "recall", "rank", "cluster", "place", "size"]
        if self.n_recalled is None:
            header = header[:2]
        table = _Table([*header, "cosine", "label"], [], [])
        for number, label in enumerate(self.labels, 1):
            cells = [str(number), f"{label.score:.3f}"]
            if self.n_recalled is not None:
                cells += [f"{label.recall_score:.3f}", f"{label.rank_score:.3f}"]
                cells += [str(label.cluster), f"{label.cluster_place}/{self.n_recalled}"]
                cells += [str(label.cluster_size)]
            table.rows.append([*cells, "", str(label.label)])
            for near in label.neighbors:
                cells = ["", f"{near.score:.3f}"] + [""] * (len(header) - 2)
                table.rows.append([*cells, f"{near.cosine:.3f}", str(near.label)])
            table.indented.extend([False] + [True] * len(label.neighbors))
        return table

    def _text_table(self) -> _Table:
        """Make the table of texts, whose labels have the numbers of the label table."""
        number_of = {label.label: str(number) for number, label in enumerate(self.labels, 1)}
        has_labels = self.neighbors[0].labels is not None
        header = ["row", "cosine", *(["has #"] if has_labels else []), "text"]
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
