"""Figures of the notebook: each function takes tables and gives a figure and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from papercore.papers.exfoliation_bo import optics, optimise, simulator
from papercore.papers.exfoliation_bo.arms import History
from papercore.papers.exfoliation_bo.detector import Analysis
from papercore.papers.exfoliation_bo.space import Space
from papercore.study.figures import COLOURS, MUTED

Drawing = tuple[Figure, pd.DataFrame]
SHOWN = {"logei": COLOURS[0], "sought": COLOURS[1], "tpe": COLOURS[2], "random": MUTED}
CHANNEL = {"r": "#c0392b", "g": "#27ae60", "b": "#2962a8"}


def visible(oxide: float) -> Drawing:
    """Contrast of 1 to 4 layers over wavelength at one oxide; and the colours of layers and oxides in camera counts."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8))
    wavelength = np.arange(420.0, 701.0, 2.0)
    substrate = optics.spectrum(0, oxide, wavelength)
    rows = []
    for layers in range(1, 5):
        contrast = optics.spectrum(layers, oxide, wavelength) / substrate - 1
        axes[0].plot(wavelength, contrast, color=COLOURS[layers - 1], label=f"{layers} layer{'s' * (layers > 1)}")
        rows += [(oxide, layers, w, c) for w, c in zip(wavelength, contrast, strict=True)]
    for channel, (centre, sd) in optics.BANDS.items():
        axes[0].axvspan(centre - sd, centre + sd, color=CHANNEL[channel], alpha=0.12, lw=0)
    axes[0].axhline(0, color="black", lw=0.8)
    axes[0].set(
        xlabel="wavelength, nm", ylabel="contrast with the substrate", title=f"WSe$_2$ on {oxide:g} nm of oxide"
    )
    axes[0].legend(loc="upper right")
    axes[0].set_ylim(None, 0.45)
    oxides = np.arange(50.0, 301.0, 2.0)
    chart = np.stack([optics.signals(d, 8) for d in oxides], axis=1)
    shown = np.clip(chart / np.quantile(chart, 0.98), 0, 1) ** (1 / 2.2)
    axes[1].imshow(shown, aspect="auto", extent=(oxides[0], oxides[-1], 8.5, -0.5), interpolation="nearest")
    axes[1].axvline(oxide, color="white", ls=":", lw=1.5)
    axes[1].grid(False)
    axes[1].set(xlabel="oxide, nm", ylabel="layers", title="The same flakes on other wafers")
    return figure, pd.DataFrame(rows, columns=["oxide", "layers", "wavelength", "contrast"])


def fields(shots: Sequence[tuple[str, np.ndarray, Analysis]]) -> Drawing:
    """Simulated fields with what the detector counts outlined, and what it rejects dashed."""
    figure, axes = plt.subplots(1, len(shots), figsize=(2.0 * len(shots), 2.6))
    rows = []
    for ax, (title, image, found) in zip(np.atleast_1d(axes), shots, strict=True):
        outlined(ax, image, found)
        ax.set_title(f"{title}\n{found.area:.0f} µm²", fontsize=8)
        rows += [(title, f.layers, f.area, f.rejected) for f in found.flakes[0]] or [(title, 0, 0.0, "")]
    return figure, pd.DataFrame(rows, columns=["condition", "layers", "area", "rejected"])


def outlined(ax, image: np.ndarray, found: Analysis, number: int = 0) -> None:
    """One image with outlines: white counts as monolayer, dashed black was rejected as one."""
    ax.imshow(np.clip(1.7 * image, 0, 255).astype(np.uint8))  # brighter, for the eye
    for flake in found.flakes[number]:
        if flake.layers == 1:
            shape = np.zeros(image.shape[:2])
            shape[flake.pixels] = 1
            ax.contour(
                shape,
                levels=[0.5],
                colors="black" if flake.rejected else "white",
                linestyles="--" if flake.rejected else "-",
                linewidths=1.4,
            )
    ax.set(xticks=[], yticks=[])
    ax.grid(False)


def checked(table: pd.DataFrame) -> Drawing:
    """Found over true area, field by field, for three kinds of condition: the detector and the one without a gate."""
    kinds = list(table["kind"].unique())
    figure, axes = plt.subplots(1, len(kinds), figsize=(11, 3.6), sharey=True, sharex=True)
    for ax, kind in zip(axes, kinds, strict=True):
        for name, colour, z in (("nearest class", MUTED, 1), ("ours", COLOURS[0], 2)):
            rows = table[(table["kind"] == kind) & (table["detector"] == name)]
            ax.scatter(rows["truth"] + 1, rows["found"] + 1, s=10, color=colour, alpha=0.6, label=name, zorder=z)
        ax.plot([1, 3000], [1, 3000], color="black", lw=0.8)
        ax.set(xscale="log", yscale="log", xlabel="true area + 1, µm²", title=kind)
    axes[0].set_ylabel("found area + 1, µm²")
    axes[0].legend(title="detector")
    return figure, table


