"""Linear probes: logistic regression, one at a time with scikit-learn or many at once in torch. Floor: probes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


class ProbeError(ValueError):
    """Data that no probe can be trained on."""


@dataclass(frozen=True)
class Probe:
    """Probes trained on standardised activations: score = ((x - mean) / scale) @ direction + intercept.

    direction, mean, scale: (..., d_model) float64; intercept: (...). Leading dimensions count probes.
    """

    direction: torch.Tensor
    intercept: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def raw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(direction, intercept) with the scaler folded in: the same scores from raw activations."""
        direction = self.direction / self.scale
        return direction, self.intercept - (self.mean * direction).sum(-1)

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """Signed scores (..., n_texts) of raw activations (n_texts, d_model)."""
        direction, intercept = self.raw()
        return direction @ x.double().T + intercept[..., None]


def check_data(x, y, where: str = "probe data") -> tuple[torch.Tensor, torch.Tensor]:
    """Activations (n_texts, d_model) as float64 and labels (n_texts,) in {0, 1}; raises ProbeError in one sentence."""
    x = torch.as_tensor(np.asarray(x)).double() if not isinstance(x, torch.Tensor) else x.double()
    y = torch.as_tensor(np.asarray(y)).double() if not isinstance(y, torch.Tensor) else y.double()
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ProbeError(f"{where}: activations {tuple(x.shape)} and labels {tuple(y.shape)} must be (n, d) and (n,)")
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).any(1).sum())
        raise ProbeError(f"{where}: {bad} of {len(x)} activations are NaN or infinite; read them again in float32")
    if not torch.isin(y, torch.tensor([0.0, 1.0], dtype=y.dtype)).all():
        raise ProbeError(f"{where}: labels must be 0 or 1")
    if y.min() == y.max():
        raise ProbeError(f"{where}: all {len(y)} labels are {int(y[0])}; a probe needs both classes")
    return x, y


def scaler(x: torch.Tensor, where: str = "probe data") -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and population standard deviation of (..., n, d) over n; raises ProbeError on a constant feature."""
    mean, scale = x.mean(-2), x.std(-2, correction=0)
    # Constant to rounding: dividing by it would blow noise up, or by 0 make NaN.
    constant = (scale <= 1e-12 * (1 + mean.abs())).reshape(-1, scale.shape[-1]).any(0)
    if constant.any():
        count, first = int(constant.sum()), int(constant.nonzero()[0])
        raise ProbeError(
            f"{where}: {count} of {scale.shape[-1]} features do not vary (first: {first}); no scaler fits them"
        )
    return mean, scale


def fit_probe(x, y, *, c: float = 1.0, fit_intercept: bool = True, max_iter: int = 1000) -> Probe:
    """One probe with scikit-learn (lbfgs, L2) on activations (n_texts, d_model); raises ProbeError."""
    from sklearn.linear_model import LogisticRegression

    x, y = check_data(x, y)
    mean, scale = scaler(x)
    model = LogisticRegression(C=c, fit_intercept=fit_intercept, max_iter=max_iter, tol=1e-6)
    model.fit(((x - mean) / scale).numpy(), y.numpy())
    intercept = torch.as_tensor(model.intercept_[0] if fit_intercept else 0.0, dtype=torch.double)
    return Probe(torch.from_numpy(model.coef_[0]), intercept, mean, scale)


def fit_probes(
    x, y, subsets: torch.Tensor, *, n_train: int | None = None, c: float = 1.0, device: str = "cpu", chunk: int = 64
) -> Probe:
    """One probe a subset, all without intercept, trained together.

    x: (n_texts, d_model), y: (n_texts,), subsets: (n_probes, m) rows of x. The scaler is fitted on the whole subset,
    the regression on its first n_train rows (all by default), as GCS does. Returns directions (n_probes, d_model).
    """
    x, y = check_data(x, y)
    n_train = subsets.shape[1] if n_train is None else n_train
    x, y = x.to(device), y.to(device)
    parts = []
    for rows in subsets.split(chunk):
        part = x[rows.to(device)]
        mean, scale = scaler(part)
        train = (part[:, :n_train] - mean[:, None]) / scale[:, None]
        direction = fit_logistic(train, y[rows[:, :n_train].to(device)], c=c)
        parts.append((direction.cpu(), mean.cpu(), scale.cpu()))
    direction, mean, scale = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Probe(direction, torch.zeros(len(direction), dtype=torch.double), mean, scale)


def fit_logistic(x: torch.Tensor, y: torch.Tensor, *, c: float = 1.0, tol: float = 1e-8, max_iter: int = 100):
    """Minimise |w|^2 / 2 + c * sum log(1 + exp(-(2y - 1) x.w)) for each of many problems by Newton's method.

    x: (n_probes, n, d), y: (n_probes, n) in {0, 1}; returns w (n_probes, d). It works in the smaller of n and d
    dimensions: for n < d, w = x^T a and the n x n Gram matrix is all that is needed. Raises ProbeError where a class is
    missing or the gradient does not fall below tol relative to its start.
    """
    lacking = (y.min(1).values == y.max(1).values).sum()
    if lacking:
        raise ProbeError(f"{int(lacking)} of {len(y)} probes saw one class only; use larger subsets")
    dual = x.shape[1] < x.shape[2]
    gram = x @ x.mT if dual else None
    sign = 2 * y - 1
    weight = torch.zeros(len(x), x.shape[1] if dual else x.shape[2], dtype=x.dtype, device=x.device)
    eye = torch.eye(weight.shape[1], dtype=x.dtype, device=x.device)

    def logits(w):
        return ((gram if dual else x) @ w[..., None])[..., 0]

    def objective(w, z):
        norm = (w * z).sum(1) if dual else (w * w).sum(1)
        return norm / 2 + c * torch.nn.functional.softplus(-sign * z).sum(1)

    z = logits(weight)
    value, first = objective(weight, z), None
    for _ in range(max_iter):
        p = torch.sigmoid(z)
        pull = c * (p - y)
        gradient = weight + (pull if dual else (x.mT @ pull[..., None])[..., 0])
        size = gradient.abs().amax(1)
        first = size.clamp_min(1e-30) if first is None else first
        if bool((size <= tol * first).all()):
            return (x.mT @ weight[..., None])[..., 0] if dual else weight
        curve = c * p * (1 - p)
        hessian = eye + curve[..., None] * gram if dual else eye + x.mT @ (curve[..., None] * x)
        step = torch.linalg.solve(hessian, gradient[..., None])[..., 0]
        # Halve the step where it overshoots: far from the optimum the quadratic model promises too much.
        rate = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
        for _ in range(30):
            trial = weight - rate * step
            z = logits(trial)
            new = objective(trial, z)
            worse = new > value + 1e-12 * value.abs()
            if not bool(worse.any()):
                break
            rate[worse] /= 2
        weight, value = trial, new
    raise ProbeError(
        f"{int((size > tol * first).sum())} of {len(x)} probes did not converge in {max_iter} Newton steps"
    )
