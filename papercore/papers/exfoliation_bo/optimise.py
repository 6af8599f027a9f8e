"""Bayesian optimisation over the whole grid: a Gaussian process on log area, acquisitions, repeats, recommendation.

Every condition is scored before each proposal, so nothing is lost to an inner optimiser. BoTorch fits and scores; what
is ours is the policy around it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from papercore.papers.exfoliation_bo.simulator import PROTOCOL
from papercore.papers.exfoliation_bo.space import Space

SCALE = PROTOCOL["scale_um2"]  # areas are read as log(1 + area / SCALE)
BETA = PROTOCOL["beta"]  # standard deviations that UCB adds
Acquisition = Literal["logei", "qlognei", "ucb", "thompson"]


@dataclass(frozen=True)
class Surrogate:
    """A fitted Gaussian process and what it says of every condition, in standardised log area."""

    model: object
    mean: np.ndarray  # (n_conditions,)
    sd: np.ndarray  # (n_conditions,)
    shift: float
    spread: float

    @property
    def lengthscales(self) -> np.ndarray:
        """One a knob, (n_knobs,), in the unit cube."""
        return self.model.covar_module.lengthscale.detach().numpy().ravel()


def target(area: np.ndarray, thin: np.ndarray, graded: float = 0.0) -> np.ndarray:
    """What the surrogate models, (n,): log(1 + area / SCALE), plus `graded` times the same of all thin flakes' area."""
    return np.log1p(area / SCALE) + graded * np.log1p(thin / SCALE)


def fit(space: Space, rows: np.ndarray, values: np.ndarray) -> Surrogate:
    """BoTorch's SingleTaskGP (RBF, a length scale a knob, log-normal priors, inferred noise), maximum a posteriori.

    Double precision; values that are all the same are shifted, not divided.
    """
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    shift = float(values.mean())
    spread = float(values.std(ddof=1)) if len(values) > 1 and np.ptp(values) > 0 else 1.0
    x = torch.from_numpy(space.coordinates)
    z = torch.from_numpy((values - shift) / spread)[:, None]
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a retry begins at a point that it draws
        # All areas may be 0 and nothing to standardise; a flat likelihood is retried, and that is all that can be done.
        warnings.simplefilter("ignore")
        model = SingleTaskGP(x[torch.from_numpy(np.asarray(rows))], z, outcome_transform=None)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    model.eval()
    with torch.no_grad():
        found = model.posterior(x)
        mean, sd = found.mean[:, 0].numpy(), found.variance[:, 0].clamp_min(1e-12).sqrt().numpy()
    return Surrogate(model, mean, sd, shift, spread)


def score(
    found: Surrogate, space: Space, rows: np.ndarray, acquisition: Acquisition, draw: np.random.Generator
) -> np.ndarray:
    """Acquisition of every condition, (n_conditions,). The incumbent is the best posterior mean at a tested condition,
    never the best observation, which is the luckiest.
    """
    x = torch.from_numpy(space.coordinates)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jitter on the diagonal
        torch.manual_seed(int(draw.integers(2**31)))
        if acquisition == "logei":
            from botorch.acquisition import LogExpectedImprovement

            return LogExpectedImprovement(found.model, best_f=float(found.mean[rows].max()))(x[:, None]).numpy()
        if acquisition == "qlognei":
            from botorch.acquisition.logei import qLogNoisyExpectedImprovement
            from botorch.sampling import SobolQMCNormalSampler

            sampler = SobolQMCNormalSampler(torch.Size([64]), seed=int(draw.integers(2**31)))
            baseline = x[torch.from_numpy(np.unique(rows))]
            return qLogNoisyExpectedImprovement(found.model, baseline, sampler=sampler)(x[:, None]).numpy()
        if acquisition == "thompson":
            return found.model.posterior(x).rsample()[0, :, 0].numpy()
    return found.mean + BETA * found.sd


def choose(
    space: Space,
    history,
    draw: np.random.Generator,
    *,
    acquisition: Acquisition,
    repeats: Literal["never", "confirm", "free"],
    left: int,
    confirm: int = PROTOCOL["confirm"],
    hurdle: bool = False,
    graded: float = 0.0,
) -> int:
    """The row to try next.

    repeats: "never" tries each condition once; "confirm" too, but spends the last `confirm` trials on the conditions
    that lead by posterior mean; "free" allows any. hurdle: see
    `Hurdle`.
    """
    rows, tested = history.rows, np.unique(history.rows)
    if hurdle and (history.area > 0).any() and (history.area == 0).any():
        found = Hurdle.of(space, history)
        scores, lead = found.optimistic(), found.expected()
    else:
        found = fit(space, rows, target(history.area, history.thin, graded))
        scores, lead = score(found, space, rows, acquisition, draw), found.mean
    if repeats == "confirm" and left <= confirm:
        # Where fewer looks say most: the leaders, each less the more often it was looked at.
        looks = np.bincount(rows, minlength=len(space))
        order = np.argsort(-lead, kind="stable")[:3]
        return int(order[np.argmin(looks[order])])
    scores = scores + 1e-12 * draw.standard_normal(len(scores))
    if repeats != "free":
        scores[tested] = -np.inf
    return int(scores.argmax())


@dataclass(frozen=True)
class Hurdle:
    """Chance that a field has a monolayer times the area where it has one: a GP classifier and a GP on log area."""

    chance: np.ndarray  # (n_conditions,)
    found: Surrogate | None

    @classmethod
    def of(cls, space: Space, history) -> Hurdle:
        """Fit both; with fewer than three areas above 0 there is no second part."""
        from sklearn.gaussian_process import GaussianProcessClassifier
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel

        some = history.area > 0
        kernel = ConstantKernel(4.0, (0.5, 50)) * RBF([1.0] * len(space.shape), (0.3, 10))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # length scales at their bounds
            classifier = GaussianProcessClassifier(kernel, random_state=0).fit(space.coordinates[history.rows], some)
        chance = classifier.predict_proba(space.coordinates)[:, 1]
        positive = fit(space, history.rows[some], np.log(history.area[some])) if some.sum() >= 3 else None
        return cls(chance, positive)

    def expected(self) -> np.ndarray:
        """Expected area up to a constant, in logs, (n_conditions,)."""
        if self.found is None:
            return np.log(self.chance)
        return np.log(self.chance) + self.found.shift + self.found.spread * self.found.mean

    def optimistic(self) -> np.ndarray:
        """The same with BETA standard deviations more area, (n_conditions,)."""
        return self.expected() + (0 if self.found is None else BETA * self.found.spread * self.found.sd)


def recommend(space: Space, history, *, hurdle: bool = False, graded: float = 0.0) -> int:
    """The row to recommend: the largest posterior mean over all conditions."""
    if hurdle and (history.area > 0).any() and (history.area == 0).any():
        return int(Hurdle.of(space, history).expected().argmax())
    return int(fit(space, history.rows, target(history.area, history.thin, graded)).mean.argmax())
