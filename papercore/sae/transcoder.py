"""Relatives that read one thing and write another: transcoder (Dunefsky et al. 2406.11944) and skip-transcoder
(Paulo et al. 2501.18823), and the crosscoder over several layers (Lindsey et al. 2024)."""

import torch
from torch import nn

from papercore.sae.topk import TopK


class Transcoder(TopK):
    """Sparse stand-in for a module: reads its input (n_tokens, d_model), writes its output (n_tokens, d_out).

    decoder_bias is not taken off the input: it lives in another space. skip adds a linear path beside the latents.
    """

    def __init__(
        self, d_model: int, n_latents: int, k: int, *, d_out: int | None = None, skip: bool = False, seed: int = 0
    ):
        super().__init__(d_model, n_latents, k, d_out=d_out, seed=seed)
        self.centred = False
        self.skip = nn.Parameter(torch.zeros(self.d_out, d_model)) if skip else None

    def decode(self, codes, x: torch.Tensor | None = None) -> torch.Tensor:
        """Module output (n_tokens, d_out); with a skip, x is needed."""
        written = super().decode(codes)
        return written if self.skip is None else written + x @ self.skip.T


class Crosscoder(TopK):
    """One code for several layers at once: an SAE of their activations side by side, (n_tokens, n_layers d_model)."""

    def __init__(self, d_model: int, n_layers: int, n_latents: int, k: int, *, seed: int = 0):
        super().__init__(d_model * n_layers, n_latents, k, seed=seed)
        self.n_layers = n_layers

    def norms(self) -> torch.Tensor:
        """Norm of each latent's decoder at each layer, (n_latents, n_layers): where it lives."""
        return self.decoder.unflatten(1, (self.n_layers, -1)).norm(dim=2)
