"""Directions in activation space and how they compare. Floor: probes. Functions of tensors, no state."""

from __future__ import annotations

import torch


def mean_difference(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Mean of positive minus mean of negative activations, (n, d_model) each: (d_model,) (Marks and Tegmark 2023)."""
    return positive.mean(0) - negative.mean(0)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors (..., d_model) at norm 1; raises ValueError on a zero vector, which has no direction."""
    norm = vectors.norm(dim=-1, keepdim=True)
    if bool((norm == 0).any()):
        raise ValueError(f"{int((norm == 0).sum())} of {norm.numel()} vectors are zero and have no direction")
    return vectors / norm


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine of every vector of a (n, d_model) with every one of b (m, d_model): (n, m)."""
    return unit(a) @ unit(b).T


def mean_cosine(a: torch.Tensor, b: torch.Tensor | None = None) -> float:
    """Mean cosine over all pairs of one vector of a (n, d_model) and one of b; without b, over the pairs within a.

    By linearity, from sums of unit vectors: no n x m matrix is made.
    """
    total = unit(a).sum(0)
    if b is not None:
        return float(total @ unit(b).sum(0)) / (len(a) * len(b))
    if len(a) < 2:
        raise ValueError(f"pairs need two vectors or more, but there is {len(a)}")
    return (float(total @ total) - len(a)) / (len(a) * (len(a) - 1))


def pair_cosines(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(first, second, cosine) of all n (n - 1) / 2 pairs of vectors (n, d_model)."""
    if len(vectors) < 2:
        raise ValueError(f"pairs need two vectors or more, but there is {len(vectors)}")
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1)
    return first, second, cosines(vectors, vectors)[first, second]
