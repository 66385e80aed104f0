"""Checks of parameters of estimators, by scikit-learn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

from skxmc._utils.quoting import quoted


def check_params(estimator: Any, names: Iterable[str] | None = None) -> None:
    """Check the parameters of an estimator, or those in `names`.

    Raises
    ------
    InvalidParameterError
        If a value is wrong. The message quotes it cut, and not as a whole as in scikit-learn.
    """
    for name in estimator.get_params(deep=False) if names is None else names:
        value = getattr(estimator, name)
        try:
            validate_parameter_constraints(
                estimator._parameter_constraints,
                {name: value},
                caller_name=type(estimator).__name__,
            )
        except InvalidParameterError as error:
            expected, _, _ = str(error).partition(" Got ")
            raise InvalidParameterError(f"{expected} Got {quoted(value)} instead.") from None
