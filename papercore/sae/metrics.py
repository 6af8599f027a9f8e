"""What a reconstruction keeps: errors, sparsity, dictionaries compared. Floor: sae. Functions, no state.

A token's mask is the caller's: give the tokens that count. Sums are over tokens; means of ratios would let tokens with
small norms decide.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch

from papercore.sae.base import SAE, SAEError

DENSE_LATENT = 0.1  # density above which a latent is called dense


@torch.no_grad()
def per_token(reconstruct: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, batch: int = 4096) -> pd.DataFrame:
    """A row a token of x (n_tokens, d_model), in squared units of x; columns error, variance, dot, norm2, norm2_hat.

    error: ||x - x_hat||^2; variance: ||x - mean of x||^2; dot: x . x_hat. An SAE's table has l0 as well.
    """
    mean, parts = x.mean(0), []
    for part in x.split(batch):
        codes = reconstruct.encode_sparse(part) if isinstance(reconstruct, SAE) else None
        hat = reconstruct(part) if codes is None else reconstruct.decode(codes, part)
        row = {
            "error": (part - hat).square().sum(1),
            "variance": (part - mean).square().sum(1),
            "dot": (part * hat).sum(1),
            "norm2": part.square().sum(1),
            "norm2_hat": hat.square().sum(1),
        }
        if codes is not None:
            row["l0"] = codes.l0
        parts.append(pd.DataFrame({name: values.cpu().double().numpy() for name, values in row.items()}))
    return pd.concat(parts, ignore_index=True)


def fvu(table: pd.DataFrame) -> float:
    """Fraction of variance unexplained: summed error over summed variance."""
    return float(table["error"].sum() / table["variance"].sum())


def explained_variance(table: pd.DataFrame) -> float:
    """1 - FVU."""
    return 1 - fvu(table)


def cosine(table: pd.DataFrame) -> float:
    """Mean cosine of x and x_hat."""
    return float((table["dot"] / (table["norm2"] * table["norm2_hat"]).pow(0.5).clip(lower=1e-12)).mean())


def l2_ratio(table: pd.DataFrame) -> float:
    """Mean of the norm of x_hat over that of x."""
    return float((table["norm2_hat"] / table["norm2"]).pow(0.5).mean())


def bias(table: pd.DataFrame) -> float:
    """Relative reconstruction bias, E||x_hat||^2 / E[x . x_hat]: 1 is unbiased, below 1 is shrinkage (2404.16014)."""
    return float(table["norm2_hat"].sum() / table["dot"].sum())


@torch.no_grad()
def variance_ratio(reconstruct: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> float:
    """Var(x_hat) / Var(x): sometimes printed as explained variance, and equal to it only where the error is
    uncorrelated with x_hat. An SAE that adds noise scores well here."""
    hat = reconstruct(x)
    return float(hat.var(0, correction=0).sum() / x.var(0, correction=0).sum())


@torch.no_grad()
def density(sae: SAE, x: torch.Tensor, batch: int = 4096) -> torch.Tensor:
    """Share of the tokens x (n_tokens, d_model) on which each latent fires, (n_latents,)."""
    fired = torch.zeros(sae.n_latents)
    for part in x.split(batch):
        codes = sae.encode_sparse(part)
        fired += torch.bincount(codes.pairs.latent[codes.active], minlength=sae.n_latents).cpu()
    return fired / len(x)


def summary(sae: SAE, x: torch.Tensor) -> dict[str, float]:
    """The structural metrics of an SAE on x (n_tokens, d_model), by name."""
    table, dense = per_token(sae, x), density(sae, x)
    return {
        "L0": float(table["l0"].mean()),
        "FVU": fvu(table),
        "explained variance": explained_variance(table),
        "MSE": float(table["error"].mean()) / x.shape[1],
        "cosine": cosine(table),
        "L2 ratio": l2_ratio(table),
        "relative bias": bias(table),
        "dead": float((dense == 0).float().mean()),
        "dense": float((dense > DENSE_LATENT).float().mean()),
    }


def best_cosines(a: torch.Tensor, b: torch.Tensor, *, signed: bool = True) -> torch.Tensor:
    """For each row of a (n, d) its largest cosine with a row of b (m, d), (n,); signed=False: of either sign."""
    if a.shape[1] != b.shape[1]:
        raise SAEError(f"dictionaries of {a.shape[1]} and {b.shape[1]} dimensions cannot be compared")
    unit = [w / w.norm(dim=1, keepdim=True).clamp_min(1e-12) for w in (a, b)]
    cosines = unit[0] @ unit[1].T
    return (cosines if signed else cosines.abs()).amax(1)


def mmcs(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean max cosine similarity of the rows of a with those of b (Sharkey et al. 2022); not symmetric."""
    return float(best_cosines(a, b).mean())
