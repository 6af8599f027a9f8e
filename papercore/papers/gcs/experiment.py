"""Reading the texts once, fitting every layer and seed, and the tables of cosines that the claims are judged on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from papercore.papers.gcs.data import Sentiment
from papercore.papers.gcs.subspace import SIGMAS, Subspace, arithmetic_subspace, closed_form, fit_subspace, measured
from papercore.probes.directions import mean_cosine, pair_cosines
from papercore.probes.logistic import fit_probes

# Widths at which the cosine curves are measured; at 5 sigma little of mu is left to compare.
CURVE_SIGMAS = (1, 2, 3)


@dataclass(frozen=True)
class Reading:
    """Last-token activations of one model: pool[layer], held_out[layer] (n_texts, d_model); labels y.

    rows: what of the pool each fitting seed sees; its keys are the seeds.
    """

    pool: dict[int, torch.Tensor]
    held_out: dict[int, torch.Tensor]
    pool_y: torch.Tensor
    held_out_y: torch.Tensor
    rows: dict[int, torch.Tensor]


def read(model, data: Sentiment, layers: Iterable[int], seeds: Sequence[int]) -> Reading:
    """Residual stream after `layers` at each text's last token, pool and held-out texts in one pass."""
    layers = list(layers)
    n = len(data.pool)
    states = model.activations([*data.pool["text"], *data.held_out["text"]], layers=layers, position="last")
    labels = [torch.tensor(table["label"].to_numpy()) for table in (data.pool, data.held_out)]
    rows = {seed: torch.from_numpy(data.share(i)) for i, seed in enumerate(seeds)}
    return Reading({i: states[i][:n] for i in layers}, {i: states[i][n:] for i in layers}, *labels, rows)


