"""Activations whose features are known: sparse sums of unit directions, with or without a hierarchy. Floor: sae."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from papercore.sae.base import SAEError

WORLDS = 1_000_000


@dataclass(frozen=True)
class World:
    """Known features: directions (n_features, d), chance (n_features,) of each, children: (parent, child) pairs.

    A child fires only where its parent does.
    """

    directions: torch.Tensor
    chance: torch.Tensor
    children: tuple[tuple[int, int], ...] = ()

    def sample(self, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """(x (n, d), codes (n, n_features)): strengths are uniform in [0.5, 1.5]."""
        draw = torch.Generator().manual_seed(seed)
        fires = torch.rand(n, len(self.chance), generator=draw) < self.chance
        for parent, child in self.children:
            fires[:, child] &= fires[:, parent]
        codes = fires * (0.5 + torch.rand(fires.shape, generator=draw))
        return codes @ self.directions, codes


def world(
    n_features: int = 256, d: int = 64, active: float = 5.0, *, zipf: float = 0.0, children: int = 0, seed: int = 0
) -> World:
    """Random unit directions, about `active` of which fire on a token.

    zipf: exponent of their frequencies (0: all alike). children: pairs of features of which one implies the other: the
    parent, among the first ones, fires on a fifth of the tokens, its child on a quarter of those.
    """
    if 2 * children > n_features:
        raise SAEError(f"{children} pairs need {2 * children} features, but there are {n_features}")
    # Not an SAE's own seed: with the same shape its first decoder would be these very directions.
    directions = torch.randn(n_features, d, generator=torch.Generator().manual_seed(WORLDS + seed))
    directions /= directions.norm(dim=1, keepdim=True)
    weight = torch.arange(1, n_features + 1).float().pow(-zipf)
    chance = (active * weight / weight.sum()).clamp(max=0.5)
    pairs = tuple((2 * i, 2 * i + 1) for i in range(children))
    for parent, child in pairs:
        chance[parent], chance[child] = 0.2, 0.25
    return World(directions, chance, pairs)
