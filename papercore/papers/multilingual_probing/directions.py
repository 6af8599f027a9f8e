"""Probe vectors of languages: how alike they are, beside the paper's map, and whether they transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from papercore.papers.multilingual_probing import probing
from papercore.papers.multilingual_probing.data import shared_names
from papercore.papers.multilingual_probing.experiment import Reading, group, partition, when
from papercore.papers.multilingual_probing.languages import LANGUAGES
from papercore.papers.multilingual_probing.splits import split
from papercore.probes.directions import cosines


def vectors(reading: Reading, layer: int, *, swap: int = 0) -> dict[int, torch.Tensor]:
    """Seed -> direction of each language's probe trained on all its statements, (n_languages, d_model).

    In each language's own standardised coordinates.
    """
    found = {}
    for seed in reading.drawn:
        y = reading.y(seed, swap)
        found[seed] = torch.cat([probing.directions(reading.x(one, seed, [layer]), y) for one in reading.languages])
    return found


def papers_vectors(reading: Reading, layer: int, *, swap: int = 0) -> tuple[dict[int, torch.Tensor], pd.DataFrame]:
    """(vectors, table) of the paper's own probe and split: coefficients on raw states, and train and test accuracy."""
    found, rows = {}, []
    for seed, statements in reading.drawn.items():
        y, (part,) = reading.y(seed, swap), split(statements, "random", partition(seed))
        fits = {one: probing.papers_probe(reading.x(one, seed, [layer])[0], y, part) for one in reading.languages}
        found[seed] = torch.stack([torch.as_tensor(coefficients) for coefficients, _, _ in fits.values()])
        rows += [(one, seed, train, np.nanmean(right)) for one, (_, right, train) in fits.items()]
    return found, pd.DataFrame(rows, columns=["language", "seed", "train", "test"])


def pair_arm(found: Mapping[int, torch.Tensor], languages: Sequence[str], inside=group) -> pd.DataFrame:
    """Cosine of each pair of languages as an arm: unit, other, seed, value, label.

    label: `inside` of both, 11 where both belong to the group in question.
    """
    first, second = np.triu_indices(len(languages), 1)
    names, tables = np.array(languages), []
    for seed, stack in found.items():
        value = cosines(stack, stack).numpy()[first, second]
        tables.append(pd.DataFrame({"unit": names[first], "other": names[second], "seed": seed, "value": value}))
    table = pd.concat(tables, ignore_index=True)
    label = [inside(a) + inside(b) for a, b in zip(table["unit"], table["other"], strict=True)]
    return table.assign(label=label)


def among(arm: pd.DataFrame, languages: Sequence[str], inside=group) -> pd.DataFrame:
    """The pairs of some languages, with labels anew."""
    rows = arm[arm["unit"].isin(languages) & arm["other"].isin(languages)]
    return rows.assign(label=[inside(a) + inside(b) for a, b in zip(rows["unit"], rows["other"], strict=True)])


def block(arm: pd.DataFrame, label: str) -> pd.DataFrame:
    """The pairs of one kind: 11 both high-resource, 00 both low-resource, 10 one of each."""
    kinds = arm["label"].replace("01", "10")
    return arm[kinds == label].drop(columns="label")


def to_high(arm: pd.DataFrame, languages: Sequence[str]) -> pd.DataFrame:
    """Mean cosine of each high-resource language with `languages` (itself excepted): unit, seed, value."""
    both = pd.concat([arm, arm.rename(columns={"unit": "other", "other": "unit"})], ignore_index=True)
    rows = both[(both["unit"].map(group) == "1") & both["other"].isin(languages)]
    return rows.groupby(["unit", "seed"])["value"].mean().reset_index()


def matrix(arm: pd.DataFrame, languages: Sequence[str]) -> pd.DataFrame:
    """The pairs of an arm as a symmetric table with ones on its diagonal, mean over seeds."""
    mean = arm.groupby(["unit", "other"])["value"].mean()
    table = pd.DataFrame(np.eye(len(languages)), languages, languages)
    for (a, b), value in mean.items():
        table.loc[a, b] = table.loc[b, a] = value
    return table


def by_our_codes(papers: pd.DataFrame) -> pd.DataFrame:
    """The paper's map with our language codes."""
    codes = {spec.paper: code for code, spec in LANGUAGES.items()}
    return papers.rename(index=codes, columns=codes)


