"""Which parameters matter: exact on the grid. Everything follows from one thing, the mean of a function over the other
knobs for every subset of knobs: Sobol indices, Shapley values, partial dependence.

All conditions of the grid count alike. Adaptive samples crowd at the optimum, so importance is asked of the surrogate
on the whole grid, never of the samples.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

from papercore.papers.exfoliation_bo import optimise
from papercore.papers.exfoliation_bo.space import Space


def subset_means(values: np.ndarray, shape: tuple[int, ...]) -> dict[tuple[int, ...], np.ndarray]:
    """E[f | knobs of S] for every subset S, {S: array with axes of length 1 for the others}; values (n_conditions,)."""
    grid, knobs = np.asarray(values, dtype=float).reshape(shape), range(len(shape))
    return {
        subset: grid.mean(axis=tuple(k for k in knobs if k not in subset), keepdims=True)
        for size in range(len(shape) + 1)
        for subset in itertools.combinations(knobs, size)
    }


def sobol(values: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Exact Sobol indices over the grid, main and total, (n_knobs,) each (Sobol 1993; Homma and Saltelli 1996).

    Main: share of the variance that a knob explains alone; total: that which is left when all others are known. Zeros
    where nothing varies.
    """
    means, knobs = subset_means(values, shape), range(len(shape))
    variance = np.var(values)
    if variance <= 1e-30:
        return np.zeros(len(shape)), np.zeros(len(shape))
    main = np.array([np.var(means[(k,)]) for k in knobs]) / variance
    others = [tuple(j for j in knobs if j != k) for k in knobs]
    return main, np.array([1 - np.var(means[rest]) / variance for rest in others])


def shapley(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Exact Shapley values of every condition, (n_conditions, n_knobs): how far each knob moves f from its mean, with
    the knobs that are not set drawn evenly (Lundberg and Lee 2017, all coalitions in place of a sample).
    """
    means, count = subset_means(values, shape), len(shape)
    found = np.zeros((*shape, count))
    for knob in range(count):
        for subset, mean in means.items():
            if knob not in subset:
                weight = math.factorial(len(subset)) * math.factorial(count - len(subset) - 1) / math.factorial(count)
                found[..., knob] += weight * (means[tuple(sorted((*subset, knob)))] - mean)
    return found.reshape(-1, count)


def partial_dependence(values: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Mean of f at each level of each knob, a (n_levels,) a knob. On an even grid accumulated local effects are the
    same curve, less a constant.
    """
    means = subset_means(values, shape)
    return [means[(knob,)].ravel() for knob in range(len(shape))]


def permuted(values: np.ndarray, shape: tuple[int, ...], draw: np.random.Generator, rounds: int = 20) -> np.ndarray:
    """Permutation importance over the grid, (n_knobs,): mean square change of f when a knob's column is shuffled.

    In the mean over shuffles that is twice the variance times the total Sobol index.
    """
    grid = np.asarray(values, dtype=float).reshape(shape)
    at = np.stack(np.unravel_index(np.arange(grid.size), shape), axis=1)
    found = np.zeros(len(shape))
    for knob in range(len(shape)):
        for _ in range(rounds):
            moved = at.copy()
            moved[:, knob] = draw.permutation(moved[:, knob])
            found[knob] += np.mean((grid[tuple(moved.T)] - grid.ravel()) ** 2) / rounds
    return found


def methods(space: Space, found: optimise.Surrogate, draw: np.random.Generator) -> pd.DataFrame:
    """Importance of each knob by four methods, shares of 1: knob, method (ard, permutation, shapley, dependence),
    value.
    """
    each = {
        "ard": found.lengthscales**-2.0,
        "permutation": permuted(found.mean, space.shape, draw),
        "shapley": np.abs(shapley(found.mean, space.shape)).mean(axis=0),
        "dependence": np.array([np.var(curve) for curve in partial_dependence(found.mean, space.shape)]),
    }
    rows = [
        (knob, method, float(value))
        for method, values in each.items()
        for knob, value in zip(space.names, values / (values.sum() or 1.0), strict=True)
    ]
    return pd.DataFrame(rows, columns=["knob", "method", "value"])
