"""The figures of the notebook: each takes tables and returns (figure, the numbers that it draws)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from papercore.study.figures import COLOURS, MUTED

Drawing = tuple[plt.Figure, pd.DataFrame]
LOOK = {
    "relu": ("ReLU + L1", "#000000", "s"),
    "p_anneal": ("p-anneal", "#999999", "v"),
    "gated": ("Gated", COLOURS[2], "D"),
    "prolu": ("ProLU", COLOURS[3], "P"),
    "jumprelu": ("JumpReLU", COLOURS[4], "X"),
    "topk": ("TopK", COLOURS[0], "o"),
    "batch_topk": ("BatchTopK", COLOURS[5], "^"),
    "matryoshka": ("Matryoshka", "#7f5539", "<"),
    "switch": ("Switch", COLOURS[1], ">"),
    "frozen_decoder": ("frozen decoder (control)", MUTED, "x"),
}


def norms(states: Sequence[torch.Tensor], limit: float) -> Drawing:
    """Norm of the residual stream by position, median and range, and the limit above which tokens are left out."""
    longest = max(map(len, states))
    rows = []
    for position in range(min(longest, 33)):
        norm = torch.stack([one[position].norm() for one in states if len(one) > position])
        rows.append((position, float(norm.quantile(0.01)), float(norm.median()), float(norm.quantile(0.99))))
    table = pd.DataFrame(rows, columns=["position", "low", "median", "high"])
    figure, ax = plt.subplots(figsize=(7, 3.4))
    ax.fill_between(table["position"], table["low"], table["high"], alpha=0.2, lw=0, label="98 % of documents")
    ax.plot(table["position"], table["median"], marker="o", ms=3, label="median")
    ax.axhline(limit, color=COLOURS[1], ls="--", label="left out above")
    ax.set(xlabel="position in the document", ylabel="norm of the residual stream", yscale="log")
    ax.set_title("Norm by position")
    ax.legend()
    return figure, table.assign(limit=limit)


def frontier(runs: pd.DataFrame, pca: pd.DataFrame, l0: float) -> Drawing:
    """FVU against measured L0, a line an architecture through the mean of its seeds, with PCA as a control.

    pca: columns k, FVU. l0: where architectures are compared.
    """
    rows = runs[runs["share"] == 1]
    figure, ax = plt.subplots(figsize=(8.5, 5))
    drawn = []
    for name, (label, colour, mark) in LOOK.items():
        if (part := rows[rows["name"] == name]).empty:
            continue
        mean = part.groupby("k")[["L0", "FVU"]].mean()
        ax.plot(
            mean["L0"],
            mean["FVU"],
            color=colour,
            marker=mark,
            ms=6,
            lw=1.6,
            label=label,
            ls=":" if name == "frozen_decoder" else "-",
        )
        ax.scatter(part["L0"], part["FVU"], color=colour, s=7, alpha=0.5)
        drawn.append(part[["name", "k", "seed", "L0", "FVU"]])
    ax.plot(pca["k"], pca["FVU"], color=MUTED, ls="--", label="PCA of as many terms (control)")
    ax.axvline(l0, color=MUTED, lw=0.8)
    ax.annotate("compared here", (l0, ax.get_ylim()[1]), xytext=(3, -10), textcoords="offset points", fontsize=9)
    ax.set(xscale="log", xlabel="L0 measured on held-out documents", ylabel="fraction of variance unexplained")
    ticks = sorted(set(pca["k"]))
    ax.set_xticks(ticks, [str(t) for t in ticks], minor=False)
    ax.minorticks_off()
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    pca = pca.rename(columns={"k": "L0"}).assign(name="PCA")
    return figure, pd.concat([*drawn, pca], ignore_index=True)


def shrinkage(runs: pd.DataFrame, k: int) -> Drawing:
    """Relative reconstruction bias of each architecture at one sparsity, a point a seed."""
    rows = runs[(runs["share"] == 1) & (runs["k"] == k)]
    names = [name for name in LOOK if name in set(rows["name"])]
    figure, ax = plt.subplots(figsize=(7, 3.6))
    for y, name in enumerate(names):
        part = rows[rows["name"] == name]
        ax.scatter(part["relative bias"], [y] * len(part), color=LOOK[name][1], marker=LOOK[name][2], s=40)
    ax.axvline(1, color="black", lw=0.8)
    ax.set_yticks(range(len(names)), [LOOK[name][0] for name in names])
    ax.invert_yaxis()
    ax.set(xlabel="relative reconstruction bias (1: unbiased; below: shrunk)", title="Does an SAE write too little?")
    return figure, rows[["name", "seed", "L0", "relative bias", "L2 ratio"]]


def splice(table: pd.DataFrame, seeds: Sequence[int]) -> Drawing:
    """What the spliced model loses, CE minus that of the model left alone, by function: documents as points."""
    pca = next(name for name in table["function"] if name.startswith("PCA"))
    label = {"identity": "identity", "noise": "noise as large\nas the SAE's error", "sae": "SAE", pca: pca}
    label |= {"mean": "mean ablation", "zero": "zero ablation"}
    order = list(label)
    kind = table["function"].str.replace(r" \d+$", "", regex=True)
    lost = ((table["ce"] - table["clean"]) / table["n"]).groupby([kind, table["document"]]).mean()
    figure, ax = plt.subplots(figsize=(7.5, 3.8))
    rows = []
    for y, name in enumerate(order):
        values = lost[name].to_numpy()
        jitter = np.linspace(-0.25, 0.25, len(values))
        ax.scatter(values, y + jitter, s=9, alpha=0.6, color=COLOURS[0] if name == "sae" else MUTED)
        ax.plot([values.mean()] * 2, [y - 0.35, y + 0.35], color="black", lw=2)
        rows.append(pd.DataFrame({"function": name, "document": lost[name].index, "nats": values}))
    ax.set_yticks(range(len(order)), list(label.values()))
    ax.invert_yaxis()
    ax.set_xscale("symlog", linthresh=0.1)
    ax.set_xticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
    ax.set(xlabel="cross-entropy lost, nats a token")
    ax.set_title(f"What the model loses: a point a document, mean of {len(seeds)} SAEs")
    return figure, pd.concat(rows, ignore_index=True)


def probing(table: pd.DataFrame, kinds: Mapping[str, str]) -> Drawing:
    """One-feature accuracy by task, a mark a kind of features; kinds: prefix of the features' names -> label."""
    one = table[table["k"] == 1]
    means = {
        label: one[one["features"].str.replace(r" \d+$", "", regex=True) == kind].groupby("task")["accuracy"].mean()
        for kind, label in kinds.items()
    }
    wide = pd.DataFrame(means)
    wide = wide.sort_values(next(iter(kinds.values())))
    figure, ax = plt.subplots(figsize=(8.5, 5))
    marks = zip(kinds.values(), [COLOURS[0], "#000000", COLOURS[4], COLOURS[1], COLOURS[2]], "osD^v", strict=False)
    for label, colour, mark in marks:
        ax.scatter(wide[label], range(len(wide)), color=colour, marker=mark, s=36, label=label, alpha=0.85)
    ax.axvline(0.5, color="black", lw=0.8, ls=":")
    ax.set_yticks(range(len(wide)), wide.index)
    ax.set(xlabel="accuracy on held-out texts", title="One feature a probe")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, wide.reset_index()


