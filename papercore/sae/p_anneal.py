"""p-annealing: an L_p penalty whose p falls from 1 to 0.2 during training (Karvonen et al. 2408.00113)."""

import torch

from papercore.sae.relu import ReLU
from papercore.sae.sparse import Codes

LAST_P = 0.2
# A code at 0 would have an infinite slope.
SMALL = 1e-2


class PAnneal(ReLU):
    """As p falls, large codes are penalised less and less for their size, and small ones more for being there."""

    p = 1.0

    def progress(self, share: float) -> None:
        """p falls linearly over the middle of the training: it starts at 1 and stays at LAST_P for the last fifth."""
        done = min(max((share - 0.2) / 0.6, 0.0), 1.0)
        self.p = 1 - done * (1 - LAST_P)

    def penalty(self, codes: Codes, x: torch.Tensor) -> torch.Tensor:
        """Sum of codes to the power p, mean over tokens."""
        return self.coefficient * (codes.values + SMALL).pow(self.p).sum() / len(x)
