"""Three ways to part statements into training and test rows; what each lets a probe memorise is the lesson."""

from __future__ import annotations

from typing import Literal

import numpy as np

from papercore.papers.multilingual_probing.data import Statements

Kind = Literal["random", "city", "country"]
Split = tuple[np.ndarray, np.ndarray]
TEST_SHARE = 0.4  # the paper's


def split(statements: Statements, kind: Kind, seed: int) -> list[Split]:
    """(training rows, test rows), one pair or one a fold.

    random: the paper's 60/40, `train_test_split` of all rows: a city's true statement may train and its false one test.
    city: 60/40 of the cities, so that both statements of a city lie on one side; countries cross.
    country: each fold tests once; no city and no country that a statement names crosses, and every tested country is
    named as often in a true as in a false statement.
    """
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    table = statements.table
    rows = np.arange(len(table))
    if kind == "random":
        train, test = train_test_split(rows, test_size=TEST_SHARE, random_state=seed)
        return [(train, test)]
    if kind == "city":
        parts = GroupShuffleSplit(1, test_size=TEST_SHARE, random_state=seed)
        return [next(parts.split(rows, groups=table["city"]))]
    return [_fold(statements, number) for number in sorted(set(table["fold"]) - {-1})]


def _fold(statements: Statements, number: int) -> Split:
    table = statements.table
    test = (table["fold"] == number).to_numpy()
    # What a statement says are its city and the country it names; a false one's true country is not said.
    touched = table["named"].isin(table["named"][test]) | table["city"].isin(table["city"][test])
    return np.flatnonzero(~touched), np.flatnonzero(test)


def swapped(statements: Statements, seed: int, coin: int = 1) -> np.ndarray:
    """Labels that know nothing: each city's labels are turned around or not, by the coin of that number, (n,).

    Twins stay twins, so what a split makes of memorised names stays too; the same coins in every language.
    """
    rng = np.random.default_rng([seed, 3, coin])
    cities = statements.table["city"]
    turned = dict(zip(cities.unique(), rng.integers(0, 2, cities.nunique()), strict=True))
    return statements.labels ^ cities.map(turned).to_numpy()
