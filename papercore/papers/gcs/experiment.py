"""Reading the texts once, fitting every layer and seed, and the tables that the claims are judged on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from papercore.papers.gcs.baseline import bag_of_words
from papercore.papers.gcs.data import Sentiment
from papercore.papers.gcs.subspace import SIGMAS, Subspace, arithmetic_subspace, closed_form, fit_subspace, measured
from papercore.probes.directions import mean_cosine, pair_cosines
from papercore.probes.logistic import fit_probes

# Widths at which the cosine curves are measured; at 5 sigma little of mu is left to compare.
CURVE_SIGMAS = (1, 2, 3)


@dataclass(frozen=True)
class Reading:
    """Last-token activations of one model: pool[layer], held_out[layer] (n_texts, d_model); labels y.

    seed_share: the part of the pool that one fitting seed sees, so that a new seed means other texts, not only other
    subsets.
    """

    pool: dict[int, torch.Tensor]
    held_out: dict[int, torch.Tensor]
    pool_y: torch.Tensor
    held_out_y: torch.Tensor
    seed_share: float


def read(model, data: Sentiment, layers: Iterable[int], seed_share: float) -> Reading:
    """Residual stream after `layers` at each text's last token, pool and held-out texts in one pass."""
    layers = list(layers)
    n = len(data.pool)
    states = model.activations([*data.pool["text"], *data.held_out["text"]], layers=layers, position="last")
    labels = [torch.tensor(table["label"].to_numpy()) for table in (data.pool, data.held_out)]
    return Reading({i: states[i][:n] for i in layers}, {i: states[i][n:] for i in layers}, *labels, seed_share)


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
    seeds: Iterable[int],
    shuffle: bool = False,
    device: str = "cpu",
) -> dict[tuple[int, int], Subspace]:
    """{(layer, seed): Subspace}; each seed draws its share of the pool and its subsets. shuffle: permuted labels."""
    out = {}
    for seed in seeds:
        rows, y = seed_pool(reading, seed, shuffle=shuffle)
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


