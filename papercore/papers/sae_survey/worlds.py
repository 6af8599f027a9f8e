"""Known features: what an SAE finds of them, and when it absorbs a parent into its children."""

from __future__ import annotations

import pandas as pd
import torch

from papercore.sae import functional, metrics, registry, synthetic
from papercore.sae.activations import scale
from papercore.sae.base import SAE
from papercore.sae.trainer import Recipe, train

FEATURES, DIMENSIONS, ACTIVE = 256, 64, 5
FOUND = 0.9  # cosine at which a feature counts as found
HIERARCHY = {"n_features": 64, "d": 32, "active": 3.0, "children": 4}
DENSITIES = (2, 5, 16)  # k in the worlds with parents and children, where about 4.5 features are active


def dictionary(count: int, steps: int) -> pd.DataFrame:
    """Features whose frequencies fall as 1/rank: a row a feature and world, its chance and best cosine with a latent.

    Columns world, feature, chance, cosine, explained (the SAE's explained variance in that world).
    """
    rows = []
    for seed in range(count):
        world = synthetic.world(FEATURES, DIMENSIONS, ACTIVE, zipf=1.0, seed=seed)
        sae, test = _trained(world, FEATURES, ACTIVE, steps, seed)
        best = metrics.best_cosines(world.directions, sae.decoder.detach())
        explained = metrics.explained_variance(metrics.per_token(sae, test))
        columns = {"feature": range(FEATURES), "chance": world.chance, "cosine": best}
        rows.append(pd.DataFrame(columns).assign(world=seed, explained=explained))
    return pd.concat(rows, ignore_index=True)


def found(table: pd.DataFrame) -> pd.DataFrame:
    """Whether each feature is found, as an arm: unit, value, seed (the world)."""
    value = (table["cosine"] >= FOUND).astype(float)
    return pd.DataFrame({"unit": table["feature"], "value": value, "seed": table["world"]})


def absorption(count: int, steps: int, seeds: int) -> pd.DataFrame:
    """Absorption rate, mean over the pairs, by world, seed of the SAE and k."""
    rows = []
    for number in range(count):
        world = synthetic.world(**HIERARCHY, seed=1000 + number)
        for seed in range(seeds):
            for k in DENSITIES:
                sae, _ = _trained(world, HIERARCHY["n_features"], k, steps, seed)
                x, truth = world.sample(4000, seed=77)
                with torch.no_grad():
                    codes = sae.encode(x / scale(x))
                rates = [
                    functional.absorption(codes, sae.decoder.detach(), truth, world.directions, pair)
                    for pair in world.children
                ]
                rows.append((number, seed, k, sum(rates) / len(rates)))
    return pd.DataFrame(rows, columns=["world", "seed", "k", "absorbed"])


def dip(table: pd.DataFrame, middle: int, ends: tuple[int, int]) -> pd.DataFrame:
    """The smaller rate at the ends minus the rate at `middle`, by world and seed."""
    wide = table.pivot_table(index=["world", "seed"], columns="k", values="absorbed")
    value = wide[list(ends)].min(axis=1) - wide[middle]
    return value.rename("value").reset_index().rename(columns={"world": "unit"})


def _trained(world: synthetic.World, n_latents: int, k: int, steps: int, seed: int) -> tuple[SAE, torch.Tensor]:
    """A TopK SAE of a world, and held-out activations at its scale."""
    x = world.sample(30_000, seed=seed)[0]
    size = scale(x)
    sae = registry.make("topk", x.shape[1], n_latents, k, seed=seed)
    train(sae, x / size, Recipe(steps=steps, batch=512, lr=3e-3, warmup=min(20, steps // 5 + 1), seed=seed))
    return sae, world.sample(4000, seed=99_999)[0] / size
