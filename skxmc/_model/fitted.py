"""The fitted model of a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skxmc._model.network import LightXMLNetwork

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from skxmc._clusterer import BalancedLabelClusterer


class Model(NamedTuple):
    """The results of `fit` that prediction needs."""

    network: LightXMLNetwork
    tokenizer: PreTrainedTokenizerBase
    clusterer: BalancedLabelClusterer
    classes: np.ndarray  # (n_labels,), int64 or object
    head_learning_rate: float | None  # peak rate with which the heads train, None: the encoder's
