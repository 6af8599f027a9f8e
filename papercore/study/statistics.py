"""Named statistics of samples and their intervals. Floor: study.

A statistic is a function of a table and of one weight a row. The bootstrap then is a draw of multinomial weights on the
units (Rubin 1981 gives the weighted view): a row weighs as its unit does, a pair of units as the product of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

RESAMPLES = 1000
PERMUTATIONS = 10_000  # beyond so many ways to deal the labels, as many random ones
BOOTSTRAP_SEED = 20240930

Table = dict[str, np.ndarray]


def mean(t: Table, w: np.ndarray) -> float:
    """Mean of value."""
    return float(np.average(t["value"], weights=w))


def mean_difference(t: Table, w: np.ndarray) -> float:
    """Mean of value minus the paired arm's value."""
    return float(np.average(t["value"] - t["versus"], weights=w))


def ratio_of_sums(t: Table, w: np.ndarray) -> float:
    """Sum of value over the sum of the paired arm's value (a rate per token, a micro-average)."""
    return float((w * t["value"]).sum() / (w * t["versus"]).sum())


def within_minus_between(t: Table, w: np.ndarray) -> float:
    """Mean value of pairs labelled "within" minus that of pairs labelled "between"."""
    within = t["label"] == "within"
    return float(np.average(t["value"], weights=w * within) - np.average(t["value"], weights=w * ~within))


def label_difference(t: Table, w: np.ndarray) -> float:
    """Mean value of the units labelled 1 minus that of the units labelled 0."""
    one = t["label"] == "1"
    return float(np.average(t["value"], weights=w * one) - np.average(t["value"], weights=w * ~one))


def within_minus_rest(t: Table, w: np.ndarray) -> float:
    """Mean value of the pairs labelled 11 (both units are in the group) minus that of the pairs 10, 01 and 00."""
    both = t["label"] == "11"
    return float(np.average(t["value"], weights=w * both) - np.average(t["value"], weights=w * ~both))


def slope(t: Table, w: np.ndarray) -> float:
    """Least-squares slope of value on x."""
    x = t["x"] - np.average(t["x"], weights=w)
    return float((w * x * t["value"]).sum() / (w * x * x).sum())


def rank_correlation(t: Table, w: np.ndarray) -> float:
    """Spearman's rank correlation of value with x."""
    from scipy.stats import spearmanr

    rows = np.repeat(np.arange(len(w)), w.astype(int))
    if len(np.unique(t["x"][rows])) < 2 or len(np.unique(t["value"][rows])) < 2:
        return float("nan")
    return float(spearmanr(t["x"][rows], t["value"][rows]).statistic)


def auroc(t: Table, w: np.ndarray) -> float:
    """Area under the ROC curve of score `value` for `label` 1 against 0."""
    from sklearn.metrics import roc_auc_score

    label, seen = t["label"].astype(float).astype(int), w > 0
    if len(np.unique(label[seen])) < 2:
        return float("nan")
    return float(roc_auc_score(label[seen], t["value"][seen], sample_weight=w[seen]))


def kappa(t: Table, w: np.ndarray) -> float:
    """Cohen's kappa of the ratings `value` and `label`."""
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(t["value"].astype(int), t["label"].astype(float).astype(int), sample_weight=w))


# `pairwise_mean` is the mean of a table of pairs (unit, other); `rate` that of zeros and ones.
STATISTICS: dict[str, Callable[[Table, np.ndarray], float]] = {
    "mean": mean,
    "rate": mean,
    "pairwise_mean": mean,
    "mean_difference": mean_difference,
    "ratio_of_sums": ratio_of_sums,
    "within_minus_between": within_minus_between,
    "label_difference": label_difference,
    "within_minus_rest": within_minus_rest,
    "slope": slope,
    "rank_correlation": rank_correlation,
    "auroc": auroc,
    "kappa": kappa,
}
# Few units in two groups: their interval comes from dealing the units' labels anew.
PERMUTED = {"label_difference", "within_minus_rest"}
TWO_ARMS = {"mean_difference", "ratio_of_sums"}
ONE_ARM = set(STATISTICS) - TWO_ARMS
# Columns besides unit and value; and the range outside which an interval means nothing.
NEEDS = {
    "pairwise_mean": ["other"],
    "within_minus_between": ["other", "label"],
    "label_difference": ["label"],
    "within_minus_rest": ["other", "label"],
    "slope": ["x"],
    "rank_correlation": ["x"],
    "auroc": ["label"],
    "kappa": ["label"],
}
RANGE = {"rate": (0, 1), "auroc": (0, 1), "rank_correlation": (-1, 1), "kappa": (-1, 1)}


class SampleError(ValueError):
    """Samples that a statistic cannot be computed from."""


