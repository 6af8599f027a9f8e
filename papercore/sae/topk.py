"""TopK: the k largest latents of each token (Gao et al. 2406.04093)."""

import torch

from papercore.sae.base import SAE
from papercore.sae.sparse import Pairs


class TopK(SAE):
    """L0 is set, not bought with a penalty, so nothing shrinks the codes."""

    def active(self, scores: torch.Tensor) -> Pairs:
        """The k largest scores of each row; ReLU may still leave fewer above zero."""
        latent = scores.topk(self.k, dim=1, sorted=False).indices.sort(1).values
        row = torch.arange(len(scores), device=scores.device).repeat_interleave(self.k)
        return Pairs(row, latent.flatten(), tuple(scores.shape))
