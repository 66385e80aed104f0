"""The body of a request to predict, checked."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from skxmc._input.ranking import check_k
from skxmc._utils.quoting import listed, quoted

MAX_TEXTS, MAX_K, DEFAULT_K = 256, 100, 5
# Reasons take the time of a prediction per word.
MAX_EXPLAINED = 16
KEYS = ("text", "texts", "k", "why")
EXAMPLE = '{"texts": ["one text"], "k": 5}'


class Request(NamedTuple):
    """What to predict: the best k labels of texts, with or without reasons."""

    texts: list[str]
    k: int
    why: bool


def read_request(body: bytes, n_labels: int) -> Request:
    """Read and check a body.

    Raises
    ------
    ValueError
        If it is not as the documentation says. The message tells the client what to do.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The body is not JSON: {error}. Send {EXAMPLE}.") from error
    if not isinstance(given, dict):
        raise ValueError(f"The body is {quoted(given)}, which is no JSON object. Send {EXAMPLE}.")
    if unknown := given.keys() - set(KEYS):
        raise ValueError(
            f"The body has unknown keys: {listed(quoted(key) for key in sorted(unknown))}. "
            f"Use only {', '.join(KEYS)}."
        )
    k = given.get("k")
    k = min(DEFAULT_K, n_labels) if k is None else check_k(k, n_labels)
    if k > MAX_K:
        raise ValueError(f"k is {k}, but at most {MAX_K} labels are sent. Lower k.")
    why = given.get("why", False)
    if not isinstance(why, bool):
        raise ValueError(f"why is {quoted(why)}. Send true or false.")
    texts = _texts_of(given)
    if why and len(texts) > MAX_EXPLAINED:
        raise ValueError(
            f"There are {len(texts)} texts, but at most {MAX_EXPLAINED} are explained at once. "
            "Send fewer texts, or leave out why."
        )
    return Request(texts, k, why)


def _texts_of(given: dict[str, Any]) -> list[str]:
    if ("text" in given) == ("texts" in given):
        raise ValueError(f'The body needs either "text" or "texts". Send {EXAMPLE}.')
    if "text" in given:
        texts = [given["text"]]
    else:
        texts = given["texts"]
        if not isinstance(texts, list) or not texts:
            raise ValueError(f"texts is {quoted(texts)}. Send a list of at least one text.")
        if len(texts) > MAX_TEXTS:
            raise ValueError(
                f"There are {len(texts):,} texts, but a request may have {MAX_TEXTS}. Send several "
                "requests."
            )
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{quoted(text)} is not a text. Send strings.")
    return texts
