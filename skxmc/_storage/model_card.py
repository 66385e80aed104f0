"""The card of a model on the Hugging Face Hub: a head in YAML for search, and text for readers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sklearn.base import BaseEstimator

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
TASK = "text-classification"
TAGS = ["multi-label", "extreme-multi-label-classification", "scikit-learn"]
VALIDATION = "validation texts"


def model_card(estimator: Any, repo_id: str, metrics: Mapping[str, float] | None = None) -> str:
    """Write the card of a fitted estimator.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator of this package, or a pipeline of one.
    repo_id : str
        Repository in which it will be.
    metrics : dict of str to float, default=None
        Results by name. None takes P@5 of the validation texts of `fit`, if there were any.
    """
    from huggingface_hub import EvalResult, ModelCardData

    parts = list(fitted_parts(estimator))
    found, of_texts = _validation(estimator), VALIDATION
    if metrics is not None:
        found, of_texts = dict(metrics), "texts of the author"
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type="own",
            dataset_name=of_texts,
            metric_type=name,
            metric_value=round(float(value), 4),
        )
        for name, value in found.items()
    ]
    base = sorted({name for name in map(_hub_encoder, parts) if name})
    predicts = hasattr(estimator, "classes_")
    head = ModelCardData(
        library_name="skxmc",
        pipeline_tag=TASK if predicts else "feature-extraction",
        base_model=base if base else None,
        tags=TAGS if predicts else ["scikit-learn"],
        metrics=list(found) or None,
        model_name=repo_id.split("/")[-1] if results else None,
        eval_results=results or None,
    )
    return f"---\n{head.to_yaml()}\n---\n\n{_text(estimator, repo_id, parts, found, of_texts)}"


def fitted_parts(estimator: Any) -> Iterator[BaseEstimator]:
    """Yield the estimator and all fitted ones inside, such as the members of an ensemble."""
    waiting, seen = [estimator], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, BaseEstimator) and id(value) not in seen:
            seen.add(id(value))
            waiting += vars(value).values()
            yield value


def _validation(estimator: Any) -> dict[str, float]:
    """Return P@5 on validation texts of the weights that `fit` kept, empty without such texts.

    Early stopping keeps the best weights. Otherwise the last ones are kept.
    """
    last = getattr(estimator, "steps", [("", estimator)])[-1][1]
    history = getattr(last, "history_", [])
    scores = [epoch["valid_p_at_5"] for epoch in history if "valid_p_at_5" in epoch]
    if not scores:
        return {}
    return {"precision_at_5": max(scores) if last.early_stopping else scores[-1]}


def _n_texts(parts: list[BaseEstimator]) -> int | None:
    """Return the number of training texts, if an estimator inside knows it."""
    numbers = [getattr(part, "n_samples_fit_", 0) for part in parts]
    numbers += [e.get("n_texts", 0) for part in parts for e in getattr(part, "history_", [])]
    return max(numbers, default=0) or None


def _hub_encoder(part: BaseEstimator) -> str | None:
    """Return the hub id of the encoder that this estimator holds, if it is from the Hub."""
    if not hasattr(part, "network_"):
        return None
    from skxmc._model.encoder import hub_id  # loads torch, as the network has

    name = hub_id(os.fspath(part.encoder))
    return name if HUB_NAME.fullmatch(name) and not os.path.isdir(name) else None


def _text(
    estimator: Any,
    repo_id: str,
    parts: list[BaseEstimator],
    metrics: Mapping[str, float],
    of_texts: str,
) -> str:
    """Write the part of the card for readers."""
    kind, predicts = type(estimator).__name__, hasattr(estimator, "classes_")
    n_texts = _n_texts(parts)
    cut = [p.max_length for p in parts if hasattr(p, "network_") and p.long_text == "truncate"]
    if predicts:
        n_labels = len(estimator.classes_)
        use = 'labels, scores = skxmc.predict_topk(model, ["your text"], k=5)'
        does = f"It assigns labels to texts, chosen from {n_labels:,}."
        facts = [f"Labels: {n_labels:,}"]
        limits = [
            "The model knows the labels of its training texts, and no others. It ranks them for "
            "any text, also for a text about something else.",
            "Rare labels are found less often than frequent ones.",
            "A score says how sure the model is. Scores of a text do not sum to 1.",
        ]
    else:
        use = 'vectors = model.transform(["your text"])'
        does, facts, limits = "It represents texts by vectors.", [], []
    facts.append(f"Training texts: {'not recorded' if n_texts is None else f'{n_texts:,}'}")
    facts += [f"{name} on {of_texts}: {value:.4f}" for name, value in metrics.items()]
    if cut:
        limits.append(f"It reads the first {max(cut)} tokens of a text.")
    limits.append("It works for texts like those that it was trained on, in their language.")
    return "\n".join(
        [
            f"# {repo_id.split('/')[-1]}\n",
            f"This is a `{kind}` of skxmc, extreme multi-label text classification. {does}\n",
            "## Use\n",
            f'```python\nimport skxmc\n\nmodel = skxmc.from_pretrained("{repo_id}")\n{use}\n```\n',
            "The files hold no pickle, and loading them runs no code.\n",
            "## Facts\n",
            *(f"- {fact}" for fact in facts),
            "\n## Limits\n",
            *(f"- {limit}" for limit in limits),
            "",
        ]
    )
