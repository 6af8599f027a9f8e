"""The figures of the notebook: each takes tables and returns (figure, the numbers that it draws)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from papercore.papers.gcs import concepts as grid_concepts
from papercore.papers.gcs.subspace import Subspace
from papercore.probes.directions import pair_cosines
from papercore.study.figures import COLOURS, MUTED, band

CURVES = {"sampled": "sampled, sampled", "observed_sampled": "observed, sampled", "observed": "observed, observed"}
Drawing = tuple[plt.Figure, pd.DataFrame]


def histogram(space: Subspace, generator) -> Drawing:
    """Pair cosines of observed probes and of as many draws from the box and from the diagonal Gaussian."""
    n = len(space.observed)
    sets = {
        "observed probes": space.observed,
        "draws, diagonal Gaussian": space.sample(n, generator, shape="gaussian"),
        "draws, uniform box": space.sample(n, generator),
    }
    data = pd.concat([pd.DataFrame({"vectors": k, "cosine": pair_cosines(v)[2]}) for k, v in sets.items()])
    figure, ax = plt.subplots()
    sns.histplot(data, x="cosine", hue="vectors", bins=60, stat="density", common_norm=False, element="step", ax=ax)
    ax.set(xlabel="cosine of a pair of vectors", ylabel="density", title=f"Pairs of {n} vectors of one concept")
    return figure, data.reset_index(drop=True)


def curves(table: pd.DataFrame, untrained: pd.DataFrame) -> Drawing:
    """The three mean-cosine curves by layer, measured (points, range over seeds) and predicted (lines)."""
    rows = table[(table["shape"] == "box") & (table["k"] == 1)]
    data = rows.groupby(["curve", "layer"])[["cosine", "predicted"]].agg(["mean", "min", "max"])
    data.columns = ["_".join(names) for names in data.columns]
    data = data.reset_index()
    other = untrained[(untrained["curve"] == "observed") & (untrained["shape"] == "box") & (untrained["k"] == 1)]
    base = other.groupby("layer")["cosine"].mean()
    figure, ax = plt.subplots(figsize=(8.5, 4))
    for colour, (name, label) in zip(COLOURS, CURVES.items(), strict=False):
        part = data[data["curve"] == name]
        error = [part["cosine_mean"] - part["cosine_min"], part["cosine_max"] - part["cosine_mean"]]
        ax.errorbar(part["layer"], part["cosine_mean"], error, fmt="o", ms=4, color=colour, label=label)
        ax.plot(part["layer"], part["predicted_mean"], color=colour, lw=1)
    ax.plot(base.index, base, ls=":", color=MUTED, label="observed, observed: random weights")
    ax.set(xlabel="layer", ylabel="mean cosine", ylim=(0, 1), title="Points are measured, lines are the closed form")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, data.merge(base.rename("observed_random_weights"), left_on="layer", right_index=True)


def shell(table: pd.DataFrame, norms: pd.DataFrame) -> Drawing:
    """Cosine of samples to the mean against k with its closed form; and how far from the mean the samples lie."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    left.plot(table["k"], table["cosine"], "o", label="measured")
    left.plot(table["k"], table["predicted"], lw=1, color=COLOURS[0], label=r"$1/\sqrt{1 + k^2 r / 3}$")
    left.set(xlabel="k (sigma)", ylabel="mean cosine to mu", ylim=(0, 1), title="Samples from wider boxes")
    left.legend()
    sns.histplot(norms, x="distance", hue="k", bins=80, element="step", palette="viridis", ax=right)
    right.set(
        xlabel="distance to mu / length of mu",
        ylabel="samples",
        xlim=(0, None),
        title="How far samples lie from the mean",
    )
    return figure, pd.concat([table.assign(panel="cosine"), norms.assign(panel="distance")], ignore_index=True)


def accuracy_by_layer(table: pd.DataFrame, lexical: float, untrained: pd.DataFrame) -> Drawing:
    """Held-out accuracy by layer for observed, mean and k-sigma vectors; bag of words and random weights beside it."""
    shown = ["mean", "1_sigma", "observed", "3_sigma", "5_sigma"]
    rows = table[(table["space"] == "standardised") & table["vectors"].isin(shown)]
    by_seed = rows.groupby(["vectors", "layer", "seed"])["value"].mean()
    data = by_seed.groupby(["vectors", "layer"]).agg(["mean", "min", "max"]).reset_index()
    figure, ax = plt.subplots(figsize=(8.5, 4))
    for name in shown:
        part = data[data["vectors"] == name]
        label = {"mean": "mean of the probes", "observed": "observed probes"}.get(name, name.replace("_", " "))
        band(ax, part["layer"], part["mean"], part["min"], part["max"], marker="o", ms=3, label=label)
    ax.axhline(lexical, color="black", lw=1, ls="--", label="bag of words")
    base = untrained[(untrained["vectors"] == "mean") & (untrained["space"] == "standardised")]
    base = base.groupby("layer")["value"].mean()
    ax.plot(base.index, base, color=MUTED, lw=1, ls=":", label="mean probe, random weights")
    ax.set(xlabel="layer", ylabel="accuracy on unseen texts", ylim=(0.45, 1), title="Bands: range over fitting seeds")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, data.assign(bag_of_words=lexical, random_weights=data["layer"].map(base))