def use(points: pd.DataFrame) -> Drawing:
    """Explained variance against one-latent probing over the zoo, a point an SAE."""
    name = points["unit"].str.rsplit(" ", n=1).str[0]
    figure, ax = plt.subplots(figsize=(7.5, 4.4))
    for kind, (label, colour, mark) in LOOK.items():
        if (part := points[name == kind]).empty:
            continue
        ax.scatter(part["x"], part["value"], color=colour, marker=mark, s=32, alpha=0.8, label=label)
    ax.set(xlabel="explained variance (structural)", ylabel="accuracy of one latent\n(functional)")
    ax.set_title("Is a faithful dictionary a useful one?")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, points


def sweep(runs: pd.DataFrame, absorbed: pd.DataFrame) -> Drawing:
    """TopK's sweep: explained variance and one-latent probing by L0; absorption in the synthetic worlds by L0."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
    for ax, column, title in zip(axes, ("explained variance", "probing"), ("fidelity", "one latent"), strict=False):
        mean = runs.groupby("k")[column].mean()
        ax.plot(mean.index, mean, color=COLOURS[0], marker="o")
        ax.scatter(runs["k"], runs[column], color=COLOURS[0], s=10, alpha=0.5)
        ax.set(xscale="log", xlabel="L0 (TopK)", ylabel=column if column != "probing" else "accuracy", title=title)
        ax.set_xticks(mean.index, [str(k) for k in mean.index])
        ax.minorticks_off()
    mean = absorbed.groupby(["world", "k"])["absorbed"].mean().unstack()
    axes[2].plot(mean.columns, mean.T, color=MUTED, lw=1, alpha=0.7)
    axes[2].plot(mean.columns, mean.mean(), color=COLOURS[1], marker="o", label="mean of the worlds")
    axes[2].set(xscale="log", xlabel="L0 (TopK, synthetic)", ylabel="absorption rate", title="absorption")
    axes[2].set_xticks(mean.columns, [str(k) for k in mean.columns])
    axes[2].minorticks_off()
    axes[2].legend()
    kept = runs[["k", "seed", "L0", "explained variance", "probing"]].assign(part="SmolLM2")
    return figure, pd.concat([kept, absorbed.assign(part="synthetic")], ignore_index=True)


def missing(features: pd.DataFrame, shared: pd.DataFrame, limit: float, same: float) -> Drawing:
    """Known features: cosine of the best latent by how often a feature fires; and latents that two seeds share."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8))
    axes[0].scatter(features["chance"], features["cosine"], s=6, alpha=0.35, color=COLOURS[0])
    axes[0].axhline(limit, color=COLOURS[1], ls="--", label="counts as found")
    axes[0].set(xscale="log", xlabel="share of tokens with the feature", ylabel="cosine of its best latent")
    axes[0].set_title("A known dictionary: which features are found")
    axes[0].legend(loc="lower right")
    edges = np.linspace(0, 1, 61)
    for column, colour, label in (("next", COLOURS[2], "next seed's SAE"), ("random", MUTED, "random dictionary")):
        axes[1].hist(shared[column], edges, color=colour, alpha=0.7, label=label)
    axes[1].axvline(same, color=COLOURS[1], ls="--", label="counts as found again")
    axes[1].set(xlabel="largest cosine of a latent with one of another dictionary", ylabel="latents", title="SmolLM2")
    axes[1].legend(loc="upper right")
    return figure, pd.concat([features, shared], ignore_index=True)


