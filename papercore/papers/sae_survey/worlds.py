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
ZIPF = 1.0  # words fall so
LONGER = 4  # times as many steps as in the other worlds: what is missing then is not for want of training
MOST = 0.5  # explained variance of an SAE that "explains most of the variance"
HIERARCHY = {"n_features": 64, "d": 32, "active": 3.0, "children": 4}
# k in the worlds with parents and children: 56 features share 3 * 56 / 64, a parent fires on a fifth of the tokens and
# its child on a quarter of those, so 3.6 are active.
DENSITIES = (2, 4, 16)


def dictionary(count: int, steps: int, zipf: float = ZIPF) -> pd.DataFrame:
    """Features with frequencies as rank^-zipf: a row a feature and world, its chance and best cosine with a latent.

    Columns world, feature, chance, cosine, explained (the SAE's explained variance in that world).
    """
    rows = []
    for seed in range(count):
        world = synthetic.world(FEATURES, DIMENSIONS, ACTIVE, zipf=zipf, seed=seed)
        sae, test = _trained(world, FEATURES, ACTIVE, LONGER * steps, seed)
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
    """Absorption rates by world, seed of the SAE and k: absorbed, the mean over pairs of a parent and its child;
    unrelated, that over as many pairs of a parent and another one's child, in which there is nothing to absorb.
    """
    rows = []
    for number in range(count):
        world = synthetic.world(**HIERARCHY, seed=1000 + number)
        parents, children = zip(*world.children, strict=True)
        pairs = {"absorbed": world.children, "unrelated": list(zip(parents, children[1:] + children[:1], strict=True))}
        for seed in range(seeds):
            for k in DENSITIES:
                sae, _ = _trained(world, HIERARCHY["n_features"], k, steps, seed)
                x, truth = world.sample(8000, seed=77)
                with torch.no_grad():
                    codes = sae.encode(x / scale(x))
                known = codes, sae.decoder.detach(), truth, world.directions
                rates = {
                    name: sum(functional.absorption(*known, pair) for pair in those) / len(those)
                    for name, those in pairs.items()
                }
                rows.append({"world": number, "seed": seed, "k": k, **rates})
    return pd.DataFrame(rows)


def excess(table: pd.DataFrame, of: int, versus: int, column: str = "absorbed") -> pd.DataFrame:
    """Rate at one k minus that at another, by world and seed."""
    wide = table.pivot_table(index=["world", "seed"], columns="k", values=column)
    return (wide[of] - wide[versus]).rename("value").reset_index().rename(columns={"world": "unit"})


def _trained(world: synthetic.World, n_latents: int, k: int, steps: int, seed: int) -> tuple[SAE, torch.Tensor]:
    """A TopK SAE of a world, and held-out activations at its scale."""
    x = world.sample(60_000, seed=seed)[0]
    size = scale(x)
    sae = registry.make("topk", x.shape[1], n_latents, k, seed=seed)
    train(sae, x / size, Recipe(steps=steps, batch=512, lr=3e-3, warmup=min(20, steps // 5 + 1), seed=seed))
    return sae, world.sample(4000, seed=99_999)[0] / size
