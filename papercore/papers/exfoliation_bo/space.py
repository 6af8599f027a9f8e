"""The grid of conditions: parameters, their levels and limits, and their place in the unit cube."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

LARGEST = 200_000  # conditions; every one of them is scored before each proposal


class SpaceError(ValueError):
    """A parameter, level or condition that cannot be."""


@dataclass(frozen=True)
class Knob:
    """One parameter of the instrument: the levels it is set to, its hard limits, how near it has to come."""

    name: str
    unit: str
    levels: tuple[float, ...]
    limits: tuple[float, float]
    tolerance: float
    scale: str = "linear"

    def __post_init__(self):
        where, low, high = f"{self.name}, levels {list(self.levels)}", *self.limits
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise SpaceError(f"{where}: give one level or more, each once")
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in (*self.levels, low, high, self.tolerance)):
            raise SpaceError(f"{where}: levels, limits and tolerance must be finite numbers")
        if outside := [v for v in self.levels if not low <= v <= high]:
            raise SpaceError(f"{where}: {outside[0]:g} {self.unit} is outside the hard limits {low:g} to {high:g}")
        if self.scale not in ("linear", "log") or (self.scale == "log" and low <= 0):
            raise SpaceError(f"{where}: its scale is linear, or log where every level is above 0")

    def unit_interval(self, value):
        """Where values lie between the least and the largest level, in [0, 1], on the knob's own scale."""
        scaled = [
            np.log(np.asarray(v, dtype=float)) if self.scale == "log" else np.asarray(v, dtype=float)
            for v in (value, min(self.levels), max(self.levels))
        ]
        return (scaled[0] - scaled[1]) / ((scaled[2] - scaled[1]) or 1.0)


@dataclass(frozen=True)
class Space:
    """All combinations of the knobs' levels, in the order of itertools.product: a condition is its row number."""

    knobs: tuple[Knob, ...]

    def __post_init__(self):
        if not self.knobs or len({knob.name for knob in self.knobs}) < len(self.knobs):
            raise SpaceError("a space has one parameter or more, each name once")
        if len(self) > LARGEST:
            raise SpaceError(f"a space of {len(self):,} conditions is too large; at most {LARGEST:,} are scored whole")

    @classmethod
    def of(cls, spec: Mapping[str, Mapping[str, Any]]) -> Space:
        """From a mapping of name to unit, levels, limits, tolerance and scale, as in protocol.yaml."""
        return cls(
            tuple(
                Knob(name, s["unit"], tuple(s["levels"]), tuple(s["limits"]), s["tolerance"], s.get("scale", "linear"))
                for name, s in spec.items()
            )
        )

    def __len__(self) -> int:
        return math.prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Levels of each knob."""
        return tuple(len(knob.levels) for knob in self.knobs)

    @property
    def names(self) -> list[str]:
        """The knobs' names."""
        return [knob.name for knob in self.knobs]

    @cached_property
    def values(self) -> np.ndarray:
        """Settings of every condition, (n_conditions, n_knobs), in the knobs' units."""
        return np.array(list(itertools.product(*(knob.levels for knob in self.knobs))), dtype=float)

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Every condition in the unit cube, (n_conditions, n_knobs): log scales are even steps."""
        return np.stack([knob.unit_interval(v) for knob, v in zip(self.knobs, self.values.T, strict=True)], axis=1)

    def condition(self, row: int) -> dict[str, float]:
        """Name and setting of each knob at a condition."""
        if not 0 <= row < len(self):
            raise SpaceError(f"there is no condition {row}: they are numbered 0 to {len(self) - 1}")
        return dict(zip(self.names, map(float, self.values[row]), strict=True))

    def row(self, condition: Mapping[str, float]) -> int:
        """The number of a condition. Raises SpaceError for an unknown or missing parameter, or no level."""
        if odd := sorted(set(condition) ^ set(self.names)):
            what = "unknown" if odd[0] in condition else "missing"
            raise SpaceError(f"parameter {odd[0]!r} is {what}; a condition has {', '.join(self.names)}")
        found = 0
        for knob in self.knobs:
            if condition[knob.name] not in knob.levels:
                raise SpaceError(
                    f"{knob.name} = {condition[knob.name]!r} is no level; "
                    f"they are {', '.join(f'{v:g}' for v in knob.levels)}"
                )
            found = found * len(knob.levels) + knob.levels.index(condition[knob.name])
        return found

    def spec(self) -> dict:
        """Plain data that `of` reads again."""
        return {
            knob.name: {
                "unit": knob.unit,
                "levels": list(knob.levels),
                "limits": list(knob.limits),
                "tolerance": knob.tolerance,
                "scale": knob.scale,
            }
            for knob in self.knobs
        }