def generator(*parts: int) -> torch.Generator:
    """A generator that depends on all parts, so that no two places share a stream of random numbers."""
    state = np.random.SeedSequence([p + 1 for p in parts]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def fit(
    reading: Reading,
    layers: Iterable[int],
    *,
    probes: int,
    subset_per_class: int,
    shuffle: bool = False,
    device: str = "cpu",
) -> dict[tuple[int, int], Subspace]:
    """{(layer, seed): Subspace}; each seed has its own texts and subsets. shuffle: permuted labels."""
    out = {}
    for seed, rows in reading.rows.items():
        y = reading.pool_y[rows]
        if shuffle:
            y = y[torch.randperm(len(y), generator=generator(seed, 0))]
        for layer in layers:
            # The same texts and subsets at every layer: layers are compared, not draws.
            out[layer, seed] = fit_subspace(
                reading.pool[layer][rows],
                y,
                n_probes=probes,
                subset_per_class=subset_per_class,
                generator=generator(seed, 1),
                device=device,
            )
    return out


def cosine_curves(fits: dict[tuple[int, int], Subspace], samples: int) -> pd.DataFrame:
    """Measured and predicted mean cosines: columns layer, seed, k, shape, curve, cosine, predicted.

    curve: observed, observed_sampled, sampled. shape: box, gaussian, and `arithmetic` (box samples around vectors that
    no model made).
    """
    rows = []
    for (layer, seed), space in fits.items():
        rng = generator(seed, 2, layer)
        runs = [(space, shape, float(k)) for k in CURVE_SIGMAS for shape in ("box", "gaussian")]
        runs.append((arithmetic_subspace(space, rng), "arithmetic", 1.0))
        for which, shape, k in runs:
            sampled_as = "box" if shape == "arithmetic" else shape
            form = closed_form(which.spread, k, sampled_as)
            for curve, value in measured(which, which.sample(samples, rng, k, sampled_as)).items():
                rows.append((layer, seed, k, shape, curve, value, form[curve]))
    return pd.DataFrame(rows, columns=["layer", "seed", "k", "shape", "curve", "cosine", "predicted"])


def pairs(fits: dict[tuple[int, int], Subspace], layer: int) -> pd.DataFrame:
    """Cosine of each pair of observed probes at a layer, as an arm: unit, other, seed, value."""
    tables = []
    for (at, seed), space in fits.items():
        if at == layer:
            first, second, value = pair_cosines(space.observed)
            tables.append(_pair_arm(first, second, value, seed))
    return pd.concat(tables, ignore_index=True)


def same_subset_pairs(reading: Reading, layer: int, arm: pd.DataFrame, subset_per_class: int) -> pd.DataFrame:
    """The pairs of `arm` for probes that all trained on one subset: what the solver alone varies."""
    tables = []
    for seed, table in arm.groupby("seed"):
        rows = reading.rows[int(seed)]
        y = reading.pool_y[rows]
        one = torch.cat([torch.nonzero(y == label)[:subset_per_class, 0] for label in (1, 0)])
        n = int(table["unit"].nunique()) + 1
        probes = fit_probes(reading.pool[layer][rows], y, one.expand(n, -1))
        tables.append(_pair_arm(*pair_cosines(probes.direction), seed))
    return pd.concat(tables, ignore_index=True)


def _pair_arm(first, second, value, seed, names: Sequence[str] | None = None) -> pd.DataFrame:
    # Without names the units are probes, and another seed has other probes.
    names = np.array(names or [f"{seed}:{i}" for i in range(int(second.max()) + 1)])
    return pd.DataFrame({"unit": names[first], "other": names[second], "seed": seed, "value": value})


def spreads(fits: dict[tuple[int, int], Subspace]) -> pd.DataFrame:
    """Standard deviation of pair cosines, observed and of as many draws: columns layer, seed, kind, value.

    kind: observed; diagonal, diagonal_again: two sets of draws from N(mu, diag sigma^2); full: from the probes' full
    covariance; full_of_independent, ..._again: from a full covariance fitted to as many independent draws. A covariance
    of few vectors in many dimensions has few directions, whatever they are; the last two say what that alone does.
    """
    rows = []
    for (layer, seed), space in fits.items():
        rng = generator(seed, 4, layer)
        n = len(space.observed)
        sets = {"observed": space.observed, "full": space.sample(n, rng, shape="full")}
        for again in ("", "_again"):
            sets[f"diagonal{again}"] = drawn = space.sample(n, rng, shape="gaussian")
            independent = replace(space, probes=replace(space.probes, direction=drawn))
            sets[f"full_of_independent{again}"] = independent.sample(n, rng, shape="full")
        rows += [(layer, seed, kind, float(pair_cosines(v)[2].std())) for kind, v in sets.items()]
    return pd.DataFrame(rows, columns=["layer", "seed", "kind", "value"])


def sigma_means(fits: dict[tuple[int, int], Subspace], layer: int, samples: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(arm, control): pair cosines of the 1- to 5-sigma steering vectors and of single draws in their place.

    A steering vector is the mean of `samples` draws; units are the sigmas, the same for every seed.
    """
    arms, controls, names = [], [], [f"{k} sigma" for k in SIGMAS]
    for (at, seed), space in fits.items():
        if at == layer:
            rng = generator(seed, 7)
            means = torch.stack([space.sample(samples, rng, k).mean(0) for k in SIGMAS])
            draws = torch.cat([space.sample(1, rng, k) for k in SIGMAS])
            arms.append(_pair_arm(*pair_cosines(means), seed, names))
            controls.append(_pair_arm(*pair_cosines(draws), seed, names))
    return pd.concat(arms, ignore_index=True), pd.concat(controls, ignore_index=True)


def cosine_to_mean(space: Subspace, samples: int, rng: torch.Generator) -> pd.DataFrame:
    """Where samples live: mean cosine of k-sigma samples to mu, measured and 1 / sqrt(1 + k^2 r / 3): a shell."""
    rows = []
    for k in SIGMAS:
        drawn = space.sample(samples, rng, k)
        rows.append((k, mean_cosine(drawn, space.mu[None]), closed_form(space.spread, k)["sampled"] ** 0.5))
    return pd.DataFrame(rows, columns=["k", "cosine", "predicted"])


def curve_arm(curves: pd.DataFrame, curve: str, shape: str = "box", k: float = 1.0) -> pd.DataFrame:
    """One curve of `cosine_curves` as an arm: unit and x (layer), seed, value."""
    rows = curves[(curves["curve"] == curve) & (curves["shape"] == shape) & (curves["k"] == k)]
    return pd.DataFrame({"unit": rows["layer"], "x": rows["layer"], "seed": rows["seed"], "value": rows["cosine"]})


def rise_arm(curves: pd.DataFrame) -> pd.DataFrame:
    """The observed curve at the last three layers minus that at the first three, pair by pair: unit, seed, value.

    Of fewer than six layers, half stand on each side.
    """
    arm, tables = curve_arm(curves, "observed").sort_values("x"), []
    for seed, one in arm.groupby("seed"):
        value = one["value"].to_numpy()
        n = min(3, len(value) // 2)
        tables.append(pd.DataFrame({"unit": range(n), "seed": seed, "value": value[-n:] - value[:n]}))
    return pd.concat(tables, ignore_index=True)


def change_arm(curves: pd.DataFrame, other: pd.DataFrame | None = None) -> pd.DataFrame:
    """How far the observed curve moves from each seed to the next, or at each seed from that of `other`.

    Absolute differences: unit (layer), seed, value.
    """
    wide = curve_arm(curves, "observed").pivot(index="unit", columns="seed", values="value")
    if other is None:
        moved = wide - np.roll(wide.to_numpy(), 1, axis=1)
    else:
        moved = wide - curve_arm(other, "observed").pivot(index="unit", columns="seed", values="value")
    return moved.abs().stack().rename("value").reset_index()


def order_arms(curves: pd.DataFrame, shape: str = "box") -> dict[str, pd.DataFrame]:
    """The three curves that claim C2 orders, for samples within one sigma."""
    return {curve: curve_arm(curves, curve, shape) for curve in ("sampled", "observed_sampled", "observed")}


def error_arms(curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(arm, control): |measured - predicted| by layer, by the box's formula and, as control, a Gaussian's.

    A layer's error is the mean over its curves and widths; the observed curve, which no width moves, counts once.
    """
    keys = ["layer", "seed", "k", "curve"]
    both = curves[curves["shape"] == "box"].merge(
        curves[curves["shape"] == "gaussian"][[*keys, "predicted"]], on=keys, suffixes=("", "_gaussian")
    )
    both = both[(both["curve"] != "observed") | (both["k"] == 1)]
    arms = []
    for predicted in ("predicted", "predicted_gaussian"):
        error = both.assign(value=(both["cosine"] - both[predicted]).abs())
        error = error.groupby(["layer", "seed"], as_index=False)["value"].mean()
        arms.append(error.rename(columns={"layer": "unit"}))
    return arms[0], arms[1]


def spread_arm(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One kind of `spreads` as an arm: unit (layer), seed, value."""
    rows = table[table["kind"] == kind]
    return pd.DataFrame({"unit": rows["layer"], "seed": rows["seed"], "value": rows["value"]})


def growth_arm(smaller: pd.DataFrame, larger: pd.DataFrame, depths: tuple[int, int]) -> pd.DataFrame:
    """The larger model's observed curve minus the smaller's at equal relative depth: unit (depth), seed, value.

    depths: numbers of layers of the smaller and the larger model; compared at tenths of the depth.
    """
    at, found = np.arange(1, 10) / 10, []
    for curves, n_layers in zip((smaller, larger), depths, strict=True):
        arm = curve_arm(curves, "observed").sort_values("x")
        found.append({s: np.interp(at, one["x"] / n_layers, one["value"]) for s, one in arm.groupby("seed")})
    tables = [pd.DataFrame({"unit": at, "seed": s, "value": found[1][s] - found[0][s]}) for s in found[0]]
    return pd.concat(tables, ignore_index=True)


def distances(space: Subspace, samples: int, rng: torch.Generator) -> pd.DataFrame:
    """How far samples lie from mu, in lengths of mu: columns k, distance; a few hundred samples a width."""
    tables = []
    for k in (1, 3, 5):
        away = (space.sample(min(samples, 400), rng, k) - space.mu).norm(dim=1) / space.mu.norm()
        tables.append(pd.DataFrame({"k": k, "distance": away.numpy()}))
    return pd.concat(tables, ignore_index=True)


# Claims on the paper's own cells, by the layers that each compares and takes as control.
PAPER_CELLS = {"P1": (30, 2), "P2": (15, 2), "P3": (2, 30)}


def paper_numbers(study, model: str, texts_csv: str, share: float, fits: dict[tuple[int, int], Subspace]) -> None:
    """Hand over the claims on the paper's own cells where model, layers and subsets are the paper's; else say why not.

    share: a subset's share of its pool, on which the cosine depends; the paper's is 0.2. That the texts are the paper's
    is the reader's word.
    """
    layers = {layer for layer, _ in fits}
    for claim, (layer, control) in PAPER_CELLS.items():
        if texts_csv and "llama-2-7b" in model.lower() and {layer, control} <= layers and 0.18 <= share <= 0.22:
            study.claim(claim, **{f"layer_{layer}": pairs(fits, layer)}, control=pairs(fits, control))
        else:
            study.untested(claim, "needs Llama-2-7B, the paper's texts on Bird, subsets of 20 %, layers 2, 15 and 30")
