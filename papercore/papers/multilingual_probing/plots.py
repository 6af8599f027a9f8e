"""The figures of the notebook: each takes tables and returns (figure, the numbers that it draws)."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from papercore.papers.multilingual_probing.languages import LANGUAGES
from papercore.study.figures import COLOURS, MUTED, band

Drawing = tuple[plt.Figure, pd.DataFrame]
GROUPS = {"high": "high-resource", "low": "low-resource"}


def sweep(bands: pd.DataFrame, depth: int, statements: int) -> Drawing:
    """Accuracy by relative depth, a line and a bootstrap band a language, a panel a group."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 5.6), sharey=True)
    noise = 1.96 * np.sqrt(0.25 / statements)
    for ax, (group, title) in zip(axes, GROUPS.items(), strict=True):
        ours = [code for code in bands["language"].unique() if LANGUAGES[code].group == group]
        for code, colour, mark in zip(ours, COLOURS, "osD^vPX*", strict=False):
            part = bands[bands["language"] == code]
            style = {"color": colour, "marker": mark, "ms": 4, "label": LANGUAGES[code].name}
            band(ax, part["layer"] / depth, part["accuracy"], part["lo"], part["hi"], **style)
        ax.axhspan(0.5 - noise, 0.5 + noise, color=MUTED, alpha=0.25, lw=0, label=f"noise of {statements} statements")
        ax.set(xlabel="relative depth (0: embeddings)", title=title, ylim=(0.35, 1))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    axes[0].set_ylabel("accuracy on unseen countries")
    return figure, bands.assign(noise=noise)


def splits(curves: Mapping[str, pd.Series], chance: Mapping[str, pd.DataFrame], language: str, names: float) -> Drawing:
    """One language under several splits, each a line by layer, with bands of swapped labels for two of them.

    names: accuracy of the probe that knows only names, under the random split.
    """
    figure, ax = plt.subplots(figsize=(8.5, 4.4))
    tables = []
    for (name, table), colour in zip(chance.items(), (COLOURS[1], COLOURS[0]), strict=True):
        spread = table.groupby("layer")["value"].quantile([0.025, 0.975]).unstack()
        ax.fill_between(spread.index, spread[0.025], spread[0.975], color=colour, alpha=0.15, lw=0, label=name)
        tables.append(pd.DataFrame({"curve": name, "layer": spread.index, "lo": spread[0.025], "hi": spread[0.975]}))
    for (name, curve), mark, colour in zip(curves.items(), "os^D", [COLOURS[i] for i in (0, 2, 1, 6)], strict=True):
        ax.plot(curve.index, curve, marker=mark, ms=4, color=colour, label=name)
        tables.append(pd.DataFrame({"curve": name, "layer": curve.index, "accuracy": curve.to_numpy()}))
    ax.axhline(names, color=COLOURS[1], lw=1.2, ls="--", label="random, names alone (no model)")
    ax.axhline(0.5, color="black", lw=0.8, ls=":")
    title = f"{LANGUAGES[language].name}: the split decides what chance is"
    ax.set(xlabel="layer", ylabel="accuracy", title=title, xticks=list(next(iter(curves.values())).index))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, pd.concat(tables, ignore_index=True).assign(names_alone=names)


def heat_maps(ours: pd.DataFrame, papers: pd.DataFrame) -> Drawing:
    """Our cosines beside the paper's (both tables over our codes), in the paper's order, the same colours."""
    codes = [code for code, spec in LANGUAGES.items() if code in ours.index]
    names = [LANGUAGES[code].paper for code in codes]
    high = sum(LANGUAGES[code].group == "high" for code in codes)
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.6))
    tables = []
    for ax, title, cells in (
        (axes[0], "measured here", ours.loc[codes, codes].to_numpy()),
        (axes[1], "the paper's figure", papers.loc[codes, codes].to_numpy()),
    ):
        frame = pd.DataFrame(cells, names, names)
        sns.heatmap(
            frame.where(~np.eye(len(names), dtype=bool)),
            ax=ax,
            cmap="viridis",
            vmin=0,
            vmax=0.6,
            square=True,
            annot=(frame * 100).round().astype(int),
            fmt="d",
            annot_kws={"size": 7},
            cbar_kws={"label": "cosine of probe vectors", "shrink": 0.7},
        )
        ax.axhline(high, color="white", lw=3)
        ax.axvline(high, color="white", lw=3)
        ax.set_title(f"{title} (cells: 100 x cosine)")
        cells = frame.stack().rename_axis(["language", "other"]).rename("cosine").reset_index()
        tables.append(cells.assign(panel=title))
    return figure, pd.concat(tables, ignore_index=True)


