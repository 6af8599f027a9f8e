"""Many campaigns without a log: arms on the same seeds, scored by the truth that none of them saw.

What a condition yields depends on (seed, condition, repeat) alone, so arms are paired: two that try the same thing see
the same images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import resources
from multiprocessing import get_context

import numpy as np
import pandas as pd

from papercore.papers.exfoliation_bo import optimise
from papercore.papers.exfoliation_bo.arms import ARMS, History, propose
from papercore.papers.exfoliation_bo.detector import Detector
from papercore.papers.exfoliation_bo.instrument import SimulatedExfoliator
from papercore.papers.exfoliation_bo.simulator import PROTOCOL, Optics

LOOKS = (10, 20, 30)  # told trials after which a recommendation is asked for
SHARES = (0.5, 0.8, 0.9)


@dataclass(frozen=True)
class Setting:
    """One benchmark: difficulty, fields a trial, pixels of a field's side, trials, initial design, oxide in nm;
    shuffled: the conditions of the landscape exchanged, so that neighbours say nothing of each other.
    """

    difficulty: str
    fields: int
    pixels: int = 160
    budget: int = PROTOCOL["budget"]
    initial: int = PROTOCOL["initial"]
    oxide: float = 90.0
    shuffled: bool = False

    @property
    def name(self) -> str:
        """For a reader."""
        return f"{self.difficulty}, {self.fields} field{'s' * (self.fields > 1)}{', shuffled' * self.shuffled}"


def protocol_sha256() -> str:
    """Hex sha256 of protocol.yaml as it stands."""
    return hashlib.sha256((resources.files(__package__) / "protocol.yaml").read_bytes()).hexdigest()


def reported_seeds(count: int, sha256: str | None = None) -> list[int]:
    """Seeds of campaigns that count: drawn from the protocol's sha256, so a changed protocol is scored on others."""
    draw = np.random.default_rng(int((sha256 or protocol_sha256())[:16], 16))
    return draw.choice(np.arange(1_000_000, 2_000_000), count, replace=False).tolist()


class Bank:
    """Outcomes of one seed's instrument through images and detector, each made once: `bank(row, repeat)`."""

    def __init__(self, setting: Setting, seed: int):
        camera = Optics(pixels=setting.pixels, oxide=setting.oxide)
        self.instrument = SimulatedExfoliator(setting.difficulty, seed, fields=setting.fields, camera=camera)
        self.detector = Detector(camera.pixel, self.instrument.prepare())
        self.space = self.instrument.space
        self._where = np.arange(len(self.space))
        if setting.shuffled:
            self._where = np.random.default_rng([seed, 41]).permutation(self._where)
        self._made: dict[tuple[int, int], tuple[float, float]] = {}

    @property
    def truth(self) -> np.ndarray:
        """True mean monolayer area of every condition, um2 a field, for scoring: no arm gets it, (n_conditions,)."""
        return self.instrument.hidden.mean[self._where]

    def __call__(self, row: int, repeat: int) -> tuple[float, float]:
        """Monolayer and thin area, um2 a field."""
        if (row, repeat) not in self._made:
            count = self.instrument.fields
            shots = [self.instrument.shot(int(self._where[row]), repeat, number) for number in range(count)]
            found = self.detector([s[0] for s in shots], [s[1] for s in shots])
            self._made[row, repeat] = found.area, found.thin
        return self._made[row, repeat]


def campaign(
    space, arm: str, seed: int, outcome: Callable[[int, int], tuple[float, float]], setting: Setting
) -> History:
    """The results of a whole campaign of one arm."""
    told = History(np.array([], dtype=int), np.array([]), np.array([]))
    for trial in range(setting.budget):
        row = propose(space, told, arm=arm, seed=seed, trial=trial, budget=setting.budget, initial=setting.initial)
        area, thin = outcome(row, int((told.rows == row).sum()))
        told = History(np.append(told.rows, row), np.append(told.area, area), np.append(told.thin, thin))
    return told


def compare(setting: Setting, seed: int, arms: Sequence[str], looks: Sequence[int] = LOOKS) -> pd.DataFrame:
    """All arms on one seed, a row a trial: setting, seed, arm, trial, row, area, thin; value, the truth at the row over
    the best truth. After trials in `looks` also recommended, its value, and lucky, the value at the best area observed;
    after the last, again and random_again: area of one more repeat of the luckiest row, and of the row of random_trial.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # thirty points: more threads cost more than they give
    try:
        bank = Bank(setting, seed)
        return pd.concat([scored(setting, seed, arm, bank, looks) for arm in arms], ignore_index=True)
    finally:
        torch.set_num_threads(threads)


def scored(setting: Setting, seed: int, arm: str, bank, looks: Sequence[int]) -> pd.DataFrame:
    """One arm's rows of `compare`; bank gives outcomes and has space and truth."""
    told = campaign(bank.space, arm, seed, bank, setting)
    value = bank.truth / bank.truth.max()
    what = {"difficulty": setting.difficulty, "fields": setting.fields, "shuffled": setting.shuffled, "seed": seed}
    table = pd.DataFrame(
        {
            **what,
            "arm": arm,
            "trial": np.arange(1, len(told) + 1),
            "row": told.rows,
            "area": told.area,
            "thin": told.thin,
            "value": value[told.rows],
        }
    )
    for n in sorted({n for n in looks if n < len(told)} | {len(told)}):
        part = told.first(n)
        row = optimise.recommend(bank.space, part, **ARMS[arm].recommends)
        table.loc[n - 1, ["recommended", "recommended_value", "lucky"]] = (
            row,
            value[row],
            value[part.rows[part.area.argmax()]],
        )
    any_trial = int(np.random.default_rng([seed, 42]).integers(len(told)))
    for name, trial in (("again", int(told.area.argmax())), ("random_again", any_trial)):
        row = int(told.rows[trial])
        table.loc[len(told) - 1, name] = bank(row, int((told.rows == row).sum()))[0]
    table["random_trial"] = any_trial
    return table


def many(todo: Sequence[tuple[Setting, int, Sequence[str]]], jobs: int = 1, progress=None) -> pd.DataFrame:
    """`compare` for each (setting, seed, arms), in order, in `jobs` processes."""
    if jobs == 1:
        found = []
        for done, one in enumerate(todo, start=1):
            found.append(compare(*one))
            if progress:
                progress(done, len(todo))
        return pd.concat(found, ignore_index=True)
    # A fork of a process whose threads have worked can hang: each begins anew.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        waiting = [pool.submit(compare, *one) for one in todo]
        found = []
        for done, one in enumerate(waiting, start=1):
            found.append(one.result())
            if progress:
                progress(done, len(todo))
    return pd.concat(found, ignore_index=True)


KEYS = ["difficulty", "fields", "shuffled", "seed", "arm"]


def final(table: pd.DataFrame) -> pd.DataFrame:
    """The last row of each campaign: its recommendation after all trials."""
    return table.groupby(KEYS, sort=False).tail(1).reset_index(drop=True)


def trials_to(table: pd.DataFrame, share: float) -> pd.DataFrame:
    """Trials until a condition with that share of the best truth was tried; the budget plus one where none was."""
    reached = table[table["value"] >= share].groupby(KEYS)["trial"].min()
    most = table.groupby(KEYS, sort=False)["trial"].max() + 1
    return reached.reindex(most.index).fillna(most).rename("trials").reset_index()