def dealt(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A table over languages with the languages dealt anew, rows and columns alike."""
    names = np.random.default_rng([seed, 5]).permutation(table.index)
    return pd.DataFrame(table.to_numpy(), names, names)


def with_x(arm: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The pairs with x = their cell in a table over languages; pairs that the table lacks are left out."""
    known = arm[arm["unit"].isin(table.index) & arm["other"].isin(table.index)].drop(columns="label")
    return known.assign(x=[float(table.loc[a, b]) for a, b in zip(known["unit"], known["other"], strict=True)])


def dravidian(arms: tuple[pd.DataFrame, pd.DataFrame], low: Sequence[str], family: Sequence[str]) -> dict:
    """Arms of C4: the pairs of low-resource languages, labelled by membership of the family."""
    cut = [among(arm, low, lambda code: "1" if code in family else "0") for arm in arms]
    return {"cosines": cut[0], "control": cut[1]}


def no_shared_names(arms: tuple[pd.DataFrame, pd.DataFrame], scripts: Sequence[str], low: Sequence[str]) -> dict:
    """Arms of A13: pairs of `scripts` and of the low-resource languages that spell no country as one of them does."""
    spelled = shared_names([*scripts, *low])
    apart = [code for code in low if not spelled.loc[code, list(scripts)].any()]
    cut = [among(arm, [*scripts, *apart]) for arm in arms]
    return {"cosines": cut[0], "control": cut[1]}


def between(arms: tuple[pd.DataFrame, pd.DataFrame], high: Sequence[str], code: str, rest: Sequence[str]) -> dict:
    """Arms of C5: mean cosine of each high-resource language with the other high ones, with `code`, with the rest."""
    found, control = (
        {"high": to_high(arm, high), "hindi": to_high(arm, [code]), "other_low": to_high(arm, rest)} for arm in arms
    )
    return {**found, "control": control}


def beside(arms: tuple[pd.DataFrame, pd.DataFrame], code: str, rest: Sequence[str]) -> dict:
    """Arms of C5_kazakh: mean cosine of each high-resource language with `code` and with the rest."""
    others = [one for one in rest if one != code]
    of, control = (to_high(arm, [code]) for arm in arms)
    return {"kazakh": of, "other_low": to_high(arms[0], others), "control": control}


def blocks(study, arm: pd.DataFrame, languages: Sequence[str], family: Sequence[str]) -> None:
    """Hand over the mean cosines of the map's blocks, each with another block as control."""
    high, low, hindi = block(arm, "11"), block(arm, "00"), (arm[["unit", "other"]] == "hi").any(axis=1)
    mixed = arm["label"].isin(["10", "01"])
    study.claim("P_high", cosines=high, control=low)
    when(
        study,
        "P_hindi",
        languages,
        ["hi"],
        lambda: {"cosines": arm[mixed & hindi].drop(columns="label"), "control": high},
    )
    study.claim("P_low", cosines=arm[mixed & ~hindi].drop(columns="label"), control=high)
    study.claim("P_low_low", cosines=low, control=high)
    inside = arm["unit"].isin(family) & arm["other"].isin(family)
    when(
        study, "P_dravidian", languages, family, lambda: {"cosines": arm[inside].drop(columns="label"), "control": low}
    )


def transfer(reading: Reading, layer: int, *, swap: int = 0) -> pd.DataFrame:
    """Probes of one language on the held-out countries of every other: columns train, test, seed, value (accuracy).

    The other language's states are standardised by its own training folds, without labels: only the direction travels.
    """
    rows = []
    for seed, statements in reading.drawn.items():
        y, parts = reading.y(seed, swap), split(statements, "country", seed)
        hits = np.zeros((len(reading.languages), len(reading.languages), len(y)))
        hits[:] = np.nan
        for train, test in parts:
            z, held_out = [], []
            for one in reading.languages:
                x = reading.x(one, seed, [layer])[0]
                fitted, mean, scale = probing.standardised(x[train])
                z.append(fitted)
                held_out.append((x[test].double() - mean) / scale)
            w = probing.fit(torch.stack(z), y[train])
            for column, states in enumerate(held_out):
                hits[:, column, test] = probing.right(w @ states.T, y[test])
        for i, a in enumerate(reading.languages):
            rows += [(a, b, seed, np.nanmean(hits[i, j])) for j, b in enumerate(reading.languages)]
    return pd.DataFrame(rows, columns=["train", "test", "seed", "value"])


def from_one(table: pd.DataFrame, code: str, languages: Sequence[str]) -> pd.DataFrame:
    """Transfer from one language to the others among `languages`: unit (language tested on), seed, value."""
    rows = table[(table["train"] == code) & table["test"].isin(languages) & (table["test"] != code)]
    return rows.rename(columns={"test": "unit"})[["unit", "seed", "value"]]


def abroad(table: pd.DataFrame, code: str, languages: Sequence[str]) -> pd.DataFrame:
    """How much better the probes of `languages` are on one language than on their own: unit, seed, value."""
    rows = table[table["train"].isin(languages)]
    there, home = rows[rows["test"] == code], rows[rows["test"] == rows["train"]]
    both = there.merge(home, on=["train", "seed"], suffixes=("", "_home"), validate="one_to_one")
    return both.assign(unit=both["train"], value=both["value"] - both["value_home"])[["unit", "seed", "value"]]


def foretold(table: pd.DataFrame, arm: pd.DataFrame) -> pd.DataFrame:
    """Pairs of languages with value = transfer, mean of both ways, and x = cosine: unit, other, seed, value, x."""
    accuracy = table.set_index(["train", "test", "seed"])["value"]
    keys = [list(zip(arm[a], arm[b], arm["seed"], strict=True)) for a, b in (("unit", "other"), ("other", "unit"))]
    both = (accuracy.loc[keys[0]].to_numpy() + accuracy.loc[keys[1]].to_numpy()) / 2
    return arm.drop(columns="label").rename(columns={"value": "x"}).assign(value=both)
