"""The facts (which city lies in which country), their names in each language, and the statements made of them.

Names come from CLDR through babel, populations from GeoNames; nothing is translated by a machine.
"""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from papercore.assets import fetch
from papercore.papers.multilingual_probing.languages import LANGUAGES, TABLE, DataError, check, template

POPULATION = 250_000
FEWEST = 20  # statements of a class


@dataclass(frozen=True)
class Statements:
    """One draw of true and false statements; row i says the same in every language.

    table: city, correct (its country), named (the country in the statement), label (1 = true), fold (of the named
    country; -1: never tested on). texts: language -> list of statements.
    """

    table: pd.DataFrame
    texts: dict[str, list[str]]

    @property
    def labels(self) -> np.ndarray:
        """1 for true, 0 for false, (n,)."""
        return self.table["label"].to_numpy()


def facts(cities: int, languages: Sequence[str]) -> pd.DataFrame:
    """The `cities` largest usable cities: zone, country, population, and city_<language>, country_<language>.

    The example cities of CLDR's time zones whose English name is that of a GeoNames city of the same country with more
    than POPULATION people, and that every language has a name for. Left out: what is disputed, and cities of which one
    name contains the other in any of our languages ("Singapore is in Singapore"). Raises DataError for too few.
    """
    check(languages)
    table = _facts()
    if len(table) < cities:
        raise DataError(
            f"cities = {cities}: only {len(table)} cities are known in every language; take at most that many"
        )
    columns = [f"{what}_{code}" for what in ("city", "country") for code in languages]
    return table[["zone", "country", "population", *columns]].head(cities).reset_index(drop=True)


@functools.cache
def _facts() -> pd.DataFrame:
    from babel.core import get_global

    codes = [code for code, spec in LANGUAGES.items() if not spec.refused]
    people = _populations()
    rows = []
    for zone, country in get_global("zone_territories").items():
        if len(country) != 2 or country in TABLE["not_countries"] or zone in TABLE["not_cities"]:
            continue
        names = {code: (city_name(code, zone), country_name(code, country)) for code in codes}
        population = people.get((country, folded(names["en"][0])), 0)
        if population <= POPULATION or any(_contained(*pair) for pair in names.values()):
            continue
        row = {"zone": zone, "country": country, "population": population}
        for code, (city, name) in names.items():
            row |= {f"city_{code}": city, f"country_{code}": name}
        rows.append(row)
    table = pd.DataFrame(rows).sort_values(["population", "zone"], ascending=[False, True])
    for code in codes:
        if table[f"city_{code}"].duplicated().any():
            raise DataError(f"two cities are called {table[f'city_{code}'].mode()[0]!r} in {LANGUAGES[code].name}")
    return table.reset_index(drop=True)


def _populations() -> dict[tuple[str, str], int]:
    """(country, folded name) -> population of the largest such city."""
    with fetch("geonames-cities15000").open(encoding="utf-8") as file:
        places = json.load(file).values()
    found: dict[tuple[str, str], int] = {}
    for place in places:
        key = place["countrycode"], folded(place["name"])
        found[key] = max(found.get(key, 0), place["population"])
    return found


def folded(name: str) -> str:
    """A name without case and accents, to be compared."""
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)).casefold()


def _contained(city: str, country: str) -> bool:
    city, country = city.casefold(), country.casefold()
    return city in country or country in city


def city_name(code: str, zone: str) -> str:
    """CLDR's name of a time zone's example city; where it has none, the zone's own last part, as CLDR says.

    NFC; zero-width joiners stay: in Odia, Kannada and Telugu they are part of the spelling.
    """
    zones = _locale(code)._data["time_zones"]
    named = (zones[known]["city"] for known in _names_of_zone(zone) if known in zones and "city" in zones[known])
    return unicodedata.normalize("NFC", next(named, zone.split("/")[-1].replace("_", " ")))


@functools.cache
def _names_of_zone(zone: str) -> tuple[str, ...]:
    """The zone's identifier and its older ones: CLDR keeps some cities under those."""
    from babel.core import get_global

    return zone, *(old for old, new in get_global("zone_aliases").items() if new == zone)


def country_name(code: str, country: str) -> str:
    """CLDR's name of a two-letter territory in a language, NFC."""
    return unicodedata.normalize("NFC", _locale(code).territories[country])


@functools.cache
def _locale(code: str):
    from babel import Locale

    return Locale.parse(code)


def coverage(code: str) -> tuple[int, int]:
    """How many two-letter territories, and how many of their time zones' cities, CLDR names in a language."""
    from babel.core import get_global

    locale = _locale(code)
    zones = locale._data["time_zones"]
    countries = sum(len(territory) == 2 for territory in locale.territories)
    ours = [zone for zone, territory in get_global("zone_territories").items() if len(territory) == 2]
    return countries, sum("city" in zones.get(zone, {}) for zone in ours)


