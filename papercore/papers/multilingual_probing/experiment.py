"""Reading the statements once, probing every language under every split, and the arms that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from papercore.papers.multilingual_probing import probing
from papercore.papers.multilingual_probing.data import Statements
from papercore.papers.multilingual_probing.languages import LANGUAGES
from papercore.papers.multilingual_probing.splits import Kind, split, swapped
from papercore.study import samples, statistics

Drawn = Mapping[int, Statements]  # fitting seed -> statements


@dataclass(frozen=True)
class Reading:
    """Last-token states of one model: states[language][layer] (n_texts, d_model), each distinct text once.

    rows[seed][language]: which of them are the statements of that seed's draw, in the draw's order.
    """

    drawn: Drawn
    states: dict[str, dict[int, torch.Tensor]]
    rows: dict[int, dict[str, torch.Tensor]]

    @property
    def languages(self) -> list[str]:
        """The languages read."""
        return list(self.states)

    def x(self, language: str, seed: int, layers: Sequence[int]) -> torch.Tensor:
        """States of a draw, (n_layers, n_statements, d_model)."""
        rows = self.rows[seed][language]
        return torch.stack([self.states[language][layer][rows] for layer in layers])

    def y(self, seed: int, swap: int = 0) -> np.ndarray:
        """Labels of a draw, (n_statements,); swap: turned around city by city, by the coin of that number; 0: true."""
        statements = self.drawn[seed]
        return swapped(statements, seed, swap) if swap else statements.labels


def read(model, drawn: Drawn, layers: Sequence[int], site: str = "resid_post") -> Reading:
    """States of every statement of every draw at its last token; what several draws share is read once."""
    states, rows = {}, {seed: {} for seed in drawn}
    for language in next(iter(drawn.values())).texts:
        texts = list(dict.fromkeys(text for one in drawn.values() for text in one.texts[language]))
        place = {text: i for i, text in enumerate(texts)}
        states[language] = model.activations(texts, list(layers), site=site)
        for seed, one in drawn.items():
            rows[seed][language] = torch.tensor([place[text] for text in one.texts[language]])
    return Reading(drawn, states, rows)


def accuracies(reading: Reading, layers: Sequence[int], kind: Kind, *, swap: int = 0, again: bool = False):
    """Every tested statement: columns language, seed, layer, city, country, fold, right (1, 0, a half for no answer).

    country is the city's own. again: another random partition. The probe is ours, whatever the split.
    """
    tables = []
    for seed, statements in reading.drawn.items():
        y, parts = reading.y(seed, swap), split(statements, kind, partition(seed, again))
        facts = statements.table[["city", "correct", "fold"]].rename(columns={"correct": "country"})
        for language in reading.languages:
            found = probing.right(probing.scores(reading.x(language, seed, layers), y, parts), y)
            for layer, right in zip(layers, found, strict=True):
                one = facts.assign(language=language, seed=seed, layer=layer, right=right)
                tables.append(one[~np.isnan(right)])
    return pd.concat(tables, ignore_index=True)


def partition(seed: int, again: bool = False) -> int:
    """The random state of a random split: the paper's 42 for the first draw, others for the next."""
    return 42 + seed + 500_000 * again


