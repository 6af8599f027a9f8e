"""ProLU: the bias moves the point where a latent fires and leaves its strength alone (Taggart 2024)."""

import torch

from papercore.sae.relu import ReLU
from papercore.sae.sparse import Pairs


class ProLU(ReLU):
    """code = z where z > 0 and z + b > 0, so nothing is subtracted from what fires.

    A jump has no slope for the bias: here it gets the one that ReLU(z + b) would give it, the first of the two
    surrogates that the post proposes.
    """

    def active(self, scores: torch.Tensor) -> Pairs:
        """Where score and product are both positive."""
        return Pairs.where((scores > 0) & (scores > self.encoder_bias))

    def values(self, z: torch.Tensor, pairs: Pairs, x: torch.Tensor) -> torch.Tensor:
        """z itself; the bias passes a gradient and no value."""
        bias = pairs.of(self.encoder_bias)
        return torch.relu(z) + (bias - bias.detach())
