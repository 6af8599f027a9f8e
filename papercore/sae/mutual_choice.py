"""Mutual Choice: tokens and latents share one budget of matches (Ayonrinde 2411.02124)."""

import torch

from papercore.sae.batch_topk import BatchTopK
from papercore.sae.sparse import Pairs


class MutualChoice(BatchTopK):
    """The price of a match is the budget's last score; whoever bids at least the price is served.

    The same set as BatchTopK takes, found another way, so each is the other's test.
    """

    def choose(self, scores: torch.Tensor) -> Pairs:
        """All matches at or above the price."""
        budget = self.k * len(scores)
        price = scores.flatten().kthvalue(scores.numel() - budget + 1).values
        return Pairs.where(scores >= price)
