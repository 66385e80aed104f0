"""make_classifier: the recommended classifier."""

from __future__ import annotations

import os
from typing import Any

from skxmc._classifier import LightXMLClassifier
from skxmc._ensemble import LightXMLEnsemble
from skxmc._input.types import RandomState
from skxmc._neighbors import NeighborsClassifier
from skxmc._omikuji import OmikujiClassifier
from skxmc._omikuji_io import import_omikuji
from skxmc._text_encoder import TextEncoder


def make_classifier(
    encoder: str | os.PathLike[str] = "sentence-transformers/all-MiniLM-L6-v2",
    *,
    fine_tune: bool = True,
    words: bool = True,
    n_jobs: int | None = None,
    random_state: RandomState = None,
    **params: Any,
) -> LightXMLEnsemble:
    """Make the recommended classifier: an ensemble of language, neighbors and words.

    The member "language" is a `LightXMLClassifier`, "words" is an `OmikujiClassifier`, and
    "neighbors" is a `NeighborsClassifier` on the representation of "language". From 1,000 texts on,
    the ensemble learns how far to trust each member.

    Read more in the user guide: :doc:`/guide/ensembles`.

    Parameters
    ----------
    encoder : str or path, default="sentence-transformers/all-MiniLM-L6-v2"
        Hub id or local directory of a Hugging Face encoder. With the extra ``[demo]``, the default
        needs no network.
    fine_tune : bool, default=True
        Whether to train the encoder. False leaves out "language" and gives "neighbors" the encoder
        as it comes, which trains in minutes on a CPU.
    words : bool, default=True
        Whether to add "words", which trains in seconds to minutes. It needs the extra ``[linear]``.
    n_jobs : int or None, default=None
        Number of threads of "words". None is 1, -1 is all CPUs.
    random_state : int, RandomState instance or None, default=None
        Seed of "language" and of the learned fusion.
    **params : dict
        Further parameters of the `LightXMLClassifier`, or of the `TextEncoder` if `fine_tune` is
        False, such as ``max_length=64``.

    Returns
    -------
    LightXMLEnsemble
        The ensemble, before its `fit`. ``set_params(language__max_epochs=2)`` sets a parameter of a
        member.

    Raises
    ------
    ImportError
        If omikuji is not installed, unless `words` is False.

    Examples
    --------
    >>> from skxmc import make_classifier
    >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
    >>> clf = make_classifier(fine_tune=False).fit(texts, tags)
    >>> clf.predict_topk(["shares and bonds"], k=1).labels
    array([['finance']], dtype=object)
    """
    members: list[tuple[str, Any]]
    if fine_tune:
        language = LightXMLClassifier(encoder, random_state=random_state, **params)
        members = [("language", language), ("neighbors", NeighborsClassifier("language"))]
    else:
        members = [("neighbors", NeighborsClassifier(TextEncoder(encoder, **params)))]
    if words:
        import_omikuji()  # or raise here, not after "language" was trained
        members.append(("words", OmikujiClassifier(n_jobs=n_jobs)))
    return LightXMLEnsemble(members, fusion="auto", random_state=random_state)
