"""Gated SAE: one path decides whether a latent fires, the other how strongly (Rajamanoharan et al. 2404.16014)."""

import torch
from torch import nn

from papercore.sae.base import SAE
from papercore.sae.sparse import Codes, Pairs, weighted_sum


class Gated(SAE):
    """gate = z + b_gate, magnitude = ReLU(exp(r) z + b_mag), code = magnitude where gate > 0.

    The penalty and a reconstruction of its own, through a frozen decoder, train the gate: so the L1 norm shrinks the
    gate's strength and leaves the magnitude alone. encoder_bias is b_gate.
    """

    penalised = steered = True
    betas = (0.0, 0.999)
    scaling = ("encoder_bias", "decoder_bias", "magnitude_bias")

    def __init__(self, d_model: int, n_latents: int, k: int, **rest):
        super().__init__(d_model, n_latents, k, **rest)
        self.log_gain = nn.Parameter(torch.zeros(n_latents))
        self.magnitude_bias = nn.Parameter(torch.zeros(n_latents))

    def active(self, scores: torch.Tensor) -> Pairs:
        """Wherever the gate is open."""
        return Pairs.where(scores > 0)

    def values(self, z: torch.Tensor, pairs: Pairs, x: torch.Tensor) -> torch.Tensor:
        """The magnitude; whether the gate is open has no gradient here."""
        return torch.relu(z * pairs.of(self.log_gain.exp()) + pairs.of(self.magnitude_bias))

    def penalty(self, codes: Codes, x: torch.Tensor) -> torch.Tensor:
        """L1 norm of the gate, and the error of x reconstructed from the gate by a decoder that does not learn here."""
        gate = Codes(codes.pairs, torch.relu(codes.z + codes.pairs.of(self.encoder_bias)))
        x_gate = weighted_sum(gate, self.decoder.detach()) + self.decoder_bias.detach()
        return self.coefficient * gate.values.sum() / len(x) + (x - x_gate).square().mean()

    def start_at(self, threshold: float) -> None:
        """Both paths begin at the threshold."""
        super().start_at(threshold)
        self.magnitude_bias.fill_(-threshold)
