"""Networks and tokenizers as plain values, arrays and files, restored without GPU and network.

Pickles hold these values, and so do other formats that know nothing of torch, such as skops.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from skxmc._model.defaults import torch_defaults
from skxmc._model.encoder import build_encoder
from skxmc._model.network import LightXMLNetwork
from skxmc._model.seeds import local_seed
from skxmc._model.text_network import Network, TextNetwork

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Models written before 0.1.0 use old names of parameters, and have parameters that are gone.
RENAMED_PARAMS = {"head_start": "head_init"}
DROPPED_PARAMS = ("prediction_precision", "loss_reduction", "label_moments")
# Parameters that they lack, with the values that do what they did.
ADDED_PARAMS = {
    "pooling": "cls",
    "freeze_encoder": False,
    "label_precision": "fp32",
    "label_search": "exact",
    "accumulate_steps": 1,
    "gradient_checkpointing": False,
    "long_text": "truncate",
    "label_weight": None,
}


def current_params(params: dict[str, Any]) -> dict[str, Any]:
    """Convert the parameters of a model that an earlier version wrote to the current ones."""
    named = {RENAMED_PARAMS.get(name, name): value for name, value in params.items()}
    params = {**ADDED_PARAMS, **named}
    if params.get("prediction_precision") is not None:
        params["precision"] = params["prediction_precision"]
    return {name: value for name, value in params.items() if name not in DROPPED_PARAMS}


def network_state(network: TextNetwork) -> dict[str, Any]:
    """Collect the state of a network: plain values, the encoder's configuration as files, arrays.

    Unlike tensors, arrays have no device, and joblib can compress them and map them into memory.

    Raises
    ------
    RuntimeError
        If the labels are in parts, one per process.
    """
    network.check_whole()
    clusters = {}
    if isinstance(network, LightXMLNetwork):
        clusters["cluster_of"] = network.layout.cluster_of.cpu().numpy()
    return {
        "config": to_files(network.encoder.config),
        **clusters,
        "settings": network.settings,
        "weights": {
            name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()
        },
    }


@torch_defaults()
def network_from_state(state: dict[str, Any]) -> TextNetwork:
    """Rebuild a network from the result of `network_state`."""
    from transformers import AutoConfig

    config = from_files(AutoConfig, state["config"])
    # Copied, because arrays that joblib maps into memory may be read-only.
    weights = {name: torch.tensor(array) for name, array in state["weights"].items()}
    if "cluster_of" not in state:
        return _filled(partial(TextNetwork, **state["settings"]), config, weights)
    return build_network(config, state["cluster_of"], state["settings"], weights)


def to_files(saved: PretrainedConfig | PreTrainedTokenizerBase) -> dict[str, bytes]:
    """Return the contents of the files that `save_pretrained` writes, by name."""
    with TemporaryDirectory(prefix="skxmc-") as folder:
        saved.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def from_files(auto: Any, files: Any) -> Any:
    """Load a configuration or a tokenizer with a class of transformers such as AutoConfig."""
    if not isinstance(files, dict):  # a pickle of an earlier version holds the object itself
        return files
    with TemporaryDirectory(prefix="skxmc-") as folder:
        for name, content in files.items():
            # The last part of a name, because that of a stranger may lead out of the folder.
            Path(folder, Path(name).name).write_bytes(content)
        return auto.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def model_state(state: dict[str, Any]) -> dict[str, Any]:
    """Replace the network and the tokenizer in the state of an estimator by plain values."""
    if "network_" not in state:
        return state
    network, tokenizer = network_state(state["network_"]), to_files(state["tokenizer_"])
    return {**state, "network_": network, "tokenizer_": tokenizer}


def model_from_state(state: dict[str, Any]) -> dict[str, Any]:
    """Rebuild the network and the tokenizer in a result of `model_state`."""
    if "network_" not in state:
        return state
    from transformers import AutoTokenizer

    tokenizer = from_files(AutoTokenizer, state["tokenizer_"])
    # Earlier versions did not choose the rate.
    added = {"head_learning_rate_": state.get("head_learning_rate")}
    network = network_from_state(state["network_"])
    return {**added, **state, "network_": network, "tokenizer_": tokenizer}


@torch_defaults()
def build_network(
    config: PretrainedConfig,
    cluster_of: np.ndarray,
    settings: dict[str, Any],
    weights: dict[str, torch.Tensor],
) -> LightXMLNetwork:
    """Build a network around weights, on the CPU, in evaluation mode."""
    if len(cluster_of) == cluster_of.max() + 1 and "label_table.weight" not in weights:
        settings, weights = _current_direct_mode(settings, weights)
    make = partial(LightXMLNetwork, cluster_of=cluster_of, **settings)
    return _filled(make, config, weights)


def _filled(
    make: Callable[[PreTrainedModel], Network],
    config: PretrainedConfig,
    weights: dict[str, torch.Tensor],
) -> Network:
    # The weights drawn here are replaced below, and must not advance the global generator.
    with local_seed(0, torch.device("cpu")):
        network = make(build_encoder(config))
    network.load_state_dict(weights, assign=True)
    return network.place_on(torch.device("cpu")).eval()


def _current_direct_mode(
    settings: dict[str, Any], weights: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Convert a network in the direct mode of before 0.1.0, in which a recall head scored labels.

    It had no bottleneck. The rows of the recall head are the label embeddings.
    """
    weights = dict(weights)
    rows, biases = weights.pop("recall_head.weight"), weights.pop("recall_head.bias")
    weights["label_table.weight"] = torch.cat([rows, torch.zeros_like(rows[:1])])
    weights["label_table.bias"] = torch.cat([biases, torch.zeros_like(biases[:1])])[:, None]
    return {**settings, "bottleneck_dim": None}, weights
