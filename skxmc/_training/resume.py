"""Resuming from a checkpoint, and warm starts from the previous fit."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skxmc._clusterer import BalancedLabelClusterer
from skxmc._input.validation import Labels, align_labels, with_new_labels
from skxmc._model.fitted import Model
from skxmc._storage.checkpoint import Checkpoint, NoCheckpoint
from skxmc._utils.quoting import quoted


def open_checkpoint(params: Mapping[str, Any]) -> Checkpoint | NoCheckpoint:
    """Open the checkpoint that the parameters name, or one that stores nothing."""
    folder = params["checkpoint_dir"]
    return NoCheckpoint() if folder is None else Checkpoint(folder, params)


def draw_seed(random_state: Any, checkpoint: Checkpoint | NoCheckpoint) -> int:
    """Draw the seed of a fit. A resumed run keeps its seed, unless `random_state` is a number."""
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    if checkpoint.found is None or isinstance(random_state, Integral):
        return seed
    return int(checkpoint.found.run["seed"])


def check_warm_start(
    params: Mapping[str, Any], previous: Model, labels: Labels, *, by_name: bool
) -> Labels:
    """Check that a fit can continue with the previous model, and align labels to its columns.

    Labels that the previous model does not have get columns after its own.

    Parameters
    ----------
    params : dict
        Parameters of this fit.
    previous : Model
        Model of the previous fit.
    labels : Labels
        Labels of this fit.
    by_name : bool
        Whether the user has named the labels. Otherwise they are numbers of columns.

    Returns
    -------
    Labels
        The same labels, in the columns of the previous fit and of new labels.

    Raises
    ------
    ValueError
        If a parameter of the built model has changed, or if unnamed columns lack labels of the
        previous fit.
    """
    _check_same_network(params, previous)
    classes, n_columns = previous.classes, len(labels.classes)
    if np.array_equal(classes, labels.classes[: len(classes)]):
        return labels
    if by_name:
        return align_labels(labels, with_new_labels(labels, classes)[0])
    raise ValueError(
        f"warm_start=True needs the labels of the previous fit, of which there are {len(classes)}, "
        f"but y has {n_columns} unnamed columns. Pass collections of labels, or a matrix with "
        "label_names. Or set warm_start=False to train a new model."
    )


def _check_same_network(params: Mapping[str, Any], model: Model) -> None:
    """Check that a warm start keeps the parameters of the built model."""
    settings, clusterer = model.network.settings, model.clusterer
    before = {name: settings[name] for name in ("n_feature_layers", "bottleneck_dim")}
    now = {name: params[name] for name in before}
    if params["pooling"] != "auto":
        now["pooling"], before["pooling"] = params["pooling"], settings["pooling"]
    if not model.network.direct and params["negative_sampling"] == "none":
        now["negative_sampling"], before["negative_sampling"] = "none", "dynamic"
    asked = params["clusterer"] or BalancedLabelClusterer()
    # Without clusters, nothing depends on the clusterer. "auto" may be this on some devices.
    is_free = params["negative_sampling"] == "none" or asked.max_cluster_size == "auto"
    if not (model.network.direct and is_free):
        for name, value in asked.get_params().items():
            if name not in ("n_jobs", "random_state"):
                now[f"clusterer__{name}"] = value
                before[f"clusterer__{name}"] = getattr(clusterer, name)
    for name, value in now.items():
        if value != before[name]:
            raise ValueError(
                f"{name} is {quoted(value)}, but warm_start=True continues a model that was built "
                f"with {quoted(before[name])}. Set it back, or set warm_start=False to train a new "
                "model."
            )