def noisy(table: pd.DataFrame) -> Drawing:
    """Areas of repeats of one condition over their mean: one field, and sixteen."""
    figure, ax = plt.subplots(figsize=(7.5, 3.6))
    edges = np.linspace(0, 4, 33)
    for fields_, colour in ((1, COLOURS[1]), (16, COLOURS[0])):
        rows = table[table["fields"] == fields_]
        label = f"{fields_} field{'s' * (fields_ > 1)} a repeat, {100 * (rows['area'] == 0).mean():.0f} % zeros"
        ax.hist(np.clip(rows["relative"], 0, 4), bins=edges, color=colour, alpha=0.6, label=label)
    for x in (0.5, 2):
        ax.axvline(x, color="black", lw=0.8, ls=":")
    ax.set(xlabel="area of a repeat over the mean of all", ylabel="repeats", title="The same condition again and again")
    ax.legend()
    return figure, table


def thinking(space: Space, told: History, knob: str, after: Sequence[int]) -> Drawing:
    """Posterior and log expected improvement along one knob through the leading condition, after so many trials."""
    figure, axes = plt.subplots(2, len(after), figsize=(5.2 * len(after), 5.4), sharex=True, height_ratios=[2, 1])
    axes, at, rows = axes.reshape(2, -1), space.names.index(knob), []
    for column, n in enumerate(after):
        part = told.first(n)
        found = optimise.fit(space, part.rows, optimise.target(part.area, part.thin))
        scores = optimise.score(found, space, part.rows, "logei", np.random.default_rng(0))
        lead = list(np.unravel_index(int(found.mean.argmax()), space.shape))
        line = np.array(
            [
                np.ravel_multi_index([*lead[:at], level, *lead[at + 1 :]], space.shape)
                for level in range(space.shape[at])
            ]
        )
        x = np.array(space.knobs[at].levels)
        mean, sd = (found.shift * shift + found.spread * v[line] for v, shift in ((found.mean, 1), (found.sd, 0)))
        upper, lower = axes[0, column], axes[1, column]
        upper.plot(x, mean, color=COLOURS[0], marker="o", label="mean")
        upper.fill_between(x, mean - 2 * sd, mean + 2 * sd, color=COLOURS[0], alpha=0.2, label="2 standard deviations")
        hit = np.isin(part.rows, line)
        seen = np.unravel_index(part.rows[hit], space.shape)[at]
        upper.scatter(
            x[seen], optimise.target(part.area, part.thin)[hit], color="black", zorder=3, label="trials on it"
        )
        upper.set(title=f"after {n} trials", xscale="log" if space.knobs[at].scale == "log" else "linear")
        lower.plot(x, scores[line], color=COLOURS[1], marker="s")
        lower.set(xlabel=f"{knob}, {space.knobs[at].unit}")
        rows += list(zip([n] * len(x), x, mean, sd, scores[line], strict=True))
    axes[0, 0].set_ylabel("log(1 + area / 50 µm²)")
    axes[1, 0].set_ylabel("log expected\nimprovement")
    axes[0, 0].legend(fontsize=8)
    return figure, pd.DataFrame(rows, columns=["trials", knob, "mean", "sd", "logei"])


def regrets(table: pd.DataFrame, arms: Sequence[str]) -> Drawing:
    """Shortfall of the recommendation over trials; arms of `arms` coloured, all others grey."""
    figure, ax = plt.subplots(figsize=(8, 4.2))
    order = [name for name in table["arm"].unique() if name not in arms]
    for name in [*order, *arms]:
        rows = table[table["arm"] == name]
        colour = SHOWN.get(name, "#c8c8c8")
        ax.errorbar(
            rows["trial"],
            rows["regret"],
            rows["half"] if name in arms else None,
            color=colour,
            marker="o",
            capsize=3,
            lw=2.2 if name in arms else 1,
            label=name.replace("_", " ") if name in arms else None,
        )
    last = table[~table["arm"].isin(arms)].groupby("arm").tail(1).sort_values("regret")
    height = -1.0
    for _, row in last.iterrows():  # labels at their lines, but never on one another
        height = max(row["regret"], height + 0.035)
        text = row["arm"].replace("_", " ")
        ax.annotate(text, (row["trial"], height), (8, -3), textcoords="offset points", fontsize=8, color="#707070")
    ax.set(xticks=sorted(table["trial"].unique()), ylim=(0, 1.02), xlabel="trials", ylabel="1 - recommended / best")
    ax.set_title("What is recommended falls short by")
    ax.legend(loc="upper left", bbox_to_anchor=(1.12, 1))
    return figure, table


