"""What every sparse autoencoder shares; an architecture is a rule for which latents are active. Floor: sae.

    z = (x - decoder_bias) @ encoder.T        products, (n_tokens, n_latents)
    codes = values of z at the active pairs   codes >= 0
    x_hat = codes @ decoder + decoder_bias

A subclass says `active`: the pairs that may differ from zero, and `values`: what stands there.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from papercore.sae.sparse import Codes, Pairs, products_at, weighted_sum

# Share of AuxK in the loss, and how many dead latents it wakes: Gao et al. 2024 (2406.04093).
AUXK_SHARE = 1 / 32


class SAEError(ValueError):
    """An SAE, its data or its settings cannot be used as asked."""


@dataclass(frozen=True)
class Loss:
    """Loss of a batch: total to be minimised, of which mse (per number of x), and the codes it was computed from."""

    total: torch.Tensor
    mse: torch.Tensor
    codes: Codes


class SAE(nn.Module):
    """Sparse autoencoder with n_latents unit decoder rows for activations (n_tokens, d_model).

    k: active latents a token that it aims at, L0. Raises SAEError for k or n_latents that cannot be.
    """

    penalised: ClassVar[bool] = False  # a penalty decides L0
    steered: ClassVar[bool] = False  # it knows no k itself: the trainer steers its coefficient until L0 is k
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    # Parameters that scale as the activations do: with them all times s, codes and x_hat of s x are s times as large.
    scaling: ClassVar[tuple[str, ...]] = ("encoder_bias", "decoder_bias")

    def __init__(self, d_model: int, n_latents: int, k: int, *, seed: int = 0, d_out: int | None = None):
        super().__init__()
        if not 0 < k <= n_latents:
            raise SAEError(f"k = {k} active latents of {n_latents}: choose k from 1 to {n_latents}")
        d_out = d_out or d_model
        self.d_model, self.d_out, self.n_latents, self.k, self.seed = d_model, d_out, n_latents, k, seed
        rows = torch.randn(n_latents, d_out, generator=torch.Generator().manual_seed(seed))
        self.decoder = nn.Parameter(rows / rows.norm(dim=1, keepdim=True))
        # Tied at the start: a latent reads what it writes (Gao et al. 2024).
        tied = d_out == d_model
        rows = rows if tied else torch.randn(n_latents, d_model, generator=torch.Generator().manual_seed(seed + 1))
        self.encoder = nn.Parameter(rows / rows.norm(dim=1, keepdim=True))
        self.encoder_bias = nn.Parameter(torch.zeros(n_latents))
        self.decoder_bias = nn.Parameter(torch.zeros(d_out))
        self.centred = tied  # what a decoder writes lies where its encoder reads
        self.coefficient = 1.0

    # The two methods of an architecture.
    def active(self, scores: torch.Tensor) -> Pairs:
        """Pairs that may differ from zero, from scores = z + encoder_bias (n_tokens, n_latents)."""
        raise NotImplementedError

    def values(self, z: torch.Tensor, pairs: Pairs, x: torch.Tensor) -> torch.Tensor:
        """Codes (n,) at the pairs, from their z (n,)."""
        return torch.relu(z + pairs.of(self.encoder_bias))

    # What they are used for.
    def encode_sparse(self, x: torch.Tensor) -> Codes:
        """Codes of x (n_tokens, d_model), the active ones alone; raises SAEError for x that does not fit."""
        if x.ndim != 2 or x.shape[1] != self.d_model or not len(x):
            raise SAEError(f"activations {tuple(x.shape)} do not fit: (n_tokens, {self.d_model}) with n_tokens > 0")
        products = self.products(x)
        with torch.no_grad():
            pairs = self.active(products + self.encoder_bias)
        z = self.at(pairs, x, products)
        return Codes(pairs, self.values(z, pairs, x), z)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Codes of x (n_tokens, d_model) as a matrix, (n_tokens, n_latents)."""
        return self.encode_sparse(x).dense()

    def decode(self, codes: Codes | torch.Tensor, x: torch.Tensor | None = None) -> torch.Tensor:
        """Reconstruction (n_tokens, d_out) from codes, sparse or a matrix; x is the input, where a skip needs it."""
        written = weighted_sum(codes, self.decoder) if isinstance(codes, Codes) else codes @ self.decoder
        return written + self.decoder_bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reconstruction of x."""
        return self.decode(self.encode_sparse(x), x)

    def loss(self, x: torch.Tensor, dead: torch.Tensor | None = None, target: torch.Tensor | None = None) -> Loss:
        """Loss of a batch x (n_tokens, d_model); dead: latents (n_latents,) to be woken; target: instead of x."""
        target = x if target is None else target
        codes = self.encode_sparse(x)
        error = target - self.decode(codes, x)
        mse = error.square().mean()
        return Loss(mse + self.penalty(codes, x) + self.auxk(x, error, dead), mse, codes)

    def penalty(self, codes: Codes, x: torch.Tensor) -> torch.Tensor:
        """What is added to the squared error."""
        return codes.values.new_zeros(())

    def auxk(self, x: torch.Tensor, error: torch.Tensor, dead: torch.Tensor | None) -> torch.Tensor:
        """AuxK: the d_model / 2 strongest dead latents of a token learn to reconstruct the error, which is detached."""
        if dead is None or not dead.any() or self.penalised:
            return error.new_zeros(())
        numbers = dead.nonzero()[:, 0]
        products = self.products(x)
        scores = (products + self.encoder_bias)[:, numbers].detach()
        count = min(len(numbers), max(1, self.d_model // 2))
        best = scores.topk(count, dim=1, sorted=False).indices.sort(1).values
        row = torch.arange(len(x), device=x.device).repeat_interleave(count)
        pairs = Pairs(row, numbers[best.flatten()], (len(x), self.n_latents))
        codes = Codes(pairs, torch.relu(self.at(pairs, x, products) + pairs.of(self.encoder_bias)))
        error = error.detach()
        missed = (error - weighted_sum(codes, self.decoder)).square().sum() / error.square().sum()
        # In units of the error, as Gao et al. have it: a small error is woken for as loudly as a large one.
        return AUXK_SHARE * missed.nan_to_num()

    @torch.no_grad()
    def products(self, x: torch.Tensor) -> torch.Tensor:
        """z (n_tokens, n_latents), without gradient."""
        return torch.addmm(self.shift(), x, self.encoder.T)

    def shift(self) -> torch.Tensor:
        """What the decoder's bias takes off z, (n_latents,)."""
        return -(self.encoder @ self.decoder_bias) if self.centred else torch.zeros_like(self.encoder_bias)

    def at(self, pairs: Pairs, x: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
        """z at the pairs, (n,), with gradient."""
        shift = self.shift()
        # The products hold the shift's value already; adding its own difference from itself brings its gradient.
        return products_at(pairs, x, self.encoder, products) + pairs.of(shift - shift.detach())

    # What a trainer needs.
    @torch.no_grad()
    def calibrate(self, x: torch.Tensor) -> None:
        """Start where the data are: decoder_bias at their geometric median, penalised latents firing as k asks.

        Where a penalty alone brings L0 to k they fire twice as often: it has something to take away.
        """
        if self.centred:
            self.decoder_bias.copy_(geometric_median(x))
        if self.penalised:
            share = 1 - min(0.5, (2 if self.steered else 1) * self.k / self.n_latents)
            z = self.products(x[:1024]).flatten()
            self.start_at(float(z.kthvalue(max(1, int(share * len(z)))).values))

    def start_at(self, threshold: float) -> None:
        """Let latents begin to fire where z exceeds the threshold."""
        self.encoder_bias.fill_(-threshold)

    @torch.no_grad()
    def normalise(self) -> None:
        """Decoder rows to norm 1."""
        self.decoder /= self.decoder.norm(dim=1, keepdim=True).clamp_min(1e-12)

    @torch.no_grad()
    def project(self) -> None:
        """Take the part along its own row off the decoder's gradient: it would only change the norm."""
        if self.decoder.grad is not None:
            along = (self.decoder.grad * self.decoder).sum(1, keepdim=True)
            self.decoder.grad -= along * self.decoder

    def progress(self, share: float) -> None:
        """Hear how much of the training is done, 0 to 1."""

    @torch.no_grad()
    def folded(self, scale: float):
        """The same SAE for activations `scale` times as large: x_hat(scale x) = scale x_hat(x), decoder rows at 1."""
        other = copy.deepcopy(self)
        for name in self.scaling:
            getattr(other, name).mul_(scale)
        return other


def geometric_median(x: torch.Tensor, rounds: int = 20) -> torch.Tensor:
    """Point with the least summed distance to x (n, d), by Weiszfeld's iteration: (d,)."""
    point = x.mean(0)
    for _ in range(rounds):
        weight = 1 / (x - point).norm(dim=1).clamp_min(1e-6)
        point = (weight[:, None] * x).sum(0) / weight.sum()
    return point