def shared_names(codes: Sequence[str]) -> pd.DataFrame:
    """How many countries two languages spell exactly alike, a symmetric table over the languages."""
    known = {code: {t for t in _locale(code).territories if len(t) == 2} for code in codes}
    names = {
        code: {territory: country_name(code, territory) for territory in territories}
        for code, territories in known.items()
    }
    counts = [[len(names[one].items() & names[two].items()) for two in codes] for one in codes]
    return pd.DataFrame(counts, codes, codes)


def draws(
    languages: Sequence[str], cities: int, cities_csv: Sequence[str], form: str, folds: int, seeds: Sequence[int]
) -> dict[int, Statements]:
    """Fitting seed -> its draw of statements, from CLDR's names or, where given, from the reader's files."""
    if cities_csv:
        return {seed: from_csv(cities_csv, folds, seed) for seed in seeds}
    known = facts(cities, languages)
    return {seed: draw(known, languages, form, folds, seed) for seed in seeds}


def examples(statements: Statements) -> pd.DataFrame:
    """The first city's true and false statement in every language."""
    table = statements.table
    city = table["city"].iloc[0]
    true, false = (table.index[(table["city"] == city) & (table["label"] == label)][0] for label in (1, 0))
    rows = [
        (LANGUAGES[code].name, LANGUAGES[code].group, texts[true], texts[false])
        for code, texts in statements.texts.items()
    ]
    return pd.DataFrame(rows, columns=["language", "group", "true", "false"])


def draw(known: pd.DataFrame, languages: Sequence[str], form: str, folds: int, seed: int) -> Statements:
    """Each city once with its country and once with another one, in folds that share no country.

    Countries are dealt to folds at random; inside a fold the false countries are a permutation of the true ones without
    a city of its own country, so every country is named as often in a true as in a false statement. The same draw in
    every language. Raises DataError where a fold cannot be filled.
    """
    rng = np.random.default_rng([seed, 1])
    fold = _folds(known["country"], folds, rng)
    named = known["country"].to_numpy().copy()
    for number in range(folds):
        # Cities of one country side by side, countries in random order: a shift by at least the largest country's
        # number of cities, and at most all but that many, moves each city to another country.
        inside = rng.permutation(np.flatnonzero(fold == number))
        countries = known["country"].to_numpy()[inside]
        unique, at, counts = np.unique(countries, return_inverse=True, return_counts=True)
        most = int(counts.max())
        if len(inside) < 2 * most:
            raise DataError(f"fold {number} has {len(inside)} cities, {most} of them in one country; take fewer folds")
        order = np.argsort(rng.permutation(len(unique))[at], kind="stable")
        named[inside[order]] = np.roll(countries[order], int(rng.integers(most, len(inside) - most + 1)))
    true = pd.DataFrame(
        {"city": known["zone"], "correct": known["country"], "named": known["country"], "label": 1, "fold": fold}
    )
    table = pd.concat([true, true.assign(named=named, label=0)], ignore_index=True)
    return Statements(table, {code: write(known, table, code, form) for code in languages})


def _folds(countries: pd.Series, folds: int, rng: np.random.Generator) -> np.ndarray:
    """A fold for each row, whole countries at a time, the largest first, each to the smallest fold."""
    sizes = countries.value_counts()
    order = sizes.index.to_numpy()[np.argsort(-sizes.to_numpy() + rng.random(len(sizes)), kind="stable")]
    filled, place = np.zeros(folds, dtype=int), {}
    for country in order:
        smallest = rng.choice(np.flatnonzero(filled == filled.min()))
        place[country] = smallest
        filled[smallest] += sizes[country]
    return countries.map(place).to_numpy()


def named_in(names: str, frame: str, known: pd.DataFrame, drawn: Mapping[int, Statements]) -> dict[int, Statements]:
    """The same draws with one language's names in another one's label form, under the frame's code."""
    other = known.assign(**{f"{what}_{frame}": known[f"{what}_{names}"] for what in ("city", "country")})
    return {s: Statements(one.table, {frame: write(other, one.table, frame, "label")}) for s, one in drawn.items()}


def write(known: pd.DataFrame, table: pd.DataFrame, code: str, form: str) -> list[str]:
    """The statements of a draw in one language and form."""
    pattern = template(code, form)
    city = dict(zip(known["zone"], known[f"city_{code}"], strict=True))
    country = dict(zip(known["country"], known[f"country_{code}"], strict=True))
    texts = [
        pattern.format(city=city[c], country=country[n]) for c, n in zip(table["city"], table["named"], strict=True)
    ]
    return sound(texts, table["label"].to_numpy(), LANGUAGES[code].name)


