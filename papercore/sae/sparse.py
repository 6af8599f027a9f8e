"""Codes as pairs (token, latent): only the active ones are multiplied, forward and backward. Floor: sae.

A step of an SAE is five matrix products of n_tokens x n_latents x d_model; all but the first need only the active
pairs, about 1 % of them. `embedding_bag` is a product with a sparse matrix in plain torch, on any device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn.functional import embedding_bag

# Above this share of active pairs dense products are faster (benchmarks/sae_throughput.md).
DENSE = 0.1


@dataclass(frozen=True)
class Pairs:
    """Where codes may differ from zero: rows (n,), ascending, and latents (n,), of codes (n_tokens, n_latents)."""

    row: torch.Tensor
    latent: torch.Tensor
    shape: tuple[int, int]

    @classmethod
    def where(cls, mask: torch.Tensor) -> Pairs:
        """The true places of mask (n_tokens, n_latents)."""
        return cls(*mask.nonzero(as_tuple=True), tuple(mask.shape))

    @property
    def dense(self) -> bool:
        """Whether the pairs are so many that dense products are faster."""
        return len(self.row) > DENSE * self.shape[0] * self.shape[1]

    @cached_property
    def offsets(self) -> torch.Tensor:
        """Where each token's pairs begin, (n_tokens,)."""
        return _offsets(self.row, self.shape[0])

    @cached_property
    def by_latent(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(order of the pairs by latent, where each latent's pairs begin)."""
        return torch.argsort(self.latent, stable=True), _offsets(self.latent, self.shape[1])

    def of(self, per_latent: torch.Tensor) -> torch.Tensor:
        """What `per_latent` (n_latents,) holds for each pair's latent, (n,)."""
        # Indexing by [] would add up its gradient in whatever order threads come; this does it in one order.
        return per_latent.index_select(0, self.latent)

    def scatter(self, values: torch.Tensor) -> torch.Tensor:
        """Dense (n_tokens, n_latents) matrix with the values at the pairs."""
        full = values.new_zeros(self.shape)
        full[self.row, self.latent] = values
        return full


@dataclass(frozen=True)
class Codes:
    """Codes of a batch: values (n,) >= 0 at pairs, and the products z (n,) that they come from."""

    pairs: Pairs
    values: torch.Tensor
    z: torch.Tensor | None = None

    def dense(self) -> torch.Tensor:
        """The codes as a matrix, (n_tokens, n_latents)."""
        return self.pairs.scatter(self.values)

    @property
    def active(self) -> torch.Tensor:
        """Which pairs are above zero, (n,)."""
        return self.values > 0

    @property
    def l0(self) -> torch.Tensor:
        """Active latents of each token, (n_tokens,)."""
        return torch.bincount(self.pairs.row[self.active], minlength=self.pairs.shape[0])

    def only(self, keep: torch.Tensor) -> Codes:
        """The codes at the pairs where keep (n,) is true."""
        pairs = Pairs(self.pairs.row[keep], self.pairs.latent[keep], self.pairs.shape)
        return Codes(pairs, self.values[keep])


def weighted_sum(codes: Codes, weight: torch.Tensor) -> torch.Tensor:
    """codes @ weight, (n_tokens, d), with gradients for values and weight (n_latents, d)."""
    return _WeightedSum.apply(codes.values, weight, codes.pairs)


def products_at(pairs: Pairs, x: torch.Tensor, weight: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    """(x @ weight.T) at the pairs, (n,), read from `products`, where it stands already; gradients for x and weight."""
    return _ProductsAt.apply(weight, x, products, pairs)


def largest(scores: torch.Tensor, count: int, floor: float = float("-inf")) -> Pairs:
    """The `count` largest of scores (n_tokens, n_latents), wherever they are.

    floor: a guess below the smallest of them; a good one leaves few candidates to sort, a bad one changes nothing.
    """
    flat = scores.flatten()
    candidates = (flat > floor).nonzero()[:, 0]
    if len(candidates) < count:
        candidates = torch.arange(len(flat), device=flat.device)
    kept = candidates[flat[candidates].topk(count, sorted=False).indices].sort().values
    return Pairs(kept // scores.shape[1], kept % scores.shape[1], tuple(scores.shape))


def _offsets(numbers: torch.Tensor, count: int) -> torch.Tensor:
    counts = torch.bincount(numbers, minlength=count)
    return counts.cumsum(0) - counts


def _product(pairs: Pairs, values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """codes @ weight, (n_tokens, d)."""
    if pairs.dense:
        return pairs.scatter(values) @ weight
    return embedding_bag(pairs.latent, weight, pairs.offsets, mode="sum", per_sample_weights=values)


def _transposed(pairs: Pairs, values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """codes.T @ x, (n_latents, d)."""
    if pairs.dense:
        return pairs.scatter(values).T @ x
    order, offsets = pairs.by_latent
    return embedding_bag(pairs.row[order], x, offsets, mode="sum", per_sample_weights=values[order])


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, weight, pairs):
        ctx.save_for_backward(values, weight)
        ctx.pairs = pairs
        return _product(pairs, values, weight)

    @staticmethod
    def backward(ctx, gradient):
        values, weight = ctx.saved_tensors
        pairs, of_values, of_weight = ctx.pairs, None, None
        gradient = gradient.contiguous()
        if ctx.needs_input_grad[0] and pairs.dense:
            of_values = (gradient @ weight.T)[pairs.row, pairs.latent]
        elif ctx.needs_input_grad[0]:
            # embedding_bag's own gradient for its weights per sample: a dot product a pair.
            with torch.enable_grad():
                leaf = values.detach().requires_grad_()
                again = embedding_bag(pairs.latent, weight, pairs.offsets, mode="sum", per_sample_weights=leaf)
                (of_values,) = torch.autograd.grad(again, leaf, gradient)
        if ctx.needs_input_grad[1]:
            of_weight = _transposed(pairs, values, gradient)
        return of_values, of_weight, None


class _ProductsAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, x, products, pairs):
        ctx.save_for_backward(weight, x)
        ctx.pairs = pairs
        return products[pairs.row, pairs.latent]

    @staticmethod
    def backward(ctx, gradient):
        weight, x = ctx.saved_tensors
        of_weight = _transposed(ctx.pairs, gradient, x) if ctx.needs_input_grad[0] else None
        of_x = _product(ctx.pairs, gradient, weight) if ctx.needs_input_grad[1] else None
        return of_weight, of_x, None, None
