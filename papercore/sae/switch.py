"""Switch SAE: a router sends each token to one of several small TopK SAEs (Mudide et al. 2410.08201)."""

import torch
from torch import nn

from papercore.sae.base import SAE, SAEError
from papercore.sae.sparse import Codes, Pairs

BALANCE = 0.01  # weight of the load balance


class Switch(SAE):
    """Only the chosen expert's latents are computed; what it writes is scaled by the router's probability.

    Raises SAEError where the experts cannot have latents alike, or k is more than one of them has.
    """

    scaling = ("encoder_bias", "decoder_bias", "router_bias")

    def __init__(self, d_model: int, n_latents: int, k: int, *, experts: int = 4, seed: int = 0):
        super().__init__(d_model, n_latents, k, seed=seed)
        if n_latents % experts:
            raise SAEError(f"{n_latents} latents cannot be dealt to {experts} experts alike; choose a multiple")
        if k > n_latents // experts:
            raise SAEError(f"k = {k} active latents of an expert's {n_latents // experts}: choose a smaller k")
        self.experts, self.size = experts, n_latents // experts
        rows = torch.randn(experts, d_model, generator=torch.Generator().manual_seed(seed + 2)) / d_model**0.5
        self.router = nn.Parameter(rows)
        self.router_bias = nn.Parameter(torch.zeros(d_model))

    def route(self, x: torch.Tensor) -> torch.Tensor:
        """Probability of each expert, (n_tokens, experts)."""
        return torch.softmax((x - self.router_bias) @ self.router.T, dim=1)

    @torch.no_grad()
    def products(self, x: torch.Tensor) -> torch.Tensor:
        """z of the chosen expert's latents, minus infinity elsewhere."""
        chosen, shift = self.route(x).argmax(1), self.shift()
        z = x.new_full((len(x), self.n_latents), float("-inf"))
        for expert in range(self.experts):
            rows = (chosen == expert).nonzero()[:, 0]
            own = slice(expert * self.size, (expert + 1) * self.size)
            z[rows, own] = torch.addmm(shift[own], x[rows], self.encoder[own].T)
        return z

    def active(self, scores: torch.Tensor) -> Pairs:
        """The k largest scores of the expert."""
        latent = scores.topk(self.k, dim=1, sorted=False).indices.sort(1).values
        row = torch.arange(len(scores), device=scores.device).repeat_interleave(self.k)
        return Pairs(row, latent.flatten(), tuple(scores.shape))

    def values(self, z: torch.Tensor, pairs: Pairs, x: torch.Tensor) -> torch.Tensor:
        """ReLU times the probability of the expert that the latent belongs to."""
        return super().values(z, pairs, x) * self.route(x).flatten().index_select(
            0, pairs.row * self.experts + pairs.latent // self.size
        )

    def penalty(self, codes: Codes, x: torch.Tensor) -> torch.Tensor:
        """experts times the sum of share and mean probability of each: 1 where all are used alike."""
        p = self.route(x)
        share = torch.bincount(p.argmax(1), minlength=self.experts) / len(p)
        return BALANCE * self.experts * (share * p.mean(0)).sum()

    def auxk(self, x: torch.Tensor, error: torch.Tensor, dead: torch.Tensor | None) -> torch.Tensor:
        """None: a dead latent of another expert cannot answer (switched off in the authors' trainer too)."""
        return error.new_zeros(())

    @torch.no_grad()
    def folded(self, scale: float):
        """As in the base class; the router hears the same."""
        other = super().folded(scale)
        other.router.div_(scale)
        return other