def boundary(table: pd.DataFrame) -> Drawing:
    """Gain over random search by landscape and scanned area: a panel an arm; 0 is a tie."""
    names = list(table["arm"].unique())
    figure, axes = plt.subplots(1, len(names), figsize=(3.7 * len(names), 3.4), sharey=True)
    reach = max(0.05, table["gain"].abs().max())
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        rows = table[table["arm"] == name]
        grid = rows.pivot(index="difficulty", columns="fields", values="gain").loc[list(rows["difficulty"].unique())]
        half = rows.pivot(index="difficulty", columns="fields", values="half").loc[grid.index]
        zeros = rows.pivot(index="difficulty", columns="fields", values="zeros").loc[grid.index]
        shown = ax.imshow(grid, cmap="RdBu", norm=TwoSlopeNorm(0, -reach, reach), aspect="auto")
        for y, x in np.ndindex(grid.shape):
            text = f"{grid.iloc[y, x]:+.2f}\n±{half.iloc[y, x]:.2f}\n{zeros.iloc[y, x]:.0%} zeros"
            dark = abs(grid.iloc[y, x]) > 0.6 * reach
            ax.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
        ax.set(xticks=range(grid.shape[1]), xticklabels=grid.columns, xlabel="fields a trial", title=f"{name} - random")
        ax.set(yticks=range(grid.shape[0]), yticklabels=grid.index)
        ax.grid(False)
    figure.colorbar(shown, ax=axes, label="gain in value", shrink=0.9)
    return figure, table


def luck(trials: pd.DataFrame, best: float) -> Drawing:
    """One campaign: best area observed so far, and the true value of what would be recommended; over the best mean."""
    figure, ax = plt.subplots(figsize=(7.5, 3.8))
    observed = np.maximum.accumulate(trials["area"]) / best
    ax.step(trials["trial"], observed, where="post", color=COLOURS[1], label="best area observed")
    rows = trials.dropna(subset=["recommended_value"])
    ax.plot(
        rows["trial"], rows["recommended_value"], color=COLOURS[0], marker="o", label="true mean of the recommended"
    )
    ax.plot(rows["trial"], rows["lucky"], color=COLOURS[2], marker="s", ls="--", label="true mean of the best observed")
    ax.axhline(1, color="black", lw=0.8)
    ax.set(
        xlabel="trials", ylabel="over the best condition's mean", title="Observed best and true best", ylim=(0, None)
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, trials.assign(observed=observed)


def importances(table: pd.DataFrame) -> Drawing:
    """Importance of each knob by four methods, mean of campaigns with 95 % intervals, and the exact Sobol index."""
    rows = table[table["fitted"] == "areas"]
    knobs = list(rows["knob"].unique())
    figure, ax = plt.subplots(figsize=(9, 4))
    truth = rows.groupby("knob")["sobol"].mean()
    share = truth / truth.sum()
    ax.bar(range(len(knobs)), share[knobs], width=0.9, color="#e4e4e4", label="exact total Sobol index")
    for i, name in enumerate(rows["method"].unique()):
        found = rows[rows["method"] == name].groupby("knob")["value"].agg(["mean", "sem"]).loc[knobs]
        x = np.arange(len(knobs)) + (i - 1.5) * 0.18
        ax.errorbar(x, found["mean"], 1.96 * found["sem"], fmt="o", color=COLOURS[i], capsize=3, label=name)
    ax.set(xticks=range(len(knobs)), xticklabels=knobs, ylabel="share of all importance")
    ax.set_title("What matters, asked of the surrogate after a campaign")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, table


def landscape(at: simulator.Landscape, space: Space) -> Drawing:
    """The truth that campaigns never see: the best mean area at each level of each knob, and over all conditions."""
    figure, axes = plt.subplots(1, len(space.knobs), figsize=(2.4 * len(space.knobs), 2.9), sharey=True)
    grid, rows = at.mean.reshape(space.shape), []
    for axis, (ax, knob) in enumerate(zip(axes, space.knobs, strict=True)):
        others = tuple(i for i in range(len(space.shape)) if i != axis)
        best, middle = grid.max(axis=others), grid.mean(axis=others)
        places = range(len(knob.levels))
        ax.plot(places, best, marker="o", color=COLOURS[0], label="best of the others")
        ax.plot(places, middle, marker="s", color=MUTED, label="mean of the others")
        ax.set(xlabel=f"{knob.name}, {knob.unit}", xticks=places, xticklabels=[f"{v:g}" for v in knob.levels])
        rows += [(knob.name, level, b, m) for level, b, m in zip(knob.levels, best, middle, strict=True)]
    axes[0].set_ylabel("mean monolayer area, µm²")
    axes[0].legend(fontsize=7)
    return figure, pd.DataFrame(rows, columns=["knob", "level", "best", "mean"])