def seed_pool(reading: Reading, seed: int, shuffle: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, labels) of the share of the pool that a fitting seed sees, half of each class; shuffle permutes labels."""
    rng = generator(seed, 0)
    y = reading.pool_y
    if shuffle:
        y = y[torch.randperm(len(y), generator=rng)]
    parts = [torch.nonzero(y == label)[:, 0] for label in (1, 0)]
    rows = torch.cat([p[torch.randperm(len(p), generator=rng)[: round(reading.seed_share * len(p))]] for p in parts])
    return rows, y[rows]


def cosine_curves(fits: dict[tuple[int, int], Subspace], samples: int) -> pd.DataFrame:
    """Measured and predicted mean cosines: columns layer, seed, k, shape, curve, cosine, predicted.

    curve: observed, observed_sampled, sampled. shape: box, gaussian, full, and `arithmetic` (box samples around
    vectors that no model made).
    """
    rows = []
    for (layer, seed), space in fits.items():
        rng = generator(seed, 2)
        runs = [(space, shape, float(k)) for k in CURVE_SIGMAS for shape in ("box", "gaussian")]
        runs += [(space, "full", 1.0), (arithmetic_subspace(space, rng), "arithmetic", 1.0)]
        for which, shape, k in runs:
            drawn = which.sample(samples, rng, k, "box" if shape == "arithmetic" else shape)
            form = closed_form(which.spread, k, "box" if shape in ("box", "arithmetic") else "gaussian")
            for curve, value in measured(which, drawn).items():
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
    """The pairs of `arm` for probes that all trained on one subset: what is left when the data do not move."""
    tables = []
    for seed, table in arm.groupby("seed"):
        rows, y = seed_pool(reading, int(seed))
        one = torch.cat([torch.nonzero(y == label)[:subset_per_class, 0] for label in (1, 0)])
        n = int(table["unit"].nunique()) + 1
        probes = fit_probes(reading.pool[layer][rows], y, one.expand(n, -1))
        tables.append(_pair_arm(*pair_cosines(probes.direction), seed))
    return pd.concat(tables, ignore_index=True)


def _pair_arm(first, second, value, seed) -> pd.DataFrame:
    # Probes are units, and another seed has other probes.
    name = np.array([f"{seed}:{i}" for i in range(int(second.max()) + 1)])
    return pd.DataFrame({"unit": name[first], "other": name[second], "seed": seed, "value": value})


def spreads(fits: dict[tuple[int, int], Subspace]) -> pd.DataFrame:
    """Standard deviation of pair cosines, observed and of as many draws: columns layer, seed, kind, value.

    kind: observed; diagonal and diagonal_again (two sets of draws from N(mu, diag sigma^2)); full covariance.
    """
    rows = []
    for (layer, seed), space in fits.items():
        rng = generator(seed, 4)
        n = len(space.observed)
        sets = {
            "observed": space.observed,
            "diagonal": space.sample(n, rng, shape="gaussian"),
            "diagonal_again": space.sample(n, rng, shape="gaussian"),
            "full": space.sample(n, rng, shape="full"),
        }
        rows += [(layer, seed, kind, float(pair_cosines(v)[2].std())) for kind, v in sets.items()]
    return pd.DataFrame(rows, columns=["layer", "seed", "kind", "value"])


def accuracies(
    fits: dict[tuple[int, int], Subspace], reading: Reading, layers: Iterable[int], samples: int
) -> pd.DataFrame:
    """Accuracy on the held-out texts, a row a text: columns layer, seed, vectors, space, unit, value.

    vectors: observed (mean over the probes), mean (mu), 1_sigma, ..., random_direction; value is the share of vectors
    right about that text. space: standardised, centred, raw (released code); see Subspace.accuracy.
    """
    tables = []
    for layer in layers:
        x, y = reading.held_out[layer], reading.held_out_y
        for (at, seed), space in fits.items():
            if at != layer:
                continue
            rng = generator(seed, 5)
            kinds = {"observed": space.observed, "mean": space.mu[None]}
            kinds |= {f"{k:g}_sigma": space.sample(samples, rng, k) for k in SIGMAS}
            kinds["random_direction"] = torch.randn(samples, len(space.mu), dtype=torch.double, generator=rng)
            scores = [("standardised", kind, space.accuracy(v, x, y)) for kind, v in kinds.items()]
            for kind in ("observed", "1_sigma"):
                scores += [(name, kind, space.accuracy(kinds[kind], x, y, name)) for name in ("centred", "raw")]
            for name, kind, value in scores:
                tables.append(
                    pd.DataFrame(
                        {
                            "layer": layer,
                            "seed": seed,
                            "vectors": kind,
                            "space": name,
                            "unit": np.arange(len(y)),
                            "value": value,
                        }
                    )
                )
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
                means = torch.stack([space.observed[rows].mean(0) for rows in chosen])
                rows.append((seed, m, float(space.accuracy(means, x, y).mean())))
    return pd.DataFrame(rows, columns=["seed", "m", "value"])


def sigma_means(fits: dict[tuple[int, int], Subspace], layer: int, samples: int):
    """(arm, control): pair cosines of the 1- to 5-sigma steering vectors that are means of `samples` draws
    each, and of single draws in their place."""
    arms, controls = [], []
    for (at, seed), space in fits.items():
        if at == layer:
            rng = generator(seed, 7)
            means = torch.stack([space.sample(samples, rng, k).mean(0) for k in SIGMAS])
            draws = torch.cat([space.sample(1, rng, k) for k in SIGMAS])
            arms.append(_pair_arm(*pair_cosines(means), seed))
            controls.append(_pair_arm(*pair_cosines(draws), seed))
    return pd.concat(arms, ignore_index=True), pd.concat(controls, ignore_index=True)


def cosine_to_mean(space: Subspace, samples: int, rng: torch.Generator) -> pd.DataFrame:
    """Where samples live: mean cosine of k-sigma samples to mu, measured and 1 / sqrt(1 + k^2 r / 3): a shell."""
    rows = []
    for k in SIGMAS:
        drawn = space.sample(samples, rng, k)
        rows.append((k, mean_cosine(drawn, space.mu[None]), closed_form(space.spread, k)["sampled"] ** 0.5))
    return pd.DataFrame(rows, columns=["k", "cosine", "predicted"])


def lexical_arm(data: Sentiment, reading: Reading, seeds: Iterable[int]) -> pd.DataFrame:
    """The bag of words trained on what each seed's probes see: unit (held-out text), seed, value 1 where right."""
    tables = []
    for seed in seeds:
        rows, _ = seed_pool(reading, seed)
        right = bag_of_words(data.pool.iloc[rows.numpy()], data.held_out)
        tables.append(pd.DataFrame({"unit": np.arange(len(right)), "seed": seed, "value": right}))
    return pd.concat(tables, ignore_index=True)


