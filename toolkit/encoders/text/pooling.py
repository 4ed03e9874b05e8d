"""What a transformer gives for a batch of texts, and how the vectors of their tokens become one vector a text."""

from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.config import Section


class PoolingConfig(Section):
    """How the vectors of a text's tokens become one vector."""

    layers: tuple[int, ...] = (-1,)
    """Hidden states that are pooled: 0 the embeddings, -1 the last layer. Several are concatenated."""
    static: bool = False
    """Concatenate the pooled spectral vectors of the tokens as well."""
    token_weights: bool = True
    """Weigh tokens by the weights that travel with the encoder (inverse document frequency); otherwise
    alike."""


class TextFeatures(NamedTuple):
    """What the transformer gives for a batch."""

    hidden_states: tuple[Tensor, ...]
    """num_layers + 1 of (B, T, H): the embeddings, then each layer."""
    input_ids: Tensor
    """(B, T)."""
    documents: Tensor | None = None
    """(B, T) which of D texts each token belongs to, -1 for padding, where rows hold several."""
    num_documents: int = 0
    """D."""

    @property
    def last(self) -> Tensor:
        """(B, T, H), the last layer."""
        return self.hidden_states[-1]

    def summed(self, vectors_BTD: Tensor, weights_BT: Tensor) -> Tensor:
        """The weighted sum of each text's vectors, (B, D), or of packed texts as many rows; padding has weight 0."""
        if self.documents is None:
            return torch.einsum("bt,btd->bd", weights_BT, vectors_BTD)
        weighted = (weights_BT[:, :, None] * vectors_BTD).flatten(0, 1)
        sums = weighted.new_zeros(self.num_documents, weighted.shape[1])
        return sums.index_add(0, self.documents.clamp_min(0).flatten(), weighted)
