"""JumpReLU: each latent learns the threshold above which it fires (Rajamanoharan et al. 2407.14435)."""

import torch
from torch import nn

from papercore.sae.base import SAE
from papercore.sae.sparse import Codes, Pairs

BANDWIDTH = 0.1  # of the kernel, for activations with a mean squared norm of d_model


class JumpReLU(SAE):
    """code = s where s = z + b exceeds its latent's threshold; L0 itself is penalised, as (L0 / k - 1)^2.

    A step has no slope, so its threshold learns through a rectangular kernel of width `bandwidth` around it.
    """

    penalised = True
    betas = (0.0, 0.999)

    def __init__(self, d_model: int, n_latents: int, k: int, **rest):
        super().__init__(d_model, n_latents, k, **rest)
        self.log_threshold = nn.Parameter(torch.zeros(n_latents))
        self.register_buffer("bandwidth", torch.tensor(BANDWIDTH))

    @property
    def threshold(self) -> torch.Tensor:
        """Thresholds of the latents, (n_latents,), positive."""
        return self.log_threshold.exp()

    def active(self, scores: torch.Tensor) -> Pairs:
        """Above the threshold, and in training also what is near enough to teach it."""
        near = self.bandwidth / 2 if self.training else 0
        return Pairs.where((scores > self.threshold - near) & (scores > 0))

    def values(self, z: torch.Tensor, pairs: Pairs, x: torch.Tensor) -> torch.Tensor:
        """The score where it exceeds the threshold, else 0."""
        score, fires = z + pairs.of(self.encoder_bias), self._fires(z, pairs)
        # The second term is 0, and has the paper's slope: to its threshold a code has -threshold kernel / width.
        return score * fires.detach() + pairs.of(self.threshold).detach() * (fires - fires.detach())

    def penalty(self, codes: Codes, x: torch.Tensor) -> torch.Tensor:
        """Squared relative distance of L0 from k."""
        l0 = self._fires(codes.z, codes.pairs).sum() / len(x)
        return self.coefficient * (l0 / self.k - 1).square()

    def _fires(self, z: torch.Tensor, pairs: Pairs) -> torch.Tensor:
        # L0 teaches the thresholds alone, as the codes' own step does.
        score = (z + pairs.of(self.encoder_bias)).detach()
        return _Step.apply(score, pairs.of(self.threshold), self.bandwidth)

    def start_at(self, threshold: float) -> None:
        """All thresholds begin there."""
        self.log_threshold.fill_(float(torch.tensor(max(threshold, 1e-3)).log()))

    @torch.no_grad()
    def folded(self, scale: float):
        """As in the base class; the threshold is kept as a logarithm."""
        other = super().folded(scale)
        other.log_threshold.add_(float(torch.tensor(scale).log()))
        other.bandwidth.mul_(scale)
        return other


class _Step(torch.autograd.Function):
    """1 where score > threshold; to the threshold the slope is -kernel((score - threshold) / width) / width."""

    @staticmethod
    def forward(ctx, score, threshold, width):
        ctx.save_for_backward((score - threshold).abs() < width / 2, width)
        return (score > threshold).to(score.dtype)

    @staticmethod
    def backward(ctx, gradient):
        near, width = ctx.saved_tensors
        return None, -gradient * near / width, None
