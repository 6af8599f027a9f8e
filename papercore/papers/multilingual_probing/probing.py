"""Probes on statements: ours on standardised states, the paper's on raw ones, and one that only knows names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from papercore.papers.multilingual_probing.data import Statements
from papercore.papers.multilingual_probing.splits import Split
from papercore.probes.logistic import fit_logistic

STRENGTH = 0.01  # C of our probe on standardised states; the paper's is 1 on raw ones


def standardised(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(z, mean, scale) of states (n, d) over n; a feature that does not vary becomes zero, and its scale one.

    The floor's scaler refuses such features. Here they are to be expected: at the embeddings all statements of a form
    that ends in a full stop have one and the same state, and nothing may be learned from it.
    """
    x = x.double()
    mean, scale = x.mean(0), x.std(0, correction=0)
    still = (x == x[0]).all(0)
    scale = torch.where(still, 1.0, scale)
    return torch.where(still, 0.0, (x - mean) / scale), mean, scale


def directions(x: torch.Tensor, y: np.ndarray) -> torch.Tensor:
    """Probe directions (k, d) on standardised states x (k, n, d), k probes of the same labels; no intercept.

    Classes are as large as one another where countries are kept apart, and the states are centred. Zero where the
    states do not vary: nothing can be learned from a constant.
    """
    z = torch.stack([standardised(one)[0] for one in x])
    return fit(z, y)


def fit(z: torch.Tensor, y: np.ndarray) -> torch.Tensor:
    return fit_logistic(z, torch.tensor(y, dtype=z.dtype).expand(len(z), -1), c=STRENGTH)


def scores(x: torch.Tensor, y: np.ndarray, splits: Sequence[Split]) -> torch.Tensor:
    """Score of each test row by the probe of its split, (k, n) for states x (k, n, d); NaN if it is not tested."""
    found = torch.full(x.shape[:2], torch.nan, dtype=torch.double)
    for train, test in splits:
        parts = [standardised(one[train]) for one in x]
        mean, scale = (torch.stack([part[i] for part in parts])[:, None] for i in (1, 2))
        w = fit(torch.stack([part[0] for part in parts]), y[train])
        found[:, test] = (((x[:, test].double() - mean) / scale) @ w[..., None])[..., 0]
    return found


def right(found: torch.Tensor, y: np.ndarray) -> np.ndarray:
    """1 where a score's sign is the label, 0 where not, a half where the score is 0: nothing was said; NaN stays."""
    sign = torch.sign(found.round(decimals=9)).masked_fill(found.isnan(), torch.nan)  # the sign of NaN is 0 in torch
    return ((1 + sign * torch.tensor(2.0 * y - 1)) / 2).numpy()


def papers_probe(x: torch.Tensor, y: np.ndarray, one: Split) -> tuple[np.ndarray, np.ndarray, float]:
    """(coefficients (d,), right (n,) with NaN where not tested, training accuracy) of the paper's probe.

    scikit-learn's LogisticRegression as it comes: C = 1, raw states, lbfgs, 100 iterations, with intercept.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train, test = one
    model, raw = LogisticRegression(), x.double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the paper's 100 iterations, reached or not
        model.fit(raw[train], y[train])
    found = np.full(len(y), np.nan)
    found[test] = model.predict(raw[test]) == y[test]
    return model.coef_[0], found, float(model.score(raw[train], y[train]))


def memoriser(statements: Statements, y: np.ndarray, splits: Sequence[Split]) -> np.ndarray:
    """The probe that knows names and nothing else: one-hot city and one-hot named country; right (n,)."""
    import pandas as pd

    table = statements.table
    names = pd.get_dummies(table[["city", "named"]]).to_numpy(dtype=float)
    found = torch.full((len(y),), torch.nan, dtype=torch.double)
    for train, test in splits:
        w = fit_logistic(torch.as_tensor(names[train])[None], torch.tensor(y[train], dtype=torch.double)[None])[0]
        found[test] = torch.as_tensor(names[test]) @ w
    return right(found, y)