def budget(arms: Mapping[str, pd.DataFrame], tokens: Mapping[str, int]) -> Drawing:
    """Held-out FVU of TopK by the number of training tokens, a point a seed."""
    figure, ax = plt.subplots(figsize=(6, 3.6))
    rows = []
    for name, arm in arms.items():
        by_seed = arm.groupby("seed")["value"].mean()
        ax.scatter([tokens[name]] * len(by_seed), by_seed, color=COLOURS[0], s=18)
        rows += [(name, tokens[name], seed, value) for seed, value in by_seed.items()]
    table = pd.DataFrame(rows, columns=["share", "tokens", "seed", "FVU"])
    mean = table.groupby("tokens")["FVU"].mean()
    ax.plot(mean.index, mean, color=COLOURS[0])
    ax.set(xscale="log", xlabel="training tokens (equally many steps)", ylabel="FVU on held-out documents")
    ax.set_title("Does more text help?")
    return figure, table


def scarce(table: pd.DataFrame) -> Drawing:
    """Accuracy of probes on all latents and on the activation by condition; a point a task, the line their mean."""
    order = list(dict.fromkeys(table["condition"]))
    means = table.groupby(["features", "condition", "task"])["accuracy"].mean().reset_index()
    figure, ax = plt.subplots(figsize=(7.5, 3.8))
    for kind, colour, shift, label in (
        ("whole", "#000000", -0.1, "activation"),
        ("sae", COLOURS[0], 0.1, "SAE's codes"),
    ):
        part = means[means["features"] == kind]
        x = part["condition"].map(order.index) + shift
        ax.scatter(x, part["accuracy"], color=colour, s=12, alpha=0.5)
        mean = part.groupby("condition")["accuracy"].mean()[order]
        ax.plot(np.arange(len(order)) + shift, mean, color=colour, marker="_", ms=18, mew=2.5, ls="", label=label)
    ax.set_xticks(range(len(order)), [c.replace("flipped", "all labels,\n20 % flipped") for c in order])
    ax.set(ylabel="accuracy on held-out texts", title="Probes on everything")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, means


