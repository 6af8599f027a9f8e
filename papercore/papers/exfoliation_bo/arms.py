"""What to try next: the arms of the comparison, each a function of what was told and of a seed, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.stats import qmc

from papercore.papers.exfoliation_bo import optimise
from papercore.papers.exfoliation_bo.simulator import PROTOCOL
from papercore.papers.exfoliation_bo.space import Space


@dataclass(frozen=True)
class History:
    """Told results in order: rows of the space, (n,); monolayer area and area of all thin flakes, um2 a field, (n,)."""

    rows: np.ndarray
    area: np.ndarray
    thin: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, n: int) -> History:
        """The first n of them."""
        return History(self.rows[:n], self.area[:n], self.thin[:n])


@dataclass(frozen=True)
class Asked:
    """What an arm gets: the space, results so far, the trial's own generator, the trial's number, budget, initial
    rows.
    """

    space: Space
    history: History
    draw: np.random.Generator
    trial: int
    budget: int
    initial: np.ndarray = field(repr=False)
    seed: int = 0

    @property
    def untried(self) -> np.ndarray:
        """Rows that were never told, (n_untried,)."""
        return np.setdiff1d(np.arange(len(self.space)), self.history.rows)


@dataclass(frozen=True)
class Arm:
    """One way to choose: `choose` gives a row. repeats: may a condition come again. designed: begins with the shared
    Latin hypercube. recommends: settings of its recommendation; all else is recommended by the same plain GP.
    """

    choose: Callable[[Asked], int]
    repeats: Literal["never", "confirm", "free"] = "never"
    designed: bool = True
    recommends: dict = field(default_factory=dict)


def latin(space: Space, n: int, seed: int) -> np.ndarray:
    """Rows of a Latin hypercube of n conditions, (n,), all different where the space has as many."""
    cube = qmc.LatinHypercube(d=len(space.shape), rng=np.random.default_rng([seed, 21])).random(n)
    levels = np.minimum((cube * space.shape).astype(int), np.array(space.shape) - 1)
    rows = np.ravel_multi_index(tuple(levels.T), space.shape)
    free = np.random.default_rng([seed, 22]).permutation(np.setdiff1d(np.arange(len(space)), rows)).tolist()
    seen: set[int] = set()
    found = []
    for row in rows.tolist():
        row = free.pop() if row in seen and free else row
        seen.add(row)
        found.append(row)
    return np.array(found)


def propose(space: Space, history: History, *, arm: str, seed: int, trial: int, budget: int, initial: int) -> int:
    """The row to try next. Same seed, trial and history: same row."""
    chosen = ARMS[arm]
    design = latin(space, initial, seed)
    asked = Asked(space, history, np.random.default_rng([seed, 31, trial]), trial, budget, design, seed)
    if chosen.designed and len(history) < initial:
        return int(design[len(history)])
    return int(chosen.choose(asked))


def _random(asked: Asked) -> int:
    return asked.draw.choice(asked.untried)


def _latin(asked: Asked) -> int:
    rows = latin(asked.space, asked.budget, asked.seed + 1)
    return rows[min(len(asked.history), len(rows) - 1)]


def _coarse(asked: Asked) -> int:
    """A grid of two inner levels of each knob, the middle one of three, in random order; then the rest at random."""
    inner = [sorted({(n - 1) // 2} if n <= 3 else {(n - 1) // 3, n - 1 - (n - 1) // 3}) for n in asked.space.shape]
    rows = np.array([np.ravel_multi_index(at, asked.space.shape) for at in itertools.product(*inner)])
    order = np.random.default_rng([asked.seed, 32]).permutation(rows)
    return order[len(asked.history)] if len(asked.history) < len(order) else _random(asked)


def _one_factor(asked: Asked) -> int:
    """One factor at a time: from a random condition, all levels of one knob, the best kept, then the next knob, in
    turn.
    """
    space, draw = asked.space, np.random.default_rng([asked.seed, 33])
    at = list(np.unravel_index(int(draw.integers(len(space))), space.shape))
    told = dict(zip(asked.history.rows.tolist(), asked.history.area.tolist(), strict=True))
    for knob in itertools.islice(itertools.cycle(draw.permutation(len(space.shape))), 4 * len(space.shape)):
        line = [
            np.ravel_multi_index([*at[:knob], level, *at[knob + 1 :]], space.shape)
            for level in range(space.shape[knob])
        ]
        for row in line:
            if int(row) not in told:
                return int(row)
        at[knob] = int(np.argmax([told[int(row)] for row in line]))
    return _random(asked)


def _tpe(asked: Asked) -> int:
    """Optuna's tree-structured Parzen estimator, on the levels' places."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=int(asked.draw.integers(2**31)), n_startup_trials=len(asked.initial))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    sizes = dict(zip(asked.space.names, asked.space.shape, strict=True))
    spread = {name: optuna.distributions.IntDistribution(0, size - 1) for name, size in sizes.items()}
    for row, area in zip(asked.history.rows, asked.history.area, strict=True):
        at = dict(zip(asked.space.names, map(int, np.unravel_index(row, asked.space.shape)), strict=True))
        study.add_trial(optuna.trial.create_trial(params=at, distributions=spread, value=float(area)))
    found = study.ask(spread).params
    return int(np.ravel_multi_index([found[name] for name in asked.space.names], asked.space.shape))


def _skopt(asked: Asked) -> int:
    """scikit-optimize's Gaussian process with expected improvement, on the levels' places."""
    import warnings

    from skopt import Optimizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # repeats, which it allows
        optimizer = Optimizer(
            [(0, size - 1) for size in asked.space.shape],
            base_estimator="GP",
            n_initial_points=1,
            acq_func="EI",  # its hedge would begin anew with every rebuilt optimiser
            random_state=int(asked.draw.integers(2**31)),
        )
        at = [list(map(int, np.unravel_index(row, asked.space.shape))) for row in asked.history.rows]
        optimizer.tell(at, (-np.log1p(asked.history.area / optimise.SCALE)).tolist())
        return int(np.ravel_multi_index([int(v) for v in optimizer.ask()], asked.space.shape))


def _bayes(**settings) -> Callable[[Asked], int]:
    def choose(asked: Asked) -> int:
        return optimise.choose(
            asked.space, asked.history, asked.draw, left=asked.budget - len(asked.history), **settings
        )

    return choose


_PLAIN = {
    "random": Arm(_random, designed=False),
    "latin": Arm(_latin, designed=False),
    "coarse_grid": Arm(_coarse, designed=False),
    "one_factor": Arm(_one_factor, designed=False),
    "tpe": Arm(_tpe, "free"),
    "skopt": Arm(_skopt, "free"),
}


def bayesian(settings: dict) -> Arm:
    """The arm that optimises with these settings of `optimise.choose`, and recommends by the same surrogate."""
    own = {name: settings[name] for name in ("graded", "hurdle") if name in settings}
    return Arm(_bayes(**settings), settings["repeats"], recommends=own)


# The protocol's arms: plain ones by name, Bayesian ones by their settings.
ARMS: dict[str, Arm] = {
    name: bayesian(settings) if settings else _PLAIN[name] for name, settings in PROTOCOL["arms"].items()
}
