"""BatchTopK: the k n_tokens largest latents of a whole batch (Bussmann et al. 2412.06410)."""

import torch

from papercore.sae.base import SAE
from papercore.sae.sparse import Pairs, largest

MEMORY = 0.99  # of the running threshold; 0.999 in the paper, whose runs are a thousand times longer


class BatchTopK(SAE):
    """A token with much to say may take more latents than k, another fewer.

    In evaluation a token must not depend on its neighbours: there a latent is active above `threshold`, the running
    mean of the smallest score that training kept.
    """

    scaling = ("encoder_bias", "decoder_bias", "threshold")

    def __init__(self, d_model: int, n_latents: int, k: int, **rest):
        super().__init__(d_model, n_latents, k, **rest)
        self.register_buffer("threshold", torch.tensor(0.0))
        self.last = 0.0  # smallest score of the batch before, a guess for the next one

    def active(self, scores: torch.Tensor) -> Pairs:
        """In training the k n_tokens largest scores of the batch, else those above the threshold."""
        if not self.training:
            return Pairs.where(scores > self.threshold)
        pairs = self.choose(scores)
        self.remember(scores[pairs.row, pairs.latent].min())
        return pairs

    def choose(self, scores: torch.Tensor) -> Pairs:
        """The rule of selection in training."""
        # A little below the last batch's smallest score few candidates are left, and almost never too few.
        return largest(scores, self.k * len(scores), 0.9 * self.last if self.last > 0 else float("-inf"))

    def remember(self, smallest: torch.Tensor) -> None:
        """Let the threshold follow the smallest score that was kept."""
        smallest = smallest.clamp_min(0)
        self.last = float(smallest)
        self.threshold.copy_(MEMORY * self.threshold + (1 - MEMORY) * smallest if self.threshold else smallest)