def card(what: Mapping) -> Drawing:
    """A feature card, of `meaning.cards`: windows as a heat map, logits up and down, histogram of its codes."""
    figure = plt.figure(figsize=(11, 4.6))
    left, right = figure.add_gridspec(1, 2, width_ratios=[2.1, 1])
    text, bars = figure.add_subplot(left), right.subgridspec(2, 1, height_ratios=[2, 1])
    text.set_axis_off()
    text.set(xlim=(0, 1), ylim=(len(what["windows"]) + 0.5, -0.5))
    strongest = max((max(codes) for _, _, codes in what["windows"]), default=0) or 1.0
    for y, (kind, tokens, codes) in enumerate(what["windows"]):
        text.text(0, y, kind, color=MUTED, fontsize=7.5, va="center", family="monospace")
        x = 0.09
        for token, code in zip(tokens, codes, strict=True):
            said = _plain(token)
            width = 0.0089 * len(said)
            if x + width > 1.0:
                break
            shade = (*plt.matplotlib.colors.to_rgb(COLOURS[4]), 0.85 * max(0.0, code) / strongest)
            box = {"facecolor": shade, "edgecolor": "none", "boxstyle": "square,pad=0.08"}
            text.text(x, y, said, fontsize=7.5, va="center", family="monospace", bbox=box)
            x += width + 0.001
    text.set_title(f"latent {what['latent']}: fires on {100 * what['density']:.2g} % of the tokens")
    ax = figure.add_subplot(bars[0])
    both = [(_plain(token), value) for token, value in [*what["up"], *reversed(what["down"])]]
    ax.barh(range(len(both)), [v for _, v in both], color=[COLOURS[0] if v > 0 else COLOURS[1] for _, v in both])
    ax.set_yticks(range(len(both)), [token for token, _ in both], fontsize=6.5, family="monospace")
    ax.invert_yaxis()
    ax.set_title("VocabProj: logits less their mean", fontsize=9)
    ax.tick_params(axis="x", labelsize=7)
    ax = figure.add_subplot(bars[1])
    ax.hist(what["codes"], bins=40, color=COLOURS[0])
    ax.set(yscale="log")
    ax.set_xlabel("code, where it fires", fontsize=8)
    ax.set_ylabel("tokens", fontsize=8)
    ax.tick_params(labelsize=7)
    rows = [(kind, "".join(tokens), max(codes)) for kind, tokens, codes in what["windows"]]
    rows += [("written", token, value) for token, value in [*what["up"], *what["down"]]]
    return figure, pd.DataFrame(rows, columns=["kind", "text", "value"]).assign(latent=what["latent"])