def bagging(table: pd.DataFrame) -> Drawing:
    """Accuracy of the mean of m probes against m."""
    data = table.groupby("m")["value"].agg(["mean", "min", "max"]).reset_index()
    figure, ax = plt.subplots(figsize=(6, 3.6))
    band(ax, data["m"], data["mean"], data["min"], data["max"], marker="o")
    ax.set(
        xscale="log",
        xlabel="probes averaged, m",
        ylabel="accuracy on unseen texts",
        title="The mean of m probes (band: range over seeds)",
    )
    return figure, data


def spaces(table: pd.DataFrame) -> Drawing:
    """Accuracy of observed and 1-sigma vectors in the space they were trained in and on raw states, by layer."""
    rows = table[table["vectors"].isin(["observed", "1_sigma"])]
    data = rows.groupby(["layer", "seed", "vectors", "space"], as_index=False)["value"].mean()
    data["vectors"] = data["vectors"].str.replace("_", " ")
    figure, ax = plt.subplots(figsize=(7.5, 3.8))
    sns.lineplot(data, x="layer", y="value", hue="vectors", style="space", markers=True, errorbar=("pi", 100), ax=ax)
    ax.set(
        xlabel="layer",
        ylabel="accuracy on unseen texts",
        ylim=(0.45, 1),
        title="Three coordinate systems (band: range over seeds)",
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, data


def heat_map(maps: dict[int, np.ndarray], table: pd.DataFrame, null: np.ndarray, statistic: float) -> Drawing:
    """The 16 x 16 heat map (mean over seeds), and the statistic of C5 in its permutation null."""
    cells, names = np.mean(list(maps.values()), axis=0), list(table["concept"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.6), width_ratios=[1.8, 1])
    frame = pd.DataFrame(cells, names, names)
    sns.heatmap(
        frame,
        ax=left,
        cmap="vlag",
        center=0,
        vmin=-1,
        vmax=1,
        square=True,
        cbar_kws={"label": "mean cosine", "shrink": 0.7},
    )
    for edge in range(4, len(names), 4):
        left.axhline(edge, color="white", lw=2)
        left.axvline(edge, color="white", lw=2)
    left.set_title("Mean cosine of two concepts' samples")
    share = (1 + (null >= statistic).sum()) / (1 + len(null))
    right.hist(null, bins=40, color=MUTED, label="categories dealt at random")
    right.axvline(statistic, color=COLOURS[1], lw=2, label=f"true categories (p = {share:.2g})")
    right.set(xlabel="within minus between, mean cosine", ylabel="deals", title="Permutation null")
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15))
    cells = frame.stack().rename_axis(["concept", "other"]).rename("value").reset_index().assign(panel="cosine")
    return figure, pd.concat([cells, pd.DataFrame({"panel": "null", "value": null})], ignore_index=True)


def plane(spaces_: dict, grid: pd.DataFrame, seed: int, null_high: float) -> Drawing:
    """The concepts' mean vectors on two principal components, coloured by category."""
    points = grid_concepts.plane(spaces_, grid, seed)
    data = grid_concepts.concepts(grid).assign(pc1=points[:, 0], pc2=points[:, 1])
    figure, ax = plt.subplots(figsize=(7, 5))
    sns.scatterplot(data, x="pc1", y="pc2", hue="category", style="category", s=90, ax=ax)
    for row in data.itertuples():
        ax.annotate(row.concept, (row.pc1, row.pc2), xytext=(5, 4), textcoords="offset points", fontsize=7)
    data["silhouette"] = grid_concepts.silhouettes(points, data["category"])
    title = f"Silhouette {data['silhouette'].mean():.2f}; 95 % of random deals stay below {null_high:.2f}"
    ax.set(xlabel="principal component 1", ylabel="principal component 2", title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, data.assign(random_deals_95=null_high)


def steering(scores: pd.DataFrame) -> Drawing:
    """Sentiment against incoherence, one curve a method, a point a strength; bars: standard error over texts."""
    table = scores.groupby(["method", "strength"])[["sentiment", "nll", "distinct_2"]].agg(["mean", "sem"])
    table.columns = ["_".join(names) for names in table.columns]
    data = table.reset_index()
    start = data[data["method"] == "none"].iloc[0]
    figure, ax = plt.subplots(figsize=(8.5, 4.6))
    markers = "osD^vP*XX"
    for (name, part), marker in zip(
        data[data["method"] != "none"].groupby("method", sort=False), markers, strict=False
    ):
        random = name.startswith("random")
        style = {"color": MUTED, "ls": ":"} if random else {"ls": "-"}
        x = [start["nll_mean"], *part["nll_mean"]]
        y = [start["sentiment_mean"], *part["sentiment_mean"]]
        ax.errorbar(
            x,
            y,
            [0, *part["sentiment_sem"]],
            marker=marker,
            ms=5,
            capsize=2,
            lw=1.2,
            label=name.replace("_", " "),
            **style,
        )
    ax.plot(start["nll_mean"], start["sentiment_mean"], "k*", ms=14, label="not steered")
    ax.set(
        xlabel="negative log-probability a token, unsteered model (nats; right = less fluent)",
        ylabel="VADER compound (up = more positive)",
        title="Effect against fluency",
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, data
