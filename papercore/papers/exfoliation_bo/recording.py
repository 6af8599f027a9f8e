"""The recorded comparison: made by `python -m papercore.papers.exfoliation_bo.recording`, partly made again in each
run.

It is bound to protocol, settings, arms, seeds and the versions that decide a proposal by a key.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from papercore.papers.exfoliation_bo import benchmark
from papercore.papers.exfoliation_bo.benchmark import Setting
from papercore.papers.exfoliation_bo.parameters import ARMS, MAPPED

PACKAGES = ("botorch", "gpytorch", "torch", "optuna", "scikit-optimize", "scikit-learn", "scipy")
SHUFFLED = tuple(arm for arm in ARMS if arm not in ("qlognei", "ucb", "thompson", "hurdle"))  # arms with a claim


class RecordingError(ValueError):
    """What is recorded does not belong to the settings asked for."""


def plan(p) -> list[tuple[Setting, Sequence[str]]]:
    """Every setting with the arms that run in it: the main one with all, the map with four, shuffled controls."""
    main = Setting(p.difficulty, p.fields, p.pixels, p.budget, p.initial, p.oxide)
    found: dict[Setting, Sequence[str]] = {main: ARMS, replace(main, shuffled=True): SHUFFLED}
    for difficulty in p.mapped_difficulties:
        for fields in p.mapped_fields:
            found.setdefault(replace(main, difficulty=difficulty, fields=fields), MAPPED)
            if fields in (min(p.mapped_fields), max(p.mapped_fields)):
                found.setdefault(
                    replace(main, difficulty=difficulty, fields=fields, shuffled=True), ("random", "logei")
                )
    return list(found.items())


def jobs(p, seeds: Sequence[int]) -> list[tuple[Setting, int, Sequence[str]]]:
    """(setting, seed, arms) of every campaign, the costly settings first."""
    order = sorted(plan(p), key=lambda one: -one[0].fields)
    return [(setting, seed, arms) for setting, arms in order for seed in seeds]


def key(p) -> str:
    """Sha256 of protocol, settings, arms, number of seeds and versions. The code is watched otherwise: each run makes a
    part again.
    """
    said = [
        benchmark.protocol_sha256(),
        [[asdict(setting), list(arms)] for setting, arms in plan(p)],
        p.campaigns,
        {name: version(name) for name in PACKAGES},
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def recipe() -> dict:
    """How, where and in how long it was made, and its key."""
    return json.loads((resources.files(__package__) / "recorded" / "recipe.json").read_text(encoding="utf-8"))


def load(p) -> pd.DataFrame:
    """The recorded campaigns; raises RecordingError where they were made with other settings."""
    if (found := recipe()["key"]) != (wanted := key(p)):
        raise RecordingError(
            f"the recorded campaigns have the key {found[:8]}, but these settings have {wanted[:8]}: take "
            "comparison = 'live', or the recorded settings and versions"
        )
    with (resources.files(__package__) / "recorded" / "campaigns.parquet").open("rb") as file:
        return pd.read_parquet(file)


def campaigns(p, progress=None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The comparison's campaigns, and what was made again of the recorded ones: arm, trial, recorded, live."""
    seeds = benchmark.reported_seeds(p.campaigns)
    if p.comparison == "live":
        return benchmark.many(jobs(p, seeds), p.jobs, progress), pd.DataFrame(
            columns=["arm", "trial", "recorded", "live"]
        )
    recorded = load(p)
    setting, arms = plan(p)[0]
    seed = int(np.random.default_rng([p.seed, 51]).choice(seeds))
    live = benchmark.many([(setting, seed, [arm]) for arm in arms], p.jobs, progress)
    both = live.merge(recorded, on=[*benchmark.KEYS, "trial"], suffixes=("", "_recorded"))
    return recorded, both[["seed", "arm", "trial", "row", "row_recorded", "area", "area_recorded"]]


def history() -> pd.DataFrame:
    """Every protocol that was ever scored on reported seeds: sha256, date, what it was, what came out."""
    with (resources.files(__package__) / "protocol_history.csv").open("rb") as file:
        return pd.read_csv(file)


def record() -> None:
    """Make the recording with the cpu profile's parameters on this machine."""
    from rich.progress import Progress

    from papercore.study import parameters, provenance

    p = parameters.resolve("exfoliation_bo", "cpu")
    todo, started = jobs(p, benchmark.reported_seeds(p.campaigns)), time.monotonic()
    with Progress() as bar:
        task = bar.add_task("campaigns", total=len(todo))
        found = benchmark.many(todo, p.jobs, lambda done, _: bar.update(task, completed=done))
    out = Path(str(resources.files(__package__))) / "recorded"
    out.mkdir(exist_ok=True)
    found.to_parquet(out / "campaigns.parquet", index=False, compression="zstd")
    about = {
        "key": key(p),
        "command": "python -m papercore.papers.exfoliation_bo.recording",
        "protocol": benchmark.protocol_sha256(),
        "campaigns": int(found.groupby(benchmark.KEYS).ngroups),
        "seconds": round(time.monotonic() - started),
        "processes": p.jobs,
        "hardware": provenance.collect("exfoliation_bo", 0)["hardware"],
    }
    (out / "recipe.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
