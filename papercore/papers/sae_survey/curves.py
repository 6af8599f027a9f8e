"""What the frontier says: SAEs compared at the same measured sparsity, sweeps, and fidelity against use."""

from __future__ import annotations

import numpy as np
import pandas as pd

from papercore.papers.sae_survey.data import by_corpus
from papercore.papers.sae_survey.zoo import SHARES, Frontier


class UnmatchedError(ValueError):
    """SAEs whose sparsities do not reach the one at which they are to be compared."""


def matched(frontier: Frontier, name: str, l0: float) -> pd.DataFrame:
    """FVU of an architecture at one measured L0 by held-out document and seed, interpolated linearly in log L0.

    value is a document's error over the mean variance of documents, so that its mean is the FVU. Raises UnmatchedError
    where the measured L0s do not reach to both sides: nothing is ranked at unmatched sparsity.
    """
    parts = []
    for seed, runs in frontier.of(name).groupby("seed"):
        runs = runs.sort_values("L0")
        reached = runs["L0"].to_numpy()
        if not reached[0] <= l0 <= reached[-1]:
            raise UnmatchedError(f"{name}, seed {seed}: L0 from {reached[0]:.1f} to {reached[-1]:.1f}, not {l0}")
        above = int(np.searchsorted(reached, l0))
        above = max(above, 1)
        low, high = runs.iloc[above - 1], runs.iloc[above]
        weight = (np.log(l0) - np.log(low["L0"])) / (np.log(high["L0"]) - np.log(low["L0"]))
        a, b = (_errors(frontier, name, run["k"], 1.0, seed) for run in (low, high))
        value = (1 - weight) * a + weight * b
        parts.append(pd.DataFrame({"unit": value.index, "value": value.to_numpy(), "seed": seed}))
    return pd.concat(parts, ignore_index=True)


def beyond(frontier: Frontier, name: str, l0: float) -> pd.DataFrame:
    """FVU of ReLU with L1 minus that of another architecture at the same L0: above 0 the other one is better."""
    both = matched(frontier, "relu", l0).merge(
        matched(frontier, name, l0), on=["unit", "seed"], suffixes=("", "_other")
    )
    return both.assign(value=both["value"] - both["value_other"])[["unit", "seed", "value"]]


def at(frontier: Frontier, name: str, k: int, share: float = 1.0) -> pd.DataFrame:
    """FVU by held-out document and seed of the SAEs that aim at k."""
    parts = []
    for seed in frontier.runs["seed"].unique():
        value = _errors(frontier, name, k, share, seed)
        parts.append(pd.DataFrame({"unit": value.index, "value": value.to_numpy(), "seed": seed}))
    return pd.concat(parts, ignore_index=True)


def shrinks(frontier: Frontier, name: str, k: int) -> pd.DataFrame:
    """One minus the relative reconstruction bias by document and seed; its mean is 1 - E|x_hat|^2 / E[x . x_hat]."""
    rows = _rows(frontier, name, k, 1.0)
    mean = rows.groupby("seed")["dot"].transform("mean")
    value = (rows["dot"] - rows["norm2_hat"]) / mean
    return pd.DataFrame({"unit": rows["document"], "value": value, "seed": rows["seed"]}).reset_index(drop=True)


def budgets(frontier: Frontier, k: int) -> dict[str, pd.DataFrame]:
    """FVU by document and seed of TopK trained on all, a quarter and a sixteenth of the training documents."""
    return {name: at(frontier, "topk", k, s) for name, s in zip(("sixteenth", "quarter", "all"), SHARES, strict=True)}


def fidelity_and_use(frontier: Frontier, controls: bool = False) -> pd.DataFrame:
    """Each SAE of the zoo: unit (name and k), seed, x (explained variance), value (one-latent probing accuracy).

    controls: the frozen decoder too.
    """
    runs = frontier.runs[(frontier.runs["share"] == 1) & (controls | (frontier.runs["name"] != "frozen_decoder"))]
    unit = runs["name"] + " " + runs["k"].astype(str)
    columns = {"unit": unit, "seed": runs["seed"], "x": runs["explained variance"], "value": runs["probing"]}
    return pd.DataFrame(columns).reset_index(drop=True)


def use_twice(frontier: Frontier) -> pd.DataFrame:
    """The same SAEs: one-latent probing on every other corpus (x) and on the rest (value).

    How far probing orders SAEs as probing itself does; fidelity cannot be expected to do better.
    """
    rows = frontier.probing[(frontier.probing["share"] == 1) & (frontier.probing["name"] != "frozen_decoder")]
    rows = rows.assign(unit=rows["task"], value=rows["k1"])
    parts = []
    for (name, k, seed), own in rows.groupby(["name", "k", "seed"]):
        value = by_corpus(own).sort_values("unit")["value"].to_numpy()
        parts.append((f"{name} {k}", seed, value[::2].mean(), value[1::2].mean()))
    return pd.DataFrame(parts, columns=["unit", "seed", "x", "value"])


def probing_gain(frontier: Frontier, k: int, versus: int) -> pd.DataFrame:
    """One-latent accuracy of TopK at one sparsity minus that at another, by corpus of tasks and seed."""
    a, b = (_probing(frontier, one) for one in (k, versus))
    return by_corpus((a - b).rename("value").reset_index().rename(columns={"task": "unit"}))


def whole_gain(frontier: Frontier, k: int, whole: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of a probe on the whole activation (task, accuracy) minus TopK's one-latent accuracy, by corpus."""
    both = _probing(frontier, k).rename("one").reset_index().merge(whole[["task", "accuracy"]], on="task")
    return by_corpus(both.assign(unit=both["task"], value=both["accuracy"] - both["one"]))


def _probing(frontier: Frontier, k: int) -> pd.Series:
    rows = frontier.probing[frontier.probing["name"].eq("topk") & frontier.probing["k"].eq(k)]
    return rows[rows["share"] == 1].set_index(["task", "seed"])["k1"]


def _rows(frontier: Frontier, name: str, k: int, share: float) -> pd.DataFrame:
    d = frontier.documents
    return d[(d["name"] == name) & (d["k"] == k) & (d["share"] == share)]


def _errors(frontier: Frontier, name: str, k: int, share: float, seed: int) -> pd.Series:
    rows = _rows(frontier, name, k, share)
    rows = rows[rows["seed"] == seed].set_index("document")
    return rows["error"] / rows["variance"].mean()
