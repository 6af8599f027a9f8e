"""The 4 x 4 concept grid: a subspace a concept, how concepts of one category compare, accuracy on terms never seen."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from papercore.papers.gcs.baseline import bag_of_words
from papercore.papers.gcs.experiment import generator
from papercore.papers.gcs.subspace import Subspace, fit_subspace
from papercore.probes.directions import unit

NEGATIVES = ("same_category", "own", "other_categories")


def concepts(grid: pd.DataFrame) -> pd.DataFrame:
    """The 16 concepts in order: columns concept, category."""
    own = grid[grid["concept"] != "others"]
    return own[["concept", "category"]].drop_duplicates().reset_index(drop=True)


def task(grid: pd.DataFrame, concept: str, negatives: str) -> pd.Series:
    """Labels of the grid's rows for one concept: 1 its texts, 0 its negatives, NaN the rest.

    same_category, the paper's choice: random other things of the category, the same for its four concepts; own: a
    quarter of those, another one for each concept; other_categories: everything of the three other categories.
    """
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives = {negatives!r}; choose {', '.join(NEGATIVES)}")
    own = grid["concept"] == concept
    same = grid["category"] == grid.loc[own, "category"].iloc[0]
    label = pd.Series(np.nan, index=grid.index)
    others = same & (grid["concept"] == "others")
    terms = list(dict.fromkeys(grid.loc[others, "term"]))
    siblings = list(dict.fromkeys(grid.loc[same & ~others, "concept"]))
    mine = others & grid["term"].isin(terms[siblings.index(concept) :: 4])
    label[{"same_category": others, "own": mine, "other_categories": ~same}[negatives]] = 0.0
    label[own] = 1.0
    return label


def fit_grid(
    states: torch.Tensor,
    grid: pd.DataFrame,
    *,
    negatives: str,
    probes: int,
    seeds: Iterable[int],
) -> dict[tuple[str, int], Subspace]:
    """{(concept, seed): Subspace} from the training terms' activations (n_texts, d_model).

    A probe's subset holds half of the concept's training texts, or of its negatives where those are fewer, and as many
    of the other class.
    """
    out = {}
    for number, concept in enumerate(concepts(grid)["concept"]):
        label = task(grid, concept, negatives).to_numpy(copy=True)
        rows = torch.from_numpy(np.flatnonzero(~np.isnan(label) & ~grid["test"].to_numpy()))
        y = torch.from_numpy(label)[rows]
        for seed in seeds:
            out[concept, seed] = fit_subspace(
                states[rows],
                y,
                n_probes=probes,
                subset_per_class=int(min(y.sum(), (1 - y).sum())) // 2,
                generator=generator(seed, 8, number),
            )
    return out


def accuracies(
    spaces: dict[tuple[str, int], Subspace], states: torch.Tensor, grid: pd.DataFrame, *, negatives: str, samples: int
) -> pd.DataFrame:
    """Balanced accuracy on the test terms: columns unit (concept), seed, vectors, value."""
    out = []
    for number, ((concept, seed), space) in enumerate(spaces.items()):
        label = task(grid, concept, negatives).to_numpy(copy=True)
        rows = torch.from_numpy(np.flatnonzero(~np.isnan(label) & grid["test"].to_numpy()))
        y, x = torch.from_numpy(label)[rows], states[rows]
        rng = generator(seed, 9, number)
        kinds = {"observed": space.observed, "mean": space.mu[None], "1_sigma": space.sample(samples, rng)}
        kinds["random_direction"] = torch.randn(samples, len(space.mu), dtype=torch.double, generator=rng)
        for name, vectors in kinds.items():
            right = space.accuracy(vectors, x, y)
            out.append((concept, seed, name, float((right[y > 0].mean() + right[y < 1].mean()) / 2)))
    return pd.DataFrame(out, columns=["unit", "seed", "vectors", "value"])


def lexical_accuracies(grid: pd.DataFrame, *, negatives: str) -> pd.Series:
    """Balanced accuracy of a bag of words on the test terms, by concept: what articles and words like "Open" tell."""
    found = {}
    for concept in concepts(grid)["concept"]:
        table = grid.assign(label=task(grid, concept, negatives)).dropna(subset="label")
        train, test = table[~table["test"]], table[table["test"]]
        # As many of each class, or the bag of words would do well by always saying no.
        few = train["label"].value_counts().min()
        train = train.groupby("label").sample(few, random_state=0)
        right = pd.Series(bag_of_words(train, test), index=test.index)
        found[concept] = float(right.groupby(test["label"]).mean().mean())
    return pd.Series(found, name="bag_of_words")


def heat_map(spaces: dict[tuple[str, int], Subspace], grid: pd.DataFrame, samples: int) -> dict[int, np.ndarray]:
    """{seed: (16, 16)} mean cosine between 1-sigma samples of two concepts, self-pairs included as in the paper."""
    order, maps = list(concepts(grid)["concept"]), {}
    for seed in sorted({seed for _, seed in spaces}):
        rng = generator(seed, 10)
        # As in directions.mean_cosine: the mean of all cosines is the product of the mean unit vectors.
        means = torch.stack([unit(spaces[concept, seed].sample(samples, rng)).mean(0) for concept in order])
        maps[seed] = (means @ means.T).numpy()
    return maps


def pair_arm(maps: dict[int, np.ndarray], categories: Iterable[str], shuffle: bool = False) -> pd.DataFrame:
    """The heat map's off-diagonal cells as an arm: unit, other, seed, value, label (within or between).

    shuffle: the categories are dealt anew to the concepts, another deal for each seed.
    """
    categories, tables = np.asarray(list(categories)), []
    first, second = np.triu_indices(len(categories), k=1)
    for seed, cells in maps.items():
        names = np.random.default_rng([seed, 11]).permutation(categories) if shuffle else categories
        label = np.where(names[first] == names[second], "within", "between")
        tables.append(
            pd.DataFrame({"unit": first, "other": second, "seed": seed, "value": cells[first, second], "label": label})
        )
    return pd.concat(tables, ignore_index=True)


def within_minus_between_null(cells: np.ndarray, categories: Iterable[str], draws: int, seed: int) -> np.ndarray:
    """The statistic under `draws` random deals of the categories: (draws,), the permutation null of claim C5."""
    categories, rng = np.asarray(list(categories)), np.random.default_rng([seed, 12])
    first, second = np.triu_indices(len(categories), k=1)
    value, null = cells[first, second], np.empty(draws)
    for i in range(draws):
        names = rng.permutation(categories)
        within = names[first] == names[second]
        null[i] = value[within].mean() - value[~within].mean()
    return null


def plane(spaces: dict[tuple[str, int], Subspace], grid: pd.DataFrame, seed: int) -> np.ndarray:
    """The concepts' mean vectors, at norm 1, on their first two principal components: (16, 2)."""
    from sklearn.decomposition import PCA

    means = torch.stack([unit(spaces[concept, seed].mu) for concept in concepts(grid)["concept"]])
    return PCA(2, random_state=0).fit_transform(means.numpy())


