"""An explanation of one prediction, and its tables for terminals and notebooks."""

from __future__ import annotations

import html
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple
from unicodedata import east_asian_width

# Columns of a terminal; and of a name or a text in a notebook, which breaks lines itself.
TERMINAL_WIDTH = 100
NOTEBOOK_WIDTH = 300
# Columns for the end of a truncated text, and for the numbers of the labels that a text carries.
END_WIDTH = 25
CARRIED_WIDTH = 15


class NeighborLabel(NamedTuple):
    """A label near a predicted one.

    Parameters
    ----------
    label : str or int
        An entry of ``classes_``.
    cosine : float
        Of the two labels' embeddings; of the generator's weights in the direct mode.
    score : float
        For the text that is explained, in (0, 1].
    """

    label: Any
    cosine: float
    score: float


class NeighborText(NamedTuple):
    """A text near the one that is explained.

    Parameters
    ----------
    text : str
        The text.
    row : int
        Where it is among the texts that were given.
    cosine : float
        Of the two representations, less what all texts have in common.
    labels : tuple or None
        Those of the predicted labels that it carries; None if no labels were given.
    """

    text: str
    row: int
    cosine: float
    labels: tuple[Any, ...] | None


class ExplainedLabel(NamedTuple):
    """A predicted label; in the direct mode, all that is about ranking and clusters is None.

    Parameters
    ----------
    label : str or int
        An entry of ``classes_``.
    score : float
        That of ``predict_topk``: recall_score * rank_score, in (0, 1].
    recall_score : float
        Of its cluster, by the generator; of itself in the direct mode.
    rank_score : float or None
        Of itself, by the discriminator.
    cluster : int or None
        Its cluster, an entry of ``clusterer_.labels_``.
    cluster_place : int or None
        Of the cluster among the recalled ones, the best being 1.
    cluster_size : int or None
        Labels in the cluster.
    neighbors : tuple of NeighborLabel
        The nearest labels of its cluster, or of all in the direct mode; nearest first.
    """

    label: Any
    score: float
    recall_score: float
    rank_score: float | None
    cluster: int | None
    cluster_place: int | None
    cluster_size: int | None
    neighbors: tuple[NeighborLabel, ...]


class _Table(NamedTuple):
    """Cells as text, the last one of a row of any length; and which rows belong to one above."""

    header: list[str]
    rows: list[list[str]]
    indented: list[bool]


@dataclass(frozen=True, repr=False)
class TopKExplanation:
    """Why a text gets the labels that it gets; `LightXMLClassifier.explain_topk` returns it.

    Printed, it is a table of at most 100 columns; a notebook shows it as HTML. Everything in it is
    a plain value or a named tuple, so that ``pandas.DataFrame(explanation.labels)`` works.

    Parameters
    ----------
    text : str
        The text that is explained.
    text_read : str
        What the model read of it, as the tokenizer spells it.
    n_tokens : int
        Tokens of the whole text, special ones included.
    n_tokens_read : int
        Those that the model read; the others were cut, see `max_length`.
    n_recalled : int or None
        Clusters recalled for the text; None in the direct mode.
    labels : tuple of ExplainedLabel
        The predicted labels, best first.
    neighbors : tuple of NeighborText
        The nearest texts, nearest first; empty where no texts were given.
    cut_from_start : bool, default=False
        Whether it is the start of a long text that the tokenizer cuts, and not its end.

    Examples
    --------
    >>> from skxmc import ExplainedLabel, NeighborLabel, TopKExplanation
    >>> near = NeighborLabel("insurance", cosine=0.75, score=0.125)
    >>> label = ExplainedLabel("finance", 0.375, 0.75, 0.5, 2, 1, 16, (near,))
    >>> print(TopKExplanation("Bonds fell", "bonds fell", 4, 4, 32, (label,)))
    The best label of 'Bonds fell'
    The model read all of its 4 tokens.
    score = recall of the cluster, by the generator, x rank of the label, by the discriminator
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
        """Say what is explained, what of it was read, and what the scores are made of."""
        k = len(self.labels)
        title = f"The {k} best labels of " if k > 1 else "The best label of "
        title += f"'{_shortened(self.text, width - len(title) - 2)}'"
        if self.n_tokens_read == self.n_tokens:
            read = f"The model read all of its {self.n_tokens} tokens."
        else:
            # Shortened where it does not matter: the text was cut at the other end.
            if self.cut_from_start:
                where = f"from '{_shortened(self.text_read, END_WIDTH)}' on"
            else:
                where = f"up to '{_shortened(self.text_read[::-1], END_WIDTH)[::-1]}'"
            read = (
                f"The model read {self.n_tokens_read} of its {self.n_tokens} tokens, {where}; the "
                "rest was cut."
            )
        if self.n_recalled is None:
            return [title, read, "score = recall of the label, by the generator (direct mode)"]
        factors = "recall of the cluster, by the generator, x rank of the label, by the"
        return [title, read, f"score = {factors} discriminator"]

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
        """The labels that a text carries are the numbers that they have in the label table."""
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
    """Make a line of at most `width` columns of any text, control characters left out."""
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
    """Lay a table out for a notebook: no colours, so that it is readable on light and dark."""
    lines = [_html_row("th", table.header, "")]
    bold = "; font-weight: bold" if any(table.indented) else ""  # above the indented ones
    for cells, is_indented in zip(table.rows, table.indented, strict=True):
        lines.append(_html_row("td", cells, "; padding-left: 2em" if is_indented else bold))
    return "\n".join(["<table>", *lines, "</table>"])


def _html_row(tag: str, cells: list[str], style: str) -> str:
    escaped = [html.escape(_shortened(cell, NOTEBOOK_WIDTH)) for cell in cells]
    # Padded here, as not every place that shows HTML has a style for tables.
    padded = "padding: 0.2em 0.6em; text-align"
    numbers = [
        f'<{tag} style="{padded}: right; white-space: nowrap">{cell}</{tag}>'
        for cell in escaped[:-1]
    ]
    name = f'<{tag} style="{padded}: left{style}">{escaped[-1]}</{tag}>'
    return f"<tr>{''.join(numbers)}{name}</tr>"
