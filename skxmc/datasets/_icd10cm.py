"""Embedded example: the US classification of diseases, from a package of the demo extra."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch, check_random_state

from skxmc._utils.quoting import listed, quoted
from skxmc.datasets._csr import binary_csr, flatten

_ICD10CM_DESCR = """\
ICD-10-CM, the classification of diseases of the United States, as shipped by simple-icd-10-cm.

A text is the description of a category or subcategory, or one of its inclusion terms (synonyms).
Its labels are the code and the codes above it, up to the chapter. All descriptions and half of
the inclusion terms are for training, and the other half is for testing. A test text is therefore
a synonym that does not occur in training. The classification is a work of the US government (NCHS
and CMS), in the public domain.
"""


def load_icd10cm(
    *,
    chapters: Iterable[int | str] | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    """Load ICD-10-CM, whose texts are diagnoses and whose labels are codes.

    The texts come with the package ``simple-icd-10-cm`` (``pip install simple-icd-10-cm``).
    Nothing is downloaded or written to disk. A text is the description of a category or
    subcategory, or one of its inclusion terms. Chapters, blocks and codes extended to a 7th
    character give no text.

    The labels of a text are its code and all codes above it, blocks and chapters included.
    Labels that occur only once in training are left out. If a code names both a block and the only
    category in it (``"B99"``), it is one label and one text.

    The training part holds all descriptions and half of the inclusion terms. The test part holds
    the other half, without texts that occur in training. The classification of April 2026 gives
    46,881 descriptions, 53,165 training texts, about 6,260 test texts and 14,300 labels. Every text
    has its chapter among its labels. Read more in the user guide: :doc:`/guide/data`.

    Parameters
    ----------
    chapters : list of int or str, default=None
        Chapters to load, from 1 to 22, for trials that take a minute. Chapter 9, the circulatory
        system, has 2,096 training texts, 298 test texts and 549 labels. None loads all chapters.
    random_state : int, RandomState instance or None, default=0
        Seed for drawing the inclusion terms of the training part.

    Returns
    -------
    Bunch
        A dict whose entries are attributes too.

        ``X_train``, ``X_test`` : list of str
            The texts.
        ``y_train``, ``y_test`` : csr_array of float32, shape (n_texts, n_labels)
            1 for the labels of a text. Columns follow the order of the classification.
        ``codes_train``, ``codes_test`` : ndarray of str, shape (n_texts,)
            The own code of each text, which may be no label.
        ``label_names`` : ndarray of str, shape (n_labels,)
            The codes. Chapters are ``"1"`` to ``"22"``.
        ``label_texts`` : ndarray of str, shape (n_labels,)
            The description of each code.
        ``DESCR`` : str
            Description of the data.

    Raises
    ------
    ImportError
        If ``simple-icd-10-cm`` is not installed.
    ValueError
        If `chapters` is empty or names an unknown chapter.

    Examples
    --------
    >>> from skxmc.datasets import load_icd10cm
    >>> data = load_icd10cm()
    >>> data.X_train[0]
    'Cholera'
    >>> data.label_names[data.y_train[[0]].indices].tolist()
    ['1', 'A00-A09', 'A00']
    """
    icd = _import_icd10cm()
    rng = check_random_state(random_state)
    # A dict drops the repetition of a name that a block and its only category share.
    order = {code: i for i, code in enumerate(icd.get_all_codes(with_dots=True))}
    wanted = _check_chapters(chapters, [code for code in order if icd.is_chapter(code)])
    codes = [
        code
        for code in order
        if icd.is_category(code) or icd.is_subcategory(code, include_extended_subcategories=False)
        if icd.get_ancestors(code)[-1] in wanted
    ]
    terms = [(code, term) for code in codes for term in icd.get_inclusion_term(code)]
    shuffled = [terms[i] for i in rng.permutation(len(terms))]
    train = [(code, icd.get_description(code)) for code in codes] + shuffled[: len(terms) // 2]
    seen = {text for _, text in train}
    test = [(code, text) for code, text in shuffled[len(terms) // 2 :] if text not in seen]

    # A set drops the repetition of the block of a single category, which is its own ancestor.
    paths = {code: {code, *icd.get_ancestors(code)} for code in codes}
    counts = Counter(label for code, _ in train for label in paths[code])
    labels = sorted((label for label, count in counts.items() if count >= 2), key=order.__getitem__)
    column = {label: j for j, label in enumerate(labels)}

    def indicator(pairs: list[tuple[str, str]]) -> sparse.csr_array:
        rows = ([column[x] for x in paths[code] if x in column] for code, _ in pairs)
        return binary_csr(*flatten(rows), len(labels))

    return Bunch(
        X_train=[text for _, text in train],
        y_train=indicator(train),
        codes_train=np.array([code for code, _ in train]),
        X_test=[text for _, text in test],
        y_test=indicator(test),
        codes_test=np.array([code for code, _ in test]),
        label_names=np.array(labels),
        label_texts=np.array([icd.get_description(label) for label in labels]),
        DESCR=_ICD10CM_DESCR,
    )


def _check_chapters(chapters: Iterable[int | str] | None, known: list[str]) -> set[str]:
    if chapters is None:
        return set(known)
    if isinstance(chapters, (str, int)):
        raise ValueError(
            f"chapters must be a list, got {quoted(chapters)}. Pass [{quoted(chapters)}]."
        )
    wanted = {str(chapter) for chapter in chapters}
    unknown = sorted(wanted - set(known))
    if unknown or not wanted:
        what = f"holds {listed(unknown)}" if unknown else "is empty"
        raise ValueError(f"chapters {what}. Pass a list of numbers from 1 to {len(known)}.")
    return wanted


def _import_icd10cm() -> Any:
    with warnings.catch_warnings():
        # The package reads its data on import, by functions that Python 3.11 and 3.12 deprecate.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            import simple_icd_10_cm
        except ImportError as error:
            raise ImportError(
                "load_icd10cm reads the data of the package simple-icd-10-cm, which is not "
                "installed. Install it: pip install simple-icd-10-cm"
            ) from error
    return simple_icd_10_cm