def held_out_layer(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `accuracies` (country folds) at the layer that is best on the *other* folds.

    A layer chosen on the rows that it is scored on would flatter, the more the more layers there are.
    """
    by_fold = table.groupby(["language", "seed", "layer", "fold"])["right"].agg(["sum", "count"])
    total = by_fold.groupby(["language", "seed", "layer"]).transform("sum")
    others = total - by_fold
    mean = (others["sum"] / others["count"]).rename("others").reset_index()
    best = mean.loc[mean.groupby(["language", "seed", "fold"])["others"].idxmax()]
    return table.merge(best[["language", "seed", "layer", "fold"]], on=["language", "seed", "layer", "fold"])


def best(held_out: pd.DataFrame, chance: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each language at a held-out layer with its interval, that of swapped labels, and what it is.

    `noise` where the interval reaches one half. The interval resamples countries and knows the fitting seeds.
    """
    rows = []
    for language in held_out["language"].unique():
        found = [_estimate(table, language) for table in (held_out, chance)]
        layer = held_out.loc[held_out["language"] == language, "layer"].median()
        says = "above one half" if found[0].lo > 0.5 else "below one half" if found[0].hi < 0.5 else "noise"
        rows.append((LANGUAGES[language].name, layer, found[0].value, found[0].lo, found[0].hi, found[1].value, says))
    columns = ["language", "median layer", "accuracy", "lo", "hi", "swapped labels", "is"]
    return pd.DataFrame(rows, columns=columns)


def _estimate(table: pd.DataFrame, language: str) -> statistics.Estimate:
    right, tested = by_country(table, language)
    return statistics.estimate("ratio_of_sums", samples.pair(samples.arm(right, language), tested, language), 0.95)


def when(study, claim: str, languages: Sequence[str], needed: Sequence[str], arms: Callable[[], dict]) -> None:
    """Hand over a claim's arms where all the languages that it needs are there; else say which are missing."""
    if missing := [LANGUAGES[code].name for code in needed if code not in languages]:
        study.untested(claim, f"{', '.join(missing)} not among the languages of this run")
    else:
        study.claim(claim, **arms())


def group(language: str) -> str:
    """The paper's group of a language: 1 high-resource, 0 low-resource."""
    return "1" if LANGUAGES[language].group == "high" else "0"


def by_language(table: pd.DataFrame) -> pd.DataFrame:
    """Mean of right by language and seed as an arm: unit, seed, value, label (the paper's group)."""
    means = table.groupby(["language", "seed"], sort=False)["right"].mean().rename("value").reset_index()
    return means.rename(columns={"language": "unit"}).assign(label=means["language"].map(group))


def of_group(arm: pd.DataFrame, which: str) -> pd.DataFrame:
    """The languages of one group, `high` or `low`."""
    return arm[arm["label"] == ("1" if which == "high" else "0")].drop(columns="label")


def by_country(table: pd.DataFrame, language: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(right, tested): statements right and statements tested on each country's cities; their ratio is the accuracy."""
    rows = table[table["language"] == language].rename(columns={"country": "unit"})
    sums = rows.groupby(["unit", "seed"])["right"].agg(["sum", "count"]).reset_index()
    keys = sums[["unit", "seed"]]
    return keys.assign(value=sums["sum"]), keys.assign(value=sums["count"])


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Least-squares slope of accuracy on relative depth (0 to 1): unit (language), seed, value, label."""
    means = table.groupby(["language", "seed", "layer"], sort=False)["right"].mean().reset_index()
    depth = means["layer"] / means["layer"].max()
    means = means.assign(depth=depth)
    fits = means.groupby(["language", "seed"], sort=False)[["depth", "right"]].apply(
        lambda t: float(np.polyfit(t["depth"], t["right"], 1)[0])
    )
    table = fits.rename("value").reset_index().rename(columns={"language": "unit"})
    return table.assign(label=table["unit"].map(group))


def gain(of: pd.DataFrame, versus: pd.DataFrame) -> pd.DataFrame:
    """Difference of two arms where both have the unit and seed: unit, seed, value; pairs of units stay pairs."""
    keys = [name for name in ("unit", "other", "seed", "label") if name in of and name in versus]
    both = of.merge(versus, on=keys, suffixes=("", "_versus"), validate="one_to_one")
    return both[keys].assign(value=both["value"] - both["value_versus"])


def per_unit(table: pd.DataFrame, column: str, languages: Sequence[str]) -> pd.DataFrame:
    """Share right by `column`, city or country, over some languages: unit, seed, value.

    The unit for a claim about these very languages: they are asked the same facts in the same split, so they are no
    independent samples of either.
    """
    rows = table[table["language"].isin(languages)].rename(columns={column: "unit"})
    return rows.groupby(["unit", "seed"])["right"].mean().rename("value").reset_index()


def rise(table: pd.DataFrame, language: str, deep: Sequence[int], shallow: Sequence[int]) -> pd.DataFrame:
    """Accuracy at `deep` minus at `shallow` layers on each country's cities: unit (country), seed, value."""
    rows = table[table["language"] == language].rename(columns={"country": "unit"})
    sides = [rows[rows["layer"].isin(side)].groupby(["unit", "seed"])["right"].mean() for side in (deep, shallow)]
    return (sides[0] - sides[1]).rename("value").reset_index()


def curve(table: pd.DataFrame, language: str) -> pd.Series:
    """Accuracy of a language by layer, mean over the draws."""
    return table[table["language"] == language].groupby("layer")["right"].mean()


def papers_sweep(reading: Reading, language: str, layers: Sequence[int]) -> pd.Series:
    """Test accuracy of the paper's own probe and split for one language, by layer, mean over the draws."""
    found = {}
    for layer in layers:
        tested = []
        for seed, statements in reading.drawn.items():
            (part,) = split(statements, "random", partition(seed))
            right = probing.papers_probe(reading.x(language, seed, [layer])[0], reading.y(seed), part)[1]
            tested.append(np.nanmean(right))
        found[layer] = float(np.mean(tested))
    return pd.Series(found)


def noise(share: float, n: int) -> str:
    """Wilson's 95 % interval of a share of n independent answers, and whether one half lies in it."""
    from statsmodels.stats.proportion import proportion_confint

    lo, hi = proportion_confint(round(share * n), n, method="wilson")
    return f"[{lo:.3f}, {hi:.3f}]: {'noise' if lo <= 0.5 <= hi else 'not noise'}"


def only(drawn: Drawn, languages: Sequence[str]) -> dict[int, Statements]:
    """The draws in some languages."""
    return {s: Statements(one.table, {code: one.texts[code] for code in languages}) for s, one in drawn.items()}


def ladder(table: pd.DataFrame, languages: Sequence[str]) -> dict:
    """Arms of A20: accuracy on each country's cities, by language; the control has them in reverse."""
    rows = table.rename(columns={"country": "unit"})
    means = rows.groupby(["language", "unit", "seed"])["right"].mean().rename("value")
    arms = {code: means.loc[code].reset_index() for code in languages}
    return {**arms, "control": dict(zip(arms, reversed(arms.values()), strict=True))}


def verb_last(tables: Mapping[str, pd.DataFrame], chance: Mapping[str, pd.DataFrame], code: str = "hi") -> dict:
    """Arms of A10: accuracy of the sentence, or of one without truth, minus the label form's, by country."""
    label, sentence, lost = (
        t[t["language"] == code].rename(columns={"country": "unit"}).groupby(["unit", "seed"])["right"].mean()
        for t in (tables["label"], tables["sentence"], chance["sentence"])
    )
    gains = [(one - label).rename("value").reset_index() for one in (sentence, lost)]
    return {"verb_last_gain": gains[0], "control": gains[1]}


def renamed(named: pd.DataFrame, label: pd.DataFrame, watched: str) -> dict:
    """Arms of A25, by country: the watched language's frame with English names, English itself, its own names."""
    own = per_unit(label, "country", [watched])
    return {
        "english_names": per_unit(named, "country", [watched]),
        "english": per_unit(label, "country", ["en"]),
        "control": own,
    }


def gap(arm: pd.DataFrame, model: str) -> pd.DataFrame:
    """Mean of the high-resource languages minus that of the low-resource ones: unit (model), seed, value."""
    sides = arm.groupby(["seed", "label"])["value"].mean().unstack()
    return (sides["1"] - sides["0"]).rename("value").reset_index().assign(unit=model)


def joined(arms: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several arms as one."""
    return pd.concat(list(arms), ignore_index=True)


def spread(tables: Mapping[str, pd.DataFrame], seeds: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(change, control) by language and seed: how far accuracy moves with the form, less how far with the draw.

    change: |this form - next form| - |this draw - next draw|, mean over forms; control: the first form's own change
    with the draw, less that of the other forms.
    """
    wide = pd.concat({form: by_language(t).set_index(["unit", "seed"])["value"] for form, t in tables.items()}, axis=1)
    wide = wide.dropna()
    forms, arms, controls = list(wide), [], []
    for language, part in wide.groupby("unit"):
        part = part.droplevel("unit").loc[list(seeds)]
        by_form = (part - part[forms[1:] + forms[:1]].to_numpy()).abs().mean(axis=1).to_numpy()
        by_draw = (part - np.roll(part.to_numpy(), 1, axis=0)).abs()
        others = by_draw[forms[1:]].mean(axis=1).to_numpy()
        keys = {"unit": language, "seed": list(seeds)}
        arms.append(pd.DataFrame({**keys, "value": by_form - by_draw.mean(axis=1).to_numpy()}))
        controls.append(pd.DataFrame({**keys, "value": by_draw[forms[0]].to_numpy() - others}))
    return pd.concat(arms, ignore_index=True), pd.concat(controls, ignore_index=True)


def token_counts(tokenizers: Mapping[str, object], statements: Statements) -> pd.DataFrame:
    """Tokens, special ones excepted, and words (what spaces divide): tokenizer, language, statement, tokens, words."""
    tables = []
    for name, tokenizer in tokenizers.items():
        for language, texts in statements.texts.items():
            ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
            row = {"tokenizer": name, "language": language, "statement": np.arange(len(texts))}
            words = [len(text.split()) for text in texts]
            tables.append(pd.DataFrame({**row, "tokens": list(map(len, ids)), "words": words}))
    return pd.concat(tables, ignore_index=True)


def doublings(counts: pd.DataFrame, of: str, versus: str, languages: Sequence[str]) -> pd.DataFrame:
    """log2 of how many times as many tokens `of` needs as `versus`, mean over languages: unit (statement), value."""
    rows = counts[counts["language"].isin(languages)]
    wide = rows.pivot(index=["language", "statement"], columns="tokenizer", values="tokens")
    ratio = np.log2(wide[of] / wide[versus]).groupby("statement").mean()
    return ratio.rename("value").reset_index().rename(columns={"statement": "unit"})


def band(table: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Accuracy by language and layer, mean over seeds, with a 95 % bootstrap band over countries."""
    rng = np.random.default_rng([seed, 4])
    countries = sorted(table["country"].unique())
    weights = rng.multinomial(len(countries), np.full(len(countries), 1 / len(countries)), resamples)
    rows = []
    for (language, layer), part in table.groupby(["language", "layer"], sort=False):
        sums = part.groupby("country")["right"].agg(["sum", "count"]).reindex(countries, fill_value=0)
        draws = (weights @ sums["sum"].to_numpy()) / (weights @ sums["count"].to_numpy())
        rows.append((language, layer, part["right"].mean(), *np.quantile(draws, [0.025, 0.975])))
    return pd.DataFrame(rows, columns=["language", "layer", "accuracy", "lo", "hi"])


def by_chance(reading: Reading, language: str, layers: Sequence[int], kind: Kind, swaps: int) -> pd.DataFrame:
    """Accuracy of one language under labels swapped by many coins, first draw: columns layer, swap, value."""
    seed, statements = next(iter(reading.drawn.items()))
    x, parts, rows = reading.x(language, seed, layers), split(statements, kind, partition(seed)), []
    for number in range(swaps):
        y = swapped(statements, seed, 10 + number)
        means = np.nanmean(probing.right(probing.scores(x, y, parts), y), axis=1)
        rows += [(layer, number, value) for layer, value in zip(layers, means, strict=True)]
    return pd.DataFrame(rows, columns=["layer", "swap", "value"])


def memorised(drawn: Drawn, kind: Kind) -> pd.DataFrame:
    """The probe that knows only names, under a split: unit (city), seed, value (share of its tested rows right)."""
    tables = []
    for seed, statements in drawn.items():
        y = statements.labels
        found = probing.memoriser(statements, y, split(statements, kind, partition(seed)))
        one = pd.DataFrame({"unit": statements.table["city"], "seed": seed, "value": found}).dropna()
        tables.append(one.groupby(["unit", "seed"], as_index=False)["value"].mean())
    return pd.concat(tables, ignore_index=True)
