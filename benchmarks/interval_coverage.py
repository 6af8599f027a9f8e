"""How often the ledger's 95 % intervals hold the truth, where the truth is known: writes interval_coverage.md."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from papercore.study import samples, statistics

LEVEL = 0.95


def mean(rng):
    return "mean", {"value": rng.exponential(size=100)}, None, 1.0


def rate(rng):
    return "rate", {"value": rng.binomial(1, 0.9, 50)}, None, 0.9


def paired_rates(rng):
    base = rng.uniform(size=100)
    return "mean_difference", {"value": base < 0.85}, {"value": base + rng.normal(0, 0.1, 100) < 0.8}, TRUE_PAIRED


# P(base < .85) - P(base + noise < .8), the noise normal with sd .1: by quadrature.
TRUE_PAIRED = 0.85 - float(np.mean(stats.norm.cdf((0.8 - (np.arange(20_000) + 0.5) / 20_000) / 0.1)))


def fitted(rng, seeds=3, units=150):
    """Units and fitting seeds both move the value: crossed random effects, true mean 0."""
    unit, seed = rng.normal(0, 0.5, units), rng.normal(0, 0.05, seeds)
    value = unit[None] + seed[:, None] + rng.normal(0, 0.2, (seeds, units))
    where = {"unit": np.tile(np.arange(units), seeds), "seed": np.repeat(np.arange(seeds), units)}
    return "mean", {**where, "value": value.ravel()}, None, 0.0


def fitted_seeds_dominate(rng):
    name, table, versus, truth = fitted(rng)
    table["value"] = table["value"] * 0.05 + rng.normal(0, 1, 3)[table["seed"]]
    return name, table, versus, truth


def pairwise(rng, n=40):
    """A U-statistic: v_i v_j over pairs, truth 1."""
    v = rng.normal(1, 1, n)
    i, j = np.triu_indices(n, 1)
    return "pairwise_mean", {"unit": i, "other": j, "value": v[i] * v[j]}, None, 1.0


def rank_correlation(rng, n=60, rho=0.5):
    x = rng.normal(size=n)
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)
    return "rank_correlation", {"x": x, "value": y}, None, 6 / np.pi * np.arcsin(rho / 2)


def auroc(rng, n=100):
    label = np.arange(n) % 2
    return "auroc", {"label": label, "value": label + rng.normal(size=n)}, None, stats.norm.cdf(1 / np.sqrt(2))


def labelled(rng, spread=(1.0, 1.0)):
    """7 units against 8, normal, a difference of 1; spread: standard deviation of each group."""
    label = np.repeat([1, 0], [7, 8])
    value = label + np.repeat(spread, [7, 8]) * rng.normal(size=15)
    return "label_difference", {"label": label, "value": value}, None, 1.0


def labelled_one_group_varies_more(rng):
    return labelled(rng, (2.0, 1.0))


def labelled_pairs(rng, n=15, group=7):
    """Pairs of units with an effect of each unit; those within the group lie 1 higher."""
    i, j = np.triu_indices(n, 1)
    unit, inside = rng.normal(0, 0.5, n), np.arange(n) < group
    label = [f"{a:d}{b:d}" for a, b in zip(inside[i], inside[j], strict=True)]
    value = unit[i] + unit[j] + rng.normal(0, 0.5, len(i)) + (inside[i] & inside[j])
    return "within_minus_rest", {"unit": i, "other": j, "label": label, "value": value}, None, 1.0


CASES = [mean, rate, paired_rates, fitted, fitted_seeds_dominate, pairwise, rank_correlation, auroc]
CASES += [labelled, labelled_one_group_varies_more, labelled_pairs]


def coverage(case, repeats: int) -> tuple[float, float]:
    """(share of intervals that hold the truth, mean width) over `repeats` independent data sets."""
    held, width = [], []
    for repeat in range(repeats):
        name, of, versus, truth = case(np.random.default_rng([repeat, CASES.index(case)]))
        table = samples.arm({k: np.asarray(v, dtype=float) if k == "value" else v for k, v in of.items()}, name)
        if versus is not None:
            table = samples.pair(table, samples.arm({"value": versus["value"].astype(float)}, name), name)
        found = statistics.estimate(name, table, LEVEL)
        held.append(found.lo <= truth <= found.hi)
        width.append(found.hi - found.lo)
    return float(np.mean(held)), float(np.mean(width))


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    rows = []
    for case in CASES:
        share, width = coverage(case, repeats)
        error = np.sqrt(share * (1 - share) / repeats)
        rows.append((case.__name__.replace("_", " "), f"{share:.3f} ± {error:.3f}", f"{width:.3f}"))
        print(*rows[-1], sep="\t", flush=True)
    table = pd.DataFrame(rows, columns=["case", "coverage", "mean width"])
    lines = ["| " + " | ".join(row) + " |" for row in [tuple(table), ("---",) * 3, *rows]]
    text = f"# Coverage of the 95 % intervals\n\n{repeats} data sets a case, truth known; ± is one standard error.\n\n"
    (Path(__file__).parent / "interval_coverage.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