def sound(texts: list[str], labels: np.ndarray, where: str) -> list[str]:
    """The texts, if a probe can be trained on them; raises DataError for empty, repeated or too few ones."""
    empty = [row for row, text in enumerate(texts) if not text.strip()]
    if empty:
        raise DataError(f"{where}: statement {empty[0] + 1} is empty")
    if len(set(texts)) < len(texts):
        twice = pd.Series(texts)[pd.Series(texts).duplicated()].iloc[0]
        raise DataError(f"{where}: the statement {twice!r} stands there twice")
    for label, name in ((1, "true"), (0, "false")):
        if (count := int((labels == label).sum())) < FEWEST:
            raise DataError(f"{where}: {count} {name} statements; at least {FEWEST} of each kind are needed")
    return texts


def from_csv(paths: Sequence[str], folds: int, seed: int) -> Statements:
    """The reader's own statements, one CSV a language named <language>.csv, row i saying the same in each.

    Columns statement and label (1 = true); city, country (the one named) and correct_country in one of the files at
    least, as in geometry-of-truth's cities.csv; an optional column instruction goes before the statement. Countries are
    dealt to folds by the seed, and only as many true as false statements on a country are tested on. Raises DataError.
    """
    files = {Path(path).stem: Path(path).expanduser() for path in paths}
    check(files, named=False)
    tables = {code: _csv(code, path) for code, path in files.items()}
    keys = ["city", "country", "correct_country"]
    complete = next((code for code, table in tables.items() if set(keys) <= set(table)), None)
    if complete is None:
        raise DataError(f"none of {', '.join(p.name for p in files.values())} has the columns {', '.join(keys)}")
    first = tables[complete]
    for code, table in tables.items():
        if len(table) != len(first) or (table["label"].to_numpy() != first["label"].to_numpy()).any():
            raise DataError(f"{files[code].name} and {files[complete].name} differ in number or labels of their rows")
    table = first[[*keys, "label"]].rename(columns={"country": "named", "correct_country": "correct"})
    texts = {code: one["text"].tolist() for code, one in tables.items()}
    return Statements(_dealt(table, folds, seed), texts)


def like_the_papers(cities: int, folds: int, seed: int) -> Statements:
    """A set built as the paper's: large cities, once true, once with a false country drawn by its frequency. No texts.

    Geometry-of-truth takes GeoNames' cities of more than 500,000 people; here the `cities` largest.
    """
    rng = np.random.default_rng([seed, 6])
    largest = sorted(_populations().items(), key=lambda item: (-item[1], item[0]))[:cities]
    table = pd.DataFrame([(f"{name} ({code})", code) for (code, name), _ in largest], columns=["city", "correct"])
    countries = table["correct"].to_numpy()
    named = rng.choice(countries, len(table))
    while (own := named == countries).any():
        named[own] = rng.choice(countries, own.sum())
    true, false = table.assign(named=countries, label=1), table.assign(named=named, label=0)
    return Statements(_dealt(pd.concat([true, false], ignore_index=True), folds, seed), {})


def _dealt(table: pd.DataFrame, folds: int, seed: int) -> pd.DataFrame:
    """The table with a fold for each country that a statement names; -1 for what would unbalance its country."""
    rng = np.random.default_rng([seed, 2])
    everywhere = pd.Series(pd.unique(table[["named", "correct"]].to_numpy().ravel()))
    place = dict(zip(everywhere, _folds(everywhere, folds, rng), strict=True))
    fold, labels = table["named"].map(place).to_numpy().copy(), table["label"].to_numpy()
    for rows in table.groupby("named").indices.values():
        by_label = [rng.permutation(rows[labels[rows] == label]) for label in (0, 1)]
        fewer = min(map(len, by_label))
        fold[np.concatenate([part[fewer:] for part in by_label])] = -1
    return table.assign(fold=fold)[["city", "correct", "named", "label", "fold"]]


def _csv(code: str, path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"cities_csv: there is no file {path.name} for {LANGUAGES[code].name}")
    table = pd.read_csv(path)
    if not {"statement", "label"} <= set(table) or not table["label"].isin([0, 1]).all():
        raise DataError(f"{path.name}: columns statement and label (1 = true, 0 = false) are needed")
    text = table["statement"].fillna("").astype(str).map(lambda s: unicodedata.normalize("NFC", s))
    sound(text.tolist(), table["label"].to_numpy(), path.name)
    if "instruction" in table:
        text = table["instruction"].astype(str) + " " + text
    return table.assign(text=text)
