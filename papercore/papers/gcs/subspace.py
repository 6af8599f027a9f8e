"""The Gaussian concept subspace: many probes of one concept, their mean and spread, samples, and the closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from papercore.probes.directions import mean_cosine, unit
from papercore.probes.logistic import Probe, ProbeError, check_data, fit_probes, scaler

# The paper's share of a subset that trains the probe; the rest is its validation and test (released code).
TRAIN_SHARE = 0.70
# k: the paper's widths of sampling, in standard deviations.
SIGMAS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Subspace:
    """Observed probes of one concept at one layer, and the diagonal Gaussian fitted to them (paper, section 3).

    probes: n_probes directions in standardised coordinates; mean, scale: (d_model,) of the whole pool, which bring any
    text into one common standardised space.
    """

    probes: Probe
    mean: torch.Tensor
    scale: torch.Tensor

    @property
    def observed(self) -> torch.Tensor:
        """Directions of the probes, (n_probes, d_model)."""
        return self.probes.direction

    @cached_property
    def mu(self) -> torch.Tensor:
        """Mean direction, (d_model,)."""
        return self.observed.mean(0)

    @cached_property
    def sigma(self) -> torch.Tensor:
        """Population standard deviation of each coordinate, (d_model,)."""
        return self.observed.std(0, correction=0)

    @property
    def spread(self) -> float:
        """r = sum of sigma^2 over sum of mu^2: noise to signal, the only number that the closed form needs."""
        return float((self.sigma**2).sum() / (self.mu**2).sum())

    def sample(self, n: int, generator: torch.Generator, k: float = 1.0, shape: str = "box") -> torch.Tensor:
        """n vectors (n, d_model) within k sigma of mu; raises ValueError for another shape or k <= 0.

        box: each coordinate uniform on mu +- k sigma, as the released code does and the published curves show;
        gaussian: N(mu, k^2 diag sigma^2), as the paper's formula says; full: the probes' full covariance.
        """
        if k <= 0:
            raise ValueError(f"k = {k} must be above 0: it is the number of standard deviations")
        noise = {"dtype": self.mu.dtype, "generator": generator}
        if shape == "box":
            return self.mu + k * self.sigma * (2 * torch.rand(n, len(self.mu), **noise) - 1)
        if shape == "gaussian":
            return self.mu + k * self.sigma * torch.randn(n, len(self.mu), **noise)
        if shape == "full":
            centred = (self.observed - self.mu) / len(self.observed) ** 0.5
            return self.mu + k * torch.randn(n, len(centred), **noise) @ centred
        raise ValueError(f"shape {shape!r} is unknown; samples are box, gaussian or full")

    def accuracy(self, vectors: torch.Tensor, x: torch.Tensor, y: torch.Tensor, space: str = "standardised"):
        """Share of vectors (n, d_model) that classify each text right: (n_texts,), without intercept.

        standardised: texts through the pool's scaler, the space in which the probes were trained; centred: the pool's
        mean taken off, nothing else; raw: activations as they are, as the released code evaluates its vectors.
        """
        x = x.double() if space == "raw" else x.double() - self.mean
        x = x / self.scale if space == "standardised" else x
        return (((vectors @ x.T) > 0) == (y > 0)).double().mean(0)

    def own_accuracy(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Share of the observed probes, each with its own scaler, that classify each text right: (n_texts,)."""
        return ((self.probes.scores(x) > 0) == (y > 0)).double().mean(0)


def fit_subspace(x, y, *, n_probes: int, subset_per_class: int, generator: torch.Generator, device="cpu") -> Subspace:
    """Train n_probes probes on random subsets of a pool: x (n_texts, d_model), labels y (n_texts,) in {0, 1}.

    A subset holds subset_per_class texts of each class, drawn without replacement; 70 % of it trains, split by class
    (paper's recipe: scaler on the whole subset, L2 with C = 1, no intercept). Raises ProbeError in one sentence.
    """
    x, y = check_data(x, y, "the pool")
    if n_probes < 2:
        raise ProbeError(f"probes = {n_probes}: a distribution over probes needs 2 or more")
    classes = [torch.nonzero(y == label)[:, 0] for label in (1, 0)]
    for label, rows in zip((1, 0), classes, strict=True):
        if len(rows) < subset_per_class:
            raise ProbeError(
                f"subset_per_class = {subset_per_class}, but the pool has {len(rows)} texts with label {label}; "
                "lower subset_per_class or give more texts"
            )
    n_train = round(TRAIN_SHARE * subset_per_class)
    subsets = []
    for _ in range(n_probes):
        drawn = [rows[torch.randperm(len(rows), generator=generator)[:subset_per_class]] for rows in classes]
        subsets.append(torch.cat([rows[:n_train] for rows in drawn] + [rows[n_train:] for rows in drawn]))
    probes = fit_probes(x, y, torch.stack(subsets), n_train=2 * n_train, device=device)
    return Subspace(probes, *scaler(x, "the pool"))


def closed_form(r: float, k: float = 1.0, shape: str = "box", n_probes: int | None = None) -> dict[str, float]:
    """Cosines that independent vectors in high dimension must have, from r alone.

    observed 1 / (1 + r), sampled 1 / (1 + v r), observed_sampled the geometric mean of both, where v = k^2 / 3 for the
    box (the variance of a uniform) and k^2 for a Gaussian. n_probes corrects `observed` for mu being their own mean.
    """
    v = k**2 / 3 if shape == "box" else k**2
    own = 1 if n_probes is None else 1 - r / (n_probes - 1)
    return {
        "observed": own / (1 + r),
        "observed_sampled": ((1 + r) * (1 + v * r)) ** -0.5,
        "sampled": 1 / (1 + v * r),
    }


def measured(space: Subspace, samples: torch.Tensor) -> dict[str, float]:
    """The three mean cosines of observed probes and samples (n, d_model), measured."""
    return {
        "observed": mean_cosine(space.observed),
        "observed_sampled": mean_cosine(space.observed, samples),
        "sampled": mean_cosine(samples),
    }


def arithmetic_subspace(like: Subspace, generator: torch.Generator) -> Subspace:
    """Vectors without a model: a random direction plus independent noise, with the noise-to-signal ratio of `like`."""
    shape = like.observed.shape
    signal = unit(torch.randn(shape[1], dtype=torch.double, generator=generator))
    noise = torch.randn(shape, dtype=torch.double, generator=generator) * (like.spread / shape[1]) ** 0.5
    probes = Probe(signal + noise, like.probes.intercept, like.probes.mean, like.probes.scale)
    return Subspace(probes, like.mean, like.scale)