def curve_arm(curves: pd.DataFrame, curve: str, shape: str = "box", k: float = 1.0) -> pd.DataFrame:
    """One curve of `cosine_curves` as an arm: unit and x (layer), seed, value."""
    rows = curves[(curves["curve"] == curve) & (curves["shape"] == shape) & (curves["k"] == k)]
    return pd.DataFrame({"unit": rows["layer"], "x": rows["layer"], "seed": rows["seed"], "value": rows["cosine"]})


def order_arms(curves: pd.DataFrame, shape: str = "box") -> dict[str, pd.DataFrame]:
    """The three curves that claim C2 orders, for samples within one sigma."""
    return {curve: curve_arm(curves, curve, shape) for curve in ("sampled", "observed_sampled", "observed")}


def error_arms(curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(arm, control): |measured - predicted| of each layer, curve and sigma, by the box's formula and a Gaussian's."""
    rows = curves[curves["shape"] == "box"]
    gauss = curves[curves["shape"] == "gaussian"].set_index(["layer", "seed", "k", "curve"])["predicted"]
    wrong = gauss.loc[list(rows[["layer", "seed", "k", "curve"]].itertuples(index=False, name=None))].to_numpy()
    unit = rows["layer"].astype(str) + " " + rows["curve"] + " " + rows["k"].astype(str)
    arms = [
        pd.DataFrame({"unit": unit, "seed": rows["seed"], "value": (rows["cosine"] - predicted).abs()})
        for predicted in (rows["predicted"], wrong)
    ]
    return arms[0], arms[1]


def spread_arm(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One kind of `spreads` as an arm: unit (layer), seed, value."""
    rows = table[table["kind"] == kind]
    return pd.DataFrame({"unit": rows["layer"], "seed": rows["seed"], "value": rows["value"]})


def scatter_gain(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """How much nearer `kind` comes to the observed scatter than the diagonal does: unit (layer), seed, value."""
    wide = table.pivot(index=["layer", "seed"], columns="kind", values="value").reset_index()
    gain = (wide["diagonal"] - wide["observed"]).abs() - (wide[kind] - wide["observed"]).abs()
    return pd.DataFrame({"unit": wide["layer"], "seed": wide["seed"], "value": gain})


def text_arm(table: pd.DataFrame, layer: int, vectors: str, space: str = "standardised") -> pd.DataFrame:
    """One kind of vectors of `accuracies` at one layer as an arm: unit (text), seed, value."""
    rows = table[(table["layer"] == layer) & (table["vectors"] == vectors) & (table["space"] == space)]
    return rows[["unit", "seed", "value"]]


def size_arms(curves: pd.DataFrame, larger: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Arms of claim C3_size: observed curves of both models at equal relative depth (tenths), and the smaller again."""
    depths = np.arange(1, 11) / 10

    def at_depth(table, curve_seed_shift=0):
        arm, out = curve_arm(table, "observed"), []
        seeds = sorted(arm["seed"].unique())
        for i, seed in enumerate(seeds):
            one = arm[arm["seed"] == seeds[(i + curve_seed_shift) % len(seeds)]].sort_values("x")
            value = np.interp(depths * one["x"].max(), one["x"], one["value"])
            out.append(pd.DataFrame({"unit": depths, "seed": seed, "value": value}))
        return pd.concat(out, ignore_index=True)

    return {"larger_model": at_depth(larger), "model": at_depth(curves), "control": at_depth(curves, 1)}


def distances(space: Subspace, samples: int, rng: torch.Generator) -> pd.DataFrame:
    """How far samples lie from mu, in lengths of mu: columns k, distance; a few hundred samples a width."""
    tables = []
    for k in (1, 3, 5):
        away = (space.sample(min(samples, 400), rng, k) - space.mu).norm(dim=1) / space.mu.norm()
        tables.append(pd.DataFrame({"k": k, "distance": away.numpy()}))
    return pd.concat(tables, ignore_index=True)


# Claims on the paper's own cells, by the layers that each compares and takes as control.
PAPER_CELLS = {"P1": (30, 2), "P2": (15, 2), "P3": (2, 30)}


def paper_numbers(study, model: str, texts_csv: str, fits: dict[tuple[int, int], Subspace]) -> None:
    """Hand over the claims on the paper's own cells where model, texts and layers are the paper's; else say why not."""
    layers = {layer for layer, _ in fits}
    for claim, (layer, control) in PAPER_CELLS.items():
        if not (texts_csv and "llama-2-7b" in model.lower() and {layer, control} <= layers):
            study.untested(claim, "needs Llama-2-7B, the paper's texts on the concept Bird, and layers 2, 15 and 30")
        else:
            study.claim(claim, **{f"layer_{layer}": pairs(fits, layer)}, control=pairs(fits, control))
