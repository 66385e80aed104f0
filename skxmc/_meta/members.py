"""Members of a LightXMLEnsemble: their checks, their fit and their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils._user_interface import _print_elapsed_time
from sklearn.utils.parallel import Parallel, delayed

from skxmc._base import TEXT_BLOCK
from skxmc._input.allowed import AllowedLabels
from skxmc._input.types import LabelsOfTexts
from skxmc._input.validation import Labels, align_labels
from skxmc._meta.fit_params import fit_with
from skxmc._meta.rescoring import candidate_scores, check_scores_labels, classes_of
from skxmc._utils.encode_once import encode_once
from skxmc._utils.quoting import quoted


def is_dropped(member: Any) -> bool:
    """Return whether the string "drop" replaces a member."""
    return isinstance(member, str) and member == "drop"


def is_frozen(member: Any) -> bool:
    """Return whether a member is frozen, so that `fit` does not change its labels."""
    last = member.steps[-1][1] if isinstance(member, Pipeline) else member
    return isinstance(last, FrozenEstimator)


def check_members(estimators: list[Any]) -> dict[str, Any]:
    """Check (name, estimator) pairs, and return members by name, without dropped ones."""
    if not estimators:
        raise ValueError("estimators is empty. Pass a list of (name, estimator) pairs.")
    for item in estimators:
        if not (isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str)):
            raise ValueError(
                f"estimators holds {quoted(item)}. Pass a list of (name, estimator) pairs."
            )
    members = {name: member for name, member in estimators if not is_dropped(member)}
    if not members:
        raise ValueError("All estimators are dropped. Keep at least one estimator.")
    for name, member in members.items():
        check_scores_labels(f"estimators: the member {quoted(name)}", member)
    for name, encoder in encoders_of(dict(estimators)).items():
        other = members.get(encoder)
        if not hasattr(other, "transform"):
            lack = "is dropped" if other is None else f"has no transform: {type(other).__name__}"
            raise ValueError(
                f"estimators: the encoder of the member {quoted(name)} is the member "
                f"{quoted(encoder)}, which {lack}. Name a LightXMLClassifier."
            )
    return members


def encoders_of(members: dict[str, Any]) -> dict[str, str]:
    """Return the names of members whose encoder is the name of another one, and of this one."""
    return {
        name: member.encoder
        for name, member in members.items()
        if getattr(member, "_encoder_may_be_member", False)
        and isinstance(member.encoder, str)
        and member.encoder in members.keys() - {name}
    }


def fit_members(
    members: dict[str, Any],
    texts: list[str],
    y: LabelsOfTexts,
    fit_params: dict[str, Any],
    *,
    n_jobs: int | None,
    verbose: bool,
) -> dict[str, Any]:
    """Fit clones of members. Those that take another member as their encoder are fitted last."""
    members = {name: clone(member) for name, member in members.items()}
    encoders = encoders_of(members)
    arguments = {
        name: (
            member,
            texts,
            y,
            fit_params,
            f"({number} of {len(members)}) Fitting {name}" if verbose else None,
            name not in encoders.values(),
        )
        for number, (name, member) in enumerate(members.items(), start=1)
    }
    first = [name for name in members if name not in encoders]
    jobs = (delayed(_fit_member)(*arguments[name]) for name in first)
    with encode_once(grows=False):  # a member with a frozen encoder adds the texts
        fitted = dict(zip(first, Parallel(n_jobs=n_jobs)(jobs), strict=True))
        for name, encoder in encoders.items():  # another process would return a copy of the encoder
            members[name].encoder = FrozenEstimator(fitted[encoder])
            fitted[name] = _fit_member(*arguments[name])
    return {name: fitted[name] for name in members}


def _fit_member(
    member: Any,
    texts: list[str],
    y: LabelsOfTexts,
    fit_params: dict[str, Any],
    message: str | None,
    leaves_gpu: bool,
) -> Any:
    """Fit a member with the parameters that its `fit` takes, and print how long it took.

    If the member has weights on a GPU, it may leave the GPU to the next member.
    """
    with _print_elapsed_time("LightXMLEnsemble", message):
        fitted = fit_with(member, texts, y, fit_params)
    if leaves_gpu and hasattr(fitted, "_leave_gpu"):
        fitted._leave_gpu()
    return fitted


def common_classes(members: dict[str, Any]) -> np.ndarray:
    """Return the labels of fitted members, and check that they agree and have the same order."""
    classes = {
        name: classes_of(f"The member {quoted(name)}", member) for name, member in members.items()
    }
    first, *others = members
    for name in others:
        if not np.array_equal(classes[name], classes[first]):
            raise ValueError(
                f"The members {quoted(first)} and {quoted(name)} differ in classes_: "
                f"{_difference(classes[first], classes[name])}. Fit them to the same y."
            )
    return classes[first]


def labels_of_members(labels: Labels, classes: np.ndarray, *, by_name: bool) -> Labels:
    """Move labels to the columns that they have in the members."""
    if np.array_equal(classes, labels.classes):
        return labels
    if by_name:
        aligned = align_labels(labels, classes)
        if aligned.matrix.nnz:
            return aligned
    raise ValueError(
        f"Members and y differ in their labels: {_difference(classes, labels.classes)}. Fit them "
        "to the same y, or pass label collections or label_names to match labels by name."
    )


def scores_of_members(
    members: dict[str, Any],
    texts: list[str],
    n_candidates: int,
    allowed: AllowedLabels | None = None,
) -> list[sp.csr_matrix]:
    """Score the best labels with each member: one (n_texts, n_labels) matrix per member."""
    blocks = []
    for start in range(0, max(len(texts), 1), TEXT_BLOCK):
        block = slice(start, start + TEXT_BLOCK)
        of_block = None if allowed is None else allowed.of(block)
        with encode_once():
            blocks.append(
                [
                    candidate_scores(
                        f"The member {quoted(name)}",
                        member,
                        texts[block],
                        n_candidates,
                        allowed=of_block,
                    )
                    for name, member in members.items()
                ]
            )
    return [sp.vstack(of_member, format="csr") for of_member in zip(*blocks, strict=True)]


def _difference(left: np.ndarray, right: np.ndarray) -> str:
    if len(left) != len(right):
        return f"{len(left)} and {len(right)} labels"
    pairs = enumerate(zip(left.tolist(), right.tolist(), strict=True))
    place, (one, other) = next(item for item in pairs if item[1][0] != item[1][1])
    return f"at position {place} are {quoted(one)} and {quoted(other)}"
