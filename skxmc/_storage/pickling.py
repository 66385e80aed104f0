"""What of a network goes into a pickle, and how it comes back without GPU and network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skxmc._model.encoder import build_encoder
from skxmc._model.network import LightXMLNetwork
from skxmc._model.seeds import local_seed

# Parameters that have another name now than in models written before 0.1.0.
RENAMED_PARAMS = {"head_start": "head_init"}
DROPPED_PARAMS = ("prediction_precision", "loss_reduction", "label_moments")


def current_params(params: dict[str, Any]) -> dict[str, Any]:
    """Turn the parameters of a model that an earlier version has written into those of today."""
    params = {RENAMED_PARAMS.get(name, name): value for name, value in params.items()}
    if params.get("prediction_precision") is not None:
        params["precision"] = params["prediction_precision"]
    return {name: value for name, value in params.items() if name not in DROPPED_PARAMS}


def network_state(network: LightXMLNetwork) -> dict[str, Any]:
    """All that rebuilds a network: plain values, the encoder's configuration, NumPy arrays.

    Arrays instead of tensors let joblib compress them and map them into memory, and know no
    device.
    """
    return {
        "config": network.encoder.config,
        "cluster_of": network.layout.cluster_of.cpu().numpy(),
        "settings": network.settings,
        "weights": {
            name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()
        },
    }


def network_from_state(state: dict[str, Any]) -> LightXMLNetwork:
    """Rebuild a network from what `network_state` returned."""
    # Copies, as arrays that joblib maps into memory may be read-only.
    weights = {name: torch.tensor(array) for name, array in state["weights"].items()}
    return build_network(state["config"], state["cluster_of"], state["settings"], weights)


def build_network(
    config: Any,
    cluster_of: np.ndarray,
    settings: dict[str, Any],
    weights: dict[str, torch.Tensor],
) -> LightXMLNetwork:
    """Build a network around weights, on the CPU, in evaluation mode."""
    # The weights drawn here are replaced below; the global generator must not notice.
    with local_seed(0, torch.device("cpu")):
        network = LightXMLNetwork(build_encoder(config), cluster_of, **settings)
    network.load_state_dict(weights, assign=True)
    return network.place_on(torch.device("cpu")).eval()
