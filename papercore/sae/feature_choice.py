"""Feature Choice: each latent keeps its strongest tokens (Ayonrinde 2411.02124)."""

import torch

from papercore.sae.base import SAE, SAEError
from papercore.sae.batch_topk import MEMORY
from papercore.sae.sparse import Pairs


class FeatureChoice(SAE):
    """The budget of k n_tokens is dealt to the latents alike: each has tokens of every training batch to learn from.

    A latent's own threshold, the running mean of the smallest score it kept, decides in evaluation, where a token must
    not depend on its neighbours; the paper leaves that open.
    """

    scaling = ("encoder_bias", "decoder_bias", "threshold")

    def __init__(self, d_model: int, n_latents: int, k: int, **rest):
        super().__init__(d_model, n_latents, k, **rest)
        self.register_buffer("threshold", torch.zeros(n_latents))
        self.register_buffer("seen", torch.tensor(False))

    def share(self, n_tokens: int) -> int:
        """Tokens that each latent keeps of a batch; raises SAEError for a batch too small to give each one."""
        each = self.k * n_tokens // self.n_latents
        if each < 1:
            raise SAEError(
                f"k = {self.k} and a batch of {n_tokens} give less than one token to each of {self.n_latents} latents; "
                f"take {-(-self.n_latents // self.k)} tokens or more"
            )
        return each

    def active(self, scores: torch.Tensor) -> Pairs:
        """In training each column's largest scores, else those above the latent's threshold."""
        if not self.training:
            return Pairs.where(scores > self.threshold)
        kept = scores.topk(self.share(len(scores)), dim=0, sorted=False)
        smallest = kept.values.amin(0).clamp_min(0)
        self.threshold.copy_(MEMORY * self.threshold + (1 - MEMORY) * smallest if self.seen else smallest)
        self.seen.fill_(True)
        mask = torch.zeros_like(scores, dtype=torch.bool).scatter_(0, kept.indices, True)
        return Pairs.where(mask)