def transfer(table: pd.DataFrame) -> Drawing:
    """Train on one language, test on every other: accuracy, mean over seeds."""
    mean = table.groupby(["train", "test"])["value"].mean().unstack()
    codes = [code for code in LANGUAGES if code in mean.index]
    names = [LANGUAGES[code].paper for code in codes]
    frame = pd.DataFrame(mean.loc[codes, codes].to_numpy(), names, names)
    figure, ax = plt.subplots(figsize=(8, 6.2))
    sns.heatmap(
        frame,
        ax=ax,
        cmap="vlag",
        center=0.5,
        vmin=0.1,
        vmax=0.9,
        square=True,
        annot=(frame * 100).round().astype(int),
        fmt="d",
        annot_kws={"size": 8},
        cbar_kws={"label": "accuracy on unseen countries"},
    )
    high = sum(LANGUAGES[code].group == "high" for code in codes)
    ax.axhline(high, color="white", lw=3)
    ax.axvline(high, color="white", lw=3)
    ax.set(xlabel="tested on", ylabel="trained on", title="One language's probe on another (cells: per cent)")
    return figure, frame.stack().rename_axis(["train", "test"]).rename("accuracy").reset_index()


def forms(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Accuracy of each language in each form, a point a form, whiskers over the draws."""
    data = pd.concat([t.assign(form=name) for name, t in tables.items()], ignore_index=True)
    data["name"] = data["unit"].map(lambda code: LANGUAGES[code].name)
    figure, ax = plt.subplots(figsize=(9, 4))
    sns.pointplot(
        data,
        x="name",
        y="value",
        hue="form",
        errorbar=("pi", 100),
        dodge=0.4,
        ls="none",
        markers=["o", "s", "D"],
        ax=ax,
    )
    ax.axhline(0.5, color="black", lw=0.8, ls=":")
    ax.tick_params(axis="x", rotation=45)
    ax.set(
        xlabel="", ylabel="accuracy on unseen countries", title="One template is one experiment (bars: range of draws)"
    )
    return figure, data.groupby(["unit", "form"])["value"].agg(["mean", "min", "max"]).reset_index()


def tokens(counts: pd.DataFrame) -> Drawing:
    """Tokens a statement and tokens a word, by language and tokenizer."""
    sums = counts.groupby(["language", "tokenizer"], sort=False)[["tokens", "words"]].agg(["mean", "sum"])
    data = pd.DataFrame(
        {"tokens": sums["tokens", "mean"], "tokens_a_word": sums["tokens", "sum"] / sums["words", "sum"]}
    ).reset_index()
    data["name"] = data["language"].map(lambda code: LANGUAGES[code].name)
    figure, axes = plt.subplots(1, 2, figsize=(10, 5), sharey=True)
    titles = {
        "tokens": "tokens a statement (the same facts everywhere)",
        "tokens_a_word": "tokens a word (Chinese and Burmese put no spaces)",
    }
    for ax, (column, label) in zip(axes, titles.items(), strict=True):
        sns.barplot(data, y="name", x=column, hue="tokenizer", legend=ax is axes[0], ax=ax)
        ax.set(xlabel=label, ylabel="")
    axes[0].set_title("The first inequality")
    axes[0].legend(title="")
    return figure, data.drop(columns="name")