def _plain(token: str) -> str:
    """A token as one line of characters that the figure's font has, `$` not being mathematics."""
    said = token.replace("\n", "\\n").replace("\t", "\\t").replace("$", r"\$")
    return "".join(c if c.isascii() and (c.isprintable() or c == " ") else "?" for c in said) or "?"


def sides(agree: Mapping[str, pd.DataFrame], detected: pd.DataFrame) -> Drawing:
    """How often two explanations of a latent share a token; and how well embeddings of windows detect new ones."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.4))
    for y, table in enumerate(agree.values()):
        for column, colour, mark in (("own", COLOURS[0], "o"), ("another", MUTED, "x")):
            values = table.groupby("seed")[column].mean()
            axes[0].scatter(values, [y] * len(values), color=colour, marker=mark, s=28, alpha=0.8)
            axes[0].plot([values.mean()] * 2, [y - 0.25, y + 0.25], color=colour, lw=2)
    axes[0].set_yticks(range(len(agree)), list(agree))
    axes[0].invert_yaxis()
    axes[0].margins(y=0.25)
    axes[0].set(
        xlim=(-0.03, 1.03), xlabel="share of latents, an SAE a mark", title="Two explanations that share a token"
    )
    edges = np.linspace(0, 1, 21)
    for column, colour, label in (("own", COLOURS[0], "of the same latent"), ("another", MUTED, "of another latent")):
        axes[1].hist(detected[column], bins=edges, color=colour, alpha=0.6, label=label)
    axes[1].axvline(0.5, color="black", lw=0.8, ls=":")
    axes[1].set(xlabel="embedding-detection score (balanced accuracy)", ylabel="latents", title="Detecting new windows")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1), title="explanation")
    kept = [table.assign(explanations=label) for label, table in agree.items()]
    return figure, pd.concat([*kept, detected.assign(explanations="detection")], ignore_index=True)


def steering(table: pd.DataFrame) -> Drawing:
    """Dose and response: a latent's tokens by dose, along its direction, the next latent's, a random one."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharex=True)
    titles = {"after": "tokens that follow its peaks (input side)", "written": "tokens that VocabProj names"}
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        for name, colour in (("own", COLOURS[0]), ("another latent", COLOURS[1]), ("random", MUTED)):
            part = table[table["direction"] == name].dropna(subset=[column])
            each = part.pivot_table(index=["seed", "unit"], columns="dose", values=column)
            ax.plot(each.columns, each.T, color=colour, lw=0.6, alpha=0.25)
            whose = {"own": "the latent's", "another latent": "another latent's", "random": "a random"}[name]
            label = f"along {whose} direction"
            ax.plot(each.columns, each.mean(), color=colour, marker="o", lw=2.5, label=label)
        ax.axhline(0, color="black", lw=0.8)
        ax.set(xlabel="dose, in median norms of a state", ylabel="change of log-probability, nats", title=title)
    axes[0].legend()
    return figure, table


def bias(table: pd.DataFrame) -> Drawing:
    """Accuracy of a biased probe by how many latents are held, best or as active; and of an unbiased probe."""
    figure, ax = plt.subplots(figsize=(7.5, 3.8))
    mean = table.groupby(["latents", "n", "seed"])["right"].mean().reset_index()
    for name, colour, label in (("best", COLOURS[0], "latents of the bias"), ("as active", MUTED, "others, as active")):
        part = mean[(mean["latents"] == name) & (mean["n"] > 0)]
        ax.scatter(part["n"], part["right"], color=colour, s=12, alpha=0.5)
        line = part.groupby("n")["right"].mean()
        ax.plot(line.index, line, color=colour, marker="o", label=label)
    for n, style, label in ((0, ":", "biased probe, nothing held"), (-1, "--", "probe that saw all")):
        ax.axhline(mean[mean["n"] == n]["right"].mean(), color="black", lw=1, ls=style, label=label)
    ax.set(xscale="log", xlabel="latents held at their mean", ylabel="accuracy on held-out reviews")
    ax.set_title("Taking a bias out of a probe")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, mean
