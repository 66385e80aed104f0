"""Requests and answers in the shape of Annif, whose backend `http` asks other servers."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from skxmc._input.ranking import check_k
from skxmc._serving.answer import Answer
from skxmc._serving.request import MAX_K, Request
from skxmc._utils.quoting import quoted


def read_form(body: bytes, n_labels: int) -> Request:
    """Read a form with a text, and how many labels at most. Leave out what else Annif sends.

    Raises
    ------
    ValueError
        If the text is missing, or `limit` is no whole number from 1. The message tells the client
        what to do.
    """
    form = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
    if "text" not in form:
        raise ValueError("The form has no text. Send text=... and, if needed, limit=10.")
    limit = form.get("limit", [str(MAX_K)])[-1]
    try:
        wanted = int(limit)
    except ValueError as error:
        raise ValueError(f"limit is {quoted(limit)}. Send a whole number.") from error
    k = check_k(min(wanted, MAX_K, n_labels), n_labels, name="limit")
    return Request([form["text"][-1]], k, why=False)


def as_results(answer: Answer) -> dict[str, Any]:
    """Return labels as Annif reads them. They are URIs, which its corpora put in brackets."""
    return {
        "results": [
            {"uri": str(found["label"]).strip("<>"), "score": found["score"]} for found in answer
        ]
    }
