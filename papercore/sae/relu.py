"""ReLU with an L1 penalty, the first SAE of language models (Bricken et al. 2023; Cunningham et al. 2309.08600)."""

import torch

from papercore.sae.base import SAE
from papercore.sae.sparse import Codes, Pairs


class ReLU(SAE):
    """A latent is active where z + b > 0; the sum of codes is penalised, which also shrinks them."""

    penalised = steered = True

    def active(self, scores: torch.Tensor) -> Pairs:
        """Wherever the score is positive."""
        return Pairs.where(scores > 0)

    def penalty(self, codes: Codes, x: torch.Tensor) -> torch.Tensor:
        """L1 norm of the codes, mean over tokens; decoder rows have norm 1."""
        return self.coefficient * codes.values.sum() / len(x)
