"""The network that represents texts: an encoder, without heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import nn

from skxmc._model.encoder import text_states, use_fast_attention, use_sparse_embedding
from skxmc._model.tokens import TokenBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Network = TypeVar("Network", bound="TextNetwork")


class TextNetwork(nn.Module):
    """An encoder that represents texts by the pooled states of its last hidden layers.

    Parameters
    ----------
    encoder : PreTrainedModel
        A Hugging Face encoder.
    n_feature_layers : int
        Number of last hidden layers whose states are concatenated.
    pooling : {"cls", "mean", "alternate"}
        State of a text in a layer: that of the [CLS] token, as in the paper, or the mean, or both
        by turns.
    """

    def __init__(self, encoder: PreTrainedModel, *, n_feature_layers: int, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.n_feature_layers = n_feature_layers
        self.pooling = pooling

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that make an equal network, besides the encoder."""
        return {"n_feature_layers": self.n_feature_layers, "pooling": self.pooling}

    # Whether the labels are in parts, see `ShardedNetwork`.
    in_parts: ClassVar[bool] = False

    @property
    def in_step(self) -> bool:
        """Whether all processes take part in what this thread computes."""
        return False

    def check_whole(self) -> None:
        """Check that the labels are not in parts."""

    @property
    def n_features(self) -> int:
        """Number of entries of e."""
        n_poolings = len(self.pooling.split("+"))
        return n_poolings * self.n_feature_layers * int(self.encoder.config.hidden_size)

    @property
    def encoders(self) -> list[PreTrainedModel]:
        """The encoders of the network."""
        return [self.encoder]

    @property
    def product_weights(self) -> list[nn.Parameter]:
        """Weights and biases of matrix products, which prediction may hold in low precision."""
        return [
            weight
            for module in self.modules()
            if isinstance(module, nn.Linear)
            for weight in module.parameters(recurse=False)
        ]

    def place_on(self: Network, device: torch.device) -> Network:
        """Move to `device`, and choose the fastest computation there."""
        for encoder in self.encoders:
            use_fast_attention(encoder, device)
            use_sparse_embedding(encoder, device)
        return self.to(device)

    def represent(self, batch: TokenBatch) -> torch.Tensor:
        """Represent texts by e = [e_1, ..., e_5], e_i the pooled state of the i-th last layer.

        If there are two encoders, the e of the second follows that of the first.
        """
        states = [
            text_states(encoder, batch, self.n_feature_layers, self.pooling)
            for encoder in self.encoders
        ]
        return torch.cat(states, dim=1) if len(states) > 1 else states[0]