def silhouettes(points: np.ndarray, categories: Iterable[str]) -> np.ndarray:
    """Silhouette of each point by category, (n_points,), in [-1, 1] (Rousseeuw 1987)."""
    from sklearn.metrics import silhouette_samples

    return silhouette_samples(points, list(categories))


def silhouette_arm(spaces: dict[tuple[str, int], Subspace], grid: pd.DataFrame) -> pd.DataFrame:
    """Silhouettes on the plane as an arm: unit (concept), seed, value."""
    table, tables = concepts(grid), []
    for seed in sorted({seed for _, seed in spaces}):
        value = silhouettes(plane(spaces, grid, seed), table["category"])
        tables.append(pd.DataFrame({"unit": table["concept"], "seed": seed, "value": value}))
    return pd.concat(tables, ignore_index=True)


def silhouette_null(spaces: dict[tuple[str, int], Subspace], grid: pd.DataFrame, seed: int, draws: int) -> float:
    """95 % quantile of the mean silhouette when categories are dealt to the concepts at random."""
    points, names = plane(spaces, grid, seed), concepts(grid)["category"].to_numpy()
    rng = np.random.default_rng([seed, 20])
    return float(np.quantile([silhouettes(points, rng.permutation(names)).mean() for _ in range(draws)], 0.95))


def lexical_control_arm(
    spaces: dict[tuple[str, int], Subspace],
    states: torch.Tensor,
    grid: pd.DataFrame,
    control_states: torch.Tensor,
    controls: pd.DataFrame,
) -> pd.DataFrame:
    """AUROC of the mean probe's score: unseen texts of a concept against texts that only have its word.

    Columns unit (concept), seed, value.
    """
    from sklearn.metrics import roc_auc_score

    out = []
    for (concept, seed), space in spaces.items():
        x = [states[np.flatnonzero((grid["concept"] == concept) & grid["test"])]]
        x.append(control_states[np.flatnonzero(controls["concept"] == concept)])
        scores = [(((side.double() - space.mean) / space.scale) @ space.mu).numpy() for side in x]
        truth = np.repeat([1, 0], [len(side) for side in scores])
        out.append((concept, seed, roc_auc_score(truth, np.concatenate(scores))))
    return pd.DataFrame(out, columns=["unit", "seed", "value"])
