"""What an SAE must beat to have learned anything: frozen decoder, random codes, principal components. Floor: sae.

Frozen and random dictionaries come close to trained ones on several published scores (2602.14111).
"""

import torch
from torch import nn

from papercore.sae.topk import TopK


class FrozenDecoder(TopK):
    """TopK whose decoder stays at its random unit rows; only the encoder and the biases learn."""

    def __init__(self, d_model: int, n_latents: int, k: int, **rest):
        super().__init__(d_model, n_latents, k, **rest)
        self.decoder.requires_grad_(False)


class RandomCodes(TopK):
    """TopK of random directions, never trained."""

    def __init__(self, d_model: int, n_latents: int, k: int, **rest):
        super().__init__(d_model, n_latents, k, **rest)
        self.requires_grad_(False)


class PCA(nn.Module):
    """The first k principal components of x (n_tokens, d_model): codes are signed projections, all of them active."""

    def __init__(self, x: torch.Tensor, k: int):
        super().__init__()
        self.k, self.d_model = k, x.shape[1]
        mean = x.double().mean(0)
        centred = x.double() - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
        order = values.argsort(descending=True)
        self.register_buffer("mean", mean.float())
        self.register_buffer("decoder", vectors[:, order[:k]].T.float())
        # Share of the variance of x in each direction, largest first, (d_model,).
        self.register_buffer("explained", (values[order] / values.sum()).float())

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Projections of x, (n_tokens, k)."""
        return (x - self.mean) @ self.decoder.T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reconstruction of x."""
        return self.encode(x) @ self.decoder + self.mean