@dataclass(frozen=True)
class Estimate:
    """A statistic with its interval [lo, hi]; n units, seeds fitting seeds (1 where nothing was fitted)."""

    value: float
    lo: float
    hi: float
    n: int
    seeds: int

    def flipped(self) -> Estimate:
        """The estimate of minus the statistic."""
        return Estimate(-self.value, -self.hi, -self.lo, self.n, self.seeds)


def estimate(name: str, table, level: float, *, exact: bool = False, where: str = "") -> Estimate:
    """Statistic `name` of a table (DataFrame with unit, value, ... and `versus` for two arms) with its interval.

    Variance = unit-bootstrap variance + between-seed variance / S; the quantile is Student's t with Satterthwaite's
    degrees of freedom. A rate that no seed moves gets Wilson's interval, a paired difference of two such rates
    Newcombe's (method 10 of Newcombe 1998), those of PERMUTED a permutation interval. exact=True: a count or an
    identity, no resampling. Raises SampleError.
    """
    from scipy.stats import t as student

    for column in NEEDS.get(name, []):
        if column not in table:
            raise SampleError(f"{where}: {name} needs the column {column!r}")
    t: Table = {column: table[column].to_numpy() for column in table.columns}
    f = STATISTICS[name]
    if name == "rate" and not np.isin(t["value"], (0, 1)).all():
        raise SampleError(f"{where}: a rate is the share of units with value 1, but some values are neither 0 nor 1")
    units, index, n = _units(t)
    group = _groups(t["label"], index, units, where) if name in PERMUTED else None
    seed = t.get("seed", np.zeros(len(table), dtype=int))
    parts = [np.flatnonzero(seed == s) for s in np.unique(seed)]
    tables = [{column: values[rows] for column, values in t.items()} for rows in parts]
    each = np.array([f(part, np.ones(len(rows))) for part, rows in zip(tables, parts, strict=True)])
    if not np.isfinite(each).all():
        raise SampleError(f"{where}: {name} is not defined for these samples (one class, or no variation)")
    value, seeds = float(each.mean()), len(parts)
    if exact:
        return Estimate(value, value, value, n, seeds)
    if n < 2:
        raise SampleError(f"{where}: one unit ({units[0]}) has no sampling distribution; give two or more")
    if name in PERMUTED:
        lo, hi = _permuted(f, t, index, group, level, where)
        spread = (
            float(student.ppf((1 + level) / 2, seeds - 1) * each.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else 0.0
        )
        return Estimate(value, value - np.hypot(value - lo, spread), value + np.hypot(hi - value, spread), n, seeds)
    # Every seed alike: resampling would see no variation at all, and the closed forms do. A unit counts once, whether
    # every seed has it or each seed has units of its own.
    _, first, of = np.unique(t["unit"].astype(str), return_index=True, return_inverse=True)
    once = {column: t[column][first] for column in ("value", "versus") if column in t}
    alike = np.ptp(each) < 1e-12 and all(np.array_equal(t[column], once[column][of]) for column in once)
    if alike and name == "rate":
        return Estimate(value, *_wilson(once["value"].sum(), n, level), n, seeds)
    if alike and name == "mean_difference" and _binary(t["value"]) and _binary(t["versus"]):
        return Estimate(value, *_newcombe(once["value"], once["versus"], level), n, seeds)
    draws = _bootstrap(f, tables, [index[:, rows] for rows in parts], n)
    # n / (n - 1): the plug-in bootstrap variance of a mean is too small by that factor.
    unit_variance = float(np.nanvar(draws)) * n / (n - 1)
    seed_variance = float(each.var(ddof=1)) / seeds if seeds > 1 else 0.0
    total = unit_variance + seed_variance
    if total <= np.finfo(float).eps ** 2:
        return Estimate(value, value, value, n, seeds)
    degrees = total**2 / (unit_variance**2 / (n - 1) + (seed_variance**2 / (seeds - 1) if seeds > 1 else 0.0))
    half = float(student.ppf((1 + level) / 2, degrees) * np.sqrt(total))
    low, high = RANGE.get(name, (-np.inf, np.inf))
    return Estimate(value, max(value - half, low), min(value + half, high), n, seeds)


def _units(t: Table) -> tuple[np.ndarray, np.ndarray, int]:
    """Names of the units, (1 or 2, rows) index of the units that a row's weight multiplies, and their number."""
    columns = [t[name].astype(str) for name in ("unit", "other") if name in t]
    units, index = np.unique(np.concatenate(columns), return_inverse=True)
    return units, index.reshape(len(columns), -1), len(units)


def _bootstrap(f, tables: list[Table], indices: list[np.ndarray], n: int) -> np.ndarray:
    """RESAMPLES means over the seeds of f under multinomial unit weights, the same draw of units for every seed."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    draws = np.full(RESAMPLES, np.nan)
    for r in range(RESAMPLES):
        weight = rng.multinomial(n, np.full(n, 1 / n)).astype(float)
        values = []
        for table, index in zip(tables, indices, strict=True):
            w = weight[index].prod(axis=0)
            try:
                values.append(f(table, w) if w.sum() > 0 else np.nan)
            except ZeroDivisionError:  # a resample without one of the classes
                values.append(np.nan)
        draws[r] = np.mean(values)
    if np.isfinite(draws).sum() < RESAMPLES / 2:
        raise SampleError("more than half of the resamples lack a class or all variation: too few units")
    return draws


def _permuted(f, t: Table, index: np.ndarray, group: np.ndarray, level: float, where: str) -> tuple[float, float]:
    """The interval of all shifts of the rows labelled 1 (or 11) that a permutation test of the units does not reject.

    The units' labels 0 and 1 are dealt anew, in all ways or in PERMUTATIONS random ones (Ernst 2004, Statistical
    Science 19:676). The statistic is linear in the values: with the rows shifted back by d, a deal gives a - d c, where
    a is the statistic of the deal and c that of the rows' own mark; the true labels give T - d. So a deal stops d from
    being rejected on one side of (T - a) / (1 - c). Seeds are averaged first. Raises SampleError for too few deals.
    """
    rows, place = np.unique(index.T, axis=0, return_inverse=True)
    place = place.ravel()
    value = np.bincount(place, weights=t["value"]) / np.bincount(place)
    ones = np.flatnonzero(group)
    ways = comb(len(group), len(ones))
    if ways * (1 - level) / 2 < 1:
        raise SampleError(
            f"{where}: {len(ones)} of {len(group)} units have the label 1, which can be dealt in {ways} ways; "
            f"an interval at level {level} needs {int(np.ceil(2 / (1 - level)))}"
        )
    if ways <= PERMUTATIONS:
        deals = combinations(range(len(group)), len(ones))
    else:
        rng = np.random.default_rng(BOOTSTRAP_SEED)
        deals = [ones, *(rng.choice(len(group), len(ones), replace=False) for _ in range(PERMUTATIONS - 1))]
    mark, alike = group[rows].all(axis=1).astype(float), np.ones(len(rows))
    found = []
    for deal in deals:
        dealt = np.zeros(len(group), dtype=bool)
        dealt[list(deal)] = True
        label = np.where(dealt[rows].all(axis=1), "1" * len(index), "0")
        found.append([f({"value": of, "label": label}, alike) for of in (value, mark)])
    a, c = np.array(found).T
    true = c > 1 - 1e-9
    bounds = np.sort((a[true][0] - a[~true]) / (1 - c[~true]))
    spare = int((1 - level) / 2 * len(a)) - int(true.sum())
    return bounds[max(spare, 0)], bounds[-1 - max(spare, 0)]


def _groups(labels: np.ndarray, index: np.ndarray, units: np.ndarray, where: str) -> np.ndarray:
    """Label of each unit, True for 1; a pair's label is that of its first unit and that of its second."""
    group: dict[int, str] = {}
    for row, label in zip(index.T, labels, strict=True):
        if len(label) != len(row) or set(label) - {"0", "1"}:
            kind = "0 or 1" if len(row) == 1 else "00, 01, 10 or 11, the labels of its two units"
            raise SampleError(f"{where}: the label of a row must be {kind}, not {label!r}")
        for unit, one in zip(row, label, strict=True):
            if group.setdefault(unit, one) != one:
                raise SampleError(f"{where}: the unit {units[unit]} has both labels, 0 and 1")
    ones = sum(label == "1" for label in group.values())
    if not index.shape[0] <= ones < len(units):
        raise SampleError(f"{where}: {ones} of {len(units)} units have the label 1; both groups must have members")
    return np.array([group[unit] == "1" for unit in range(len(units))])


def _binary(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _wilson(successes: float, n: int, level: float) -> tuple[float, float]:
    from statsmodels.stats.proportion import proportion_confint

    lo, hi = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    return float(lo), float(hi)


def _newcombe(a: np.ndarray, b: np.ndarray, level: float) -> tuple[float, float]:
    """Newcombe's square-and-add interval for a paired difference of proportions, with the pairs' correlation."""
    n, p, q = len(a), a.mean(), b.mean()
    (pl, pu), (ql, qu) = _wilson(a.sum(), n, level), _wilson(b.sum(), n, level)
    spread = p * (1 - p) * q * (1 - q)
    phi = ((a * b).mean() - p * q) / np.sqrt(spread) if spread > 0 else 0.0
    low = (p - pl) ** 2 - 2 * phi * (p - pl) * (qu - q) + (qu - q) ** 2
    high = (pu - p) ** 2 - 2 * phi * (pu - p) * (q - ql) + (q - ql) ** 2
    return float(p - q - np.sqrt(max(low, 0))), float(p - q + np.sqrt(max(high, 0)))
