"""A small room of the tests' own, so that no test of a floor leans on a paper."""

import pytest

import papercore.papers
from papercore.study import rooms

CLAIMS = """
paper: {arxiv: "0", title: t, authors: a, venue: v, code: c, licence: l}
cost:
  cpu: {minutes: 1, memory_gb: 1, disk_gb: 1}
claims:
  - {id: C1, says: one, kind: paper, reported: {value: [0.872], unit: accuracy, where: here},
     test: {rule: not_worse, statistic: mean_difference, of: one, versus: two, margin: 0.01, unit: text, fitted: true},
     control: {arm: random, expect: found_worse}}
  - {id: C2, says: two, kind: paper, reported: {unknown: why},
     test: {rule: ordering, statistic: mean_difference, arms: [a, b, c], unit: text, fitted: true},
     control: {arm: shuffled, expect: vanishes}}
  - {id: C3, says: three, kind: paper, reported: {unknown: why},
     test: {rule: greater, statistic: mean, of: one, unit: text}, control: {arm: none, why: a count}}
  - {id: C4, says: four, kind: audit, reported: {unknown: why},
     test: {rule: not_worse, statistic: mean_difference, of: one, versus: two, margin: 0.01, unit: text, fitted: true},
     control: {arm: random, expect: found_worse}}
  - {id: P1, says: five, kind: paper, reported: {unknown: why}, profiles: [paper],
     test: {rule: greater, statistic: mean, of: one, unit: text}, control: {arm: none, why: a count}}
"""
PARAMETERS = """
from typing import Annotated
from pydantic import Field, model_validator
from papercore.study.parameters import BaseParameters

class Parameters(BaseParameters):
    probes: int = Field(60, ge=2, description="observed probes")
    layers: list[Annotated[int, Field(ge=1)]] = Field([4, 8], description="layers read")
    layer: int = Field(8, ge=1, description="one of layers")

    @model_validator(mode="after")
    def _fits(self):
        if self.layer not in self.layers:
            raise ValueError(f"layer = {self.layer} must be one of layers = {self.layers}")
        return self
"""


@pytest.fixture
def slug(tmp_path, monkeypatch):
    """Slug of a room in a temporary folder."""
    room = tmp_path / "rooms" / "tiny"
    (room / "profiles").mkdir(parents=True)
    (room / "claims.yaml").write_text(CLAIMS)
    (room / "parameters.py").write_text(PARAMETERS)
    (room / "__init__.py").touch()
    (room / "profiles" / "smoke.yaml").write_text("profile: smoke\nprobes: 3\n")
    monkeypatch.setattr(rooms, "home", lambda: tmp_path / "rooms")
    monkeypatch.setattr(papercore.papers, "__path__", [*papercore.papers.__path__, str(tmp_path / "rooms")])
    rooms.claims.cache_clear()
    yield "tiny"
    rooms.claims.cache_clear()
