"""How `sought` was looked for: variants of the loop on seeds of their own, outcomes drawn from the law, no image.

`python -m papercore.papers.exfoliation_bo.search`; nothing here is ever run on reported seeds.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd

from papercore.papers.exfoliation_bo import benchmark, simulator
from papercore.papers.exfoliation_bo.arms import ARMS, bayesian
from papercore.papers.exfoliation_bo.space import Space

SETTINGS = (benchmark.Setting("medium", 4), benchmark.Setting("hard", 4))
SEEDS = range(200, 220)


class Law:
    """Outcomes of one seed's landscape without images, in the place of benchmark.Bank."""

    def __init__(self, setting: benchmark.Setting, seed: int):
        self.space, self.setting, self.seed = Space.of(simulator.PROTOCOL["space"]), setting, seed
        self.landscape = simulator.landscape(self.space, simulator.constants(setting.difficulty, seed))
        self.truth = self.landscape.mean

    def __call__(self, row: int, repeat: int) -> tuple[float, float]:
        draw = np.random.default_rng([self.seed, row, repeat])
        return simulator.law(self.landscape, row, draw, self.setting.fields)


def variants() -> dict[str, dict]:
    """Settings by name: acquisition, repeats, weight of the graded target."""
    every = itertools.product(("ucb", "logei", "qlognei"), ("never", "confirm"), (0.0, 1.0, 2.0))
    return {f"{a} {r} {g:g}": {"acquisition": a, "repeats": r, "graded": g} for a, r, g in every}


def main() -> None:
    """Print mean value of the recommendation of every variant, beside plain arms."""
    warnings.simplefilter("ignore")
    found = variants()
    ARMS.update({name: bayesian(settings) for name, settings in found.items()})
    for setting in SETTINGS:
        tables = [
            benchmark.scored(setting, seed, name, Law(setting, seed), ())
            for name in ("random", "tpe", "logei", *found)
            for seed in SEEDS
        ]
        last = benchmark.final(pd.concat(tables)).groupby("arm", sort=False)["recommended_value"]
        print(setting.name, last.agg(["mean", "sem"]).round(3).to_string(), sep="\n")


if __name__ == "__main__":
    main()
