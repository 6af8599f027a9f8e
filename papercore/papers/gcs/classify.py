"""Vectors as classifiers: accuracy on texts that no probe has seen, and what it is compared with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from papercore.papers.gcs.baseline import bag_of_words
from papercore.papers.gcs.data import Sentiment
from papercore.papers.gcs.experiment import Reading, generator
from papercore.papers.gcs.subspace import SIGMAS, Subspace


def accuracies(
    fits: dict[tuple[int, int], Subspace], reading: Reading, layers: Iterable[int], samples: int
) -> pd.DataFrame:
    """Accuracy on the held-out texts, a row a text: columns layer, seed, vectors, space, unit, value.

    vectors: observed (mean over the probes), mean (mu), 1_sigma to 5_sigma, random_direction; value is the share of
    vectors right about that text. space: standardised, centred, raw (released code); see Subspace.accuracy. Observed
    probes in the standardised space use each its own scaler, as they were trained.
    """
    tables = []
    for layer in layers:
        x, y = reading.held_out[layer], reading.held_out_y
        for (at, seed), space in fits.items():
            if at != layer:
                continue
            rng = generator(seed, 5, layer)
            kinds = {"observed": space.observed, "mean": space.mu[None]}
            kinds |= {f"{k}_sigma": space.sample(samples, rng, k) for k in SIGMAS}
            kinds["random_direction"] = torch.randn(samples, len(space.mu), dtype=torch.double, generator=rng)
            scores = {("standardised", kind): space.accuracy(v, x, y) for kind, v in kinds.items()}
            scores["standardised", "observed"] = space.own_accuracy(x, y)
            for kind in ("observed", "1_sigma", "random_direction"):
                for name in ("centred", "raw"):
                    scores[name, kind] = space.accuracy(kinds[kind], x, y, name)
            for (name, kind), value in scores.items():
                where = {"layer": layer, "seed": seed, "vectors": kind, "space": name}
                tables.append(pd.DataFrame({**where, "unit": np.arange(len(y)), "value": value}))
    return pd.concat(tables, ignore_index=True)


def text_arm(table: pd.DataFrame, layer: int, vectors: str, space: str = "standardised") -> pd.DataFrame:
    """One kind of vectors of `accuracies` at one layer as an arm: unit (text), seed, value."""
    rows = table[(table["layer"] == layer) & (table["vectors"] == vectors) & (table["space"] == space)]
    return rows[["unit", "seed", "value"]]


def gain_arm(of: pd.DataFrame, over: pd.DataFrame) -> pd.DataFrame:
    """One arm's value minus another's, text by text and seed by seed: unit, seed, value."""
    both = of.merge(over, on=["unit", "seed"], suffixes=("", "_over"))
    return both.assign(value=both["value"] - both["value_over"])[["unit", "seed", "value"]]


def lexical_arm(data: Sentiment, reading: Reading) -> pd.DataFrame:
    """The bag of words trained on what each seed's probes see: unit (held-out text), seed, value 1 where right."""
    tables = []
    for seed, rows in reading.rows.items():
        right = bag_of_words(data.pool.iloc[rows.numpy()], data.held_out)
        tables.append(pd.DataFrame({"unit": np.arange(len(right)), "seed": seed, "value": right}))
    return pd.concat(tables, ignore_index=True)


def bagging(fits: dict[tuple[int, int], Subspace], reading: Reading, layer: int, repeats: int = 20) -> pd.DataFrame:
    """Accuracy of the mean of m probes against m: columns seed, m, value; `repeats` random choices of m probes."""
    x, y, rows = reading.held_out[layer], reading.held_out_y, []
    for (at, seed), space in fits.items():
        if at == layer:
            rng = generator(seed, 6)
            n = len(space.observed)
            sizes = [m for m in (1, 2, 3, 5, 8, 12, 20, 30, 50, 100, 200, 500) if m < n] + [n]
            for m in sizes:
                chosen = [torch.randperm(n, generator=rng)[:m] for _ in range(repeats if m < n else 1)]
                means = torch.stack([space.observed[which].mean(0) for which in chosen])
                rows.append((seed, m, float(space.accuracy(means, x, y).mean())))
    return pd.DataFrame(rows, columns=["seed", "m", "value"])
