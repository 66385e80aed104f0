"""Routing of `fit` parameters to the estimators inside a meta-estimator."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import Any

from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRouter, get_routing_for_object

from skxmc._meta.rescoring import RescorerMixin
from skxmc._utils.quoting import MAX_QUOTED, quoted, shortened


def names_taken(estimator: Any, fit_params: Iterable[str]) -> dict[str, str]:
    """Find the parameters that the `fit` of an estimator takes, and the names it takes them by.

    A pipeline takes the parameters of its last step, and those that name a step. A search takes
    the parameters of its estimator. With scikit-learn's metadata routing, both and all other
    estimators that route parameters take those that were requested.
    """
    if get_config()["enable_metadata_routing"]:  # only then, because some raise an error
        routing = get_routing_for_object(estimator)
        if isinstance(routing, MetadataRouter):
            return {key: key for key in routing.consumes("fit", fit_params)}
    if isinstance(estimator, BaseSearchCV):
        return names_taken(estimator.estimator, fit_params)
    if isinstance(estimator, Pipeline):
        step, last = estimator.steps[-1]
        taken = {} if last in (None, "passthrough") else names_taken(last, fit_params)
        names = {key: f"{step}__{name}" for key, name in taken.items()}
        of_steps = tuple(f"{step}__" for step, _ in estimator.steps)
        return names | {key: key for key in fit_params if key.startswith(of_steps)}
    params = signature(estimator.fit).parameters
    if isinstance(estimator, RescorerMixin):
        of_others = {key for other in estimator._others() for key in names_taken(other, fit_params)}
        return {key: key for key in fit_params if key in params or key in of_others}
    has_rest = any(param.kind is param.VAR_KEYWORD for param in params.values())
    plain = BaseEstimator.get_metadata_routing
    routes = getattr(type(estimator), "get_metadata_routing", plain) is not plain
    takes_all = has_rest and not routes  # a router without routing refuses them
    return {key: key for key in fit_params if takes_all or key in params}


def fit_with(
    estimator: Any, X: Any, y: Any, fit_params: dict[str, Any], method: str = "fit"
) -> Any:
    """Call `fit`, or `fit_transform`, of an estimator with the parameters that its `fit` takes.

    Raises
    ------
    ValueError
        If held-out texts would reach the last step of a pipeline without the steps before it.
    """
    names = names_taken(estimator, fit_params)
    for key in ("X_val", "validation_data"):
        if names.get(key, key) != key:
            raise ValueError(
                f"{key} would reach the last step of the pipeline without the steps before it. "
                "Call sklearn.set_config(enable_metadata_routing=True), request X_val and y_val "
                "with set_fit_request on the last step, and give the pipeline "
                "transform_input=['X_val']. If these texts need no change, pass them as "
                f"{shortened(names[key], MAX_QUOTED)}."
            )
    params = {name: fit_params[key] for key, name in names.items()}
    return getattr(estimator, method)(X, y, **params)


def check_fit_params(estimators: Iterable[Any], fit_params: Iterable[str]) -> None:
    """Check that some estimator takes each parameter of `fit`, and all take `sample_weight`."""
    taken = [(estimator, names_taken(estimator, fit_params)) for estimator in estimators]
    routes = get_config()["enable_metadata_routing"]
    hint = " Or request it by set_fit_request on the estimator that takes it." if routes else ""
    for key in fit_params:
        lacking = [estimator for estimator, names in taken if key not in names]
        if len(lacking) == len(taken):
            raise TypeError(f"No estimator has a fit that takes {quoted(key)}. Leave it out.{hint}")
        if key == "sample_weight" and lacking:
            raise TypeError(
                f"The fit of {type(lacking[0]).__name__} does not take sample_weight. Leave out "
                f"the weights, or this estimator.{hint}"
            )
