"""The schema of claims.yaml, the only home of what a paper says. Floor: study."""

from __future__ import annotations

from typing import Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from papercore.study.statistics import ONE_ARM, STATISTICS, TWO_ARMS

Profile = Literal["smoke", "cpu", "paper"]
Rule = Literal["at_least", "at_most", "greater", "not_worse", "within", "ordering", "monotone", "equal"]


class ClaimsError(ValueError):
    """claims.yaml, or what a notebook hands over for a claim, does not fit the schema."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paper(_Strict):
    arxiv: str
    title: str
    authors: str
    venue: str
    code: str
    licence: str


class Cost(_Strict):
    """What one profile asks of a machine; the reader sees it before anything is fetched."""

    minutes: float = Field(gt=0)
    memory_gb: float = Field(gt=0)
    gpu_gb: float | None = Field(None, gt=0, description="GPU memory the profile is made for; None: it needs no GPU")
    disk_gb: float = Field(gt=0, description="caches and results, after the download")
    models: list[str] = []
    note: str = ""


class Reported(_Strict):
    """The paper's number with its source, or why there is none."""

    value: float | list[float] | None = None
    unit: str = ""
    where: str = ""
    unknown: str = ""

    @model_validator(mode="after")
    def _one_of(self):
        if (self.value is None) == (not self.unknown):
            raise ValueError("reported needs either `value` (with unit and where) or `unknown` (with why)")
        if self.value is not None and not self.where:
            raise ValueError("a reported value needs `where` it stands")
        return self


class Test(_Strict):
    """One rule over one statistic of named arms."""

    rule: Rule
    statistic: str
    of: str = ""
    versus: str = ""
    arms: list[str] = []
    value: float | None = None
    margin: float = Field(default=0.0, ge=0)
    tolerance: float = Field(default=0.0, ge=0)
    better: Literal["higher", "lower"] = "higher"
    unit: str = Field(description="what is resampled: text, prompt, concept, ...")
    fitted: bool = Field(default=False, description="about something fitted or sampled: needs a `seed` column")
    level: float = Field(default=0.95, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _fits(self):
        if self.statistic not in STATISTICS:
            raise ValueError(f"unknown statistic {self.statistic!r}; known: {', '.join(sorted(STATISTICS))}")
        if self.rule in ("ordering", "monotone"):
            if len(self.arms) < 2 or self.of or self.versus or self.statistic != "mean_difference":
                raise ValueError(f"{self.rule} takes `arms` (two or more) and statistic mean_difference")
        else:
            if self.arms or not self.of:
                raise ValueError(f"{self.rule} takes `of`, not `arms`")
            if self.statistic in TWO_ARMS and not self.versus:
                raise ValueError(f"{self.statistic} compares two arms: `versus` is missing")
            if self.statistic in ONE_ARM and self.versus:
                raise ValueError(f"{self.statistic} takes one arm: drop `versus`")
        if self.rule != "within" and (self.rule in ("at_least", "at_most", "equal")) != (self.value is not None):
            raise ValueError("`value` belongs to at_least, at_most, equal and within, and the first three need it")
        return self

    @property
    def arm_names(self) -> list[str]:
        """Names of the arms that the notebook hands over, the control excepted."""
        return list(self.arms) or [name for name in (self.of, self.versus) if name]


class Control(_Strict):
    """The arm that must not pass the same test; `arm: none` says why there is none."""

    arm: str
    expect: Literal["vanishes", "found_worse", "found_different"] | None = None
    why: str = ""

    @model_validator(mode="after")
    def _fits(self):
        if self.arm == "none":
            if self.expect or not self.why:
                raise ValueError("`arm: none` takes no `expect` and needs `why`")
        elif self.expect is None:
            raise ValueError("a control needs `expect`: vanishes, found_worse or found_different")
        return self


class Claim(_Strict):
    id: str = Field(pattern=r"^[A-Z][A-Za-z0-9_]*$")
    says: str
    kind: Literal["paper", "audit"]
    scope: str = ""
    scale_note: str = ""
    reported: Reported
    test: Test
    control: Control
    profiles: list[Profile] = ["cpu", "paper"]
    expect_void: str = ""

    @model_validator(mode="after")
    def _fits(self):
        rule, expect = self.test.rule, self.control.expect
        if rule == "within" and self.target is None:
            raise ValueError(f"{self.id}: rule within needs one reported value, or `value` in its test")
        worse = ("not_worse", "monotone", "at_least", "at_most", "greater", "ordering")
        if (expect == "found_worse" and rule not in worse) or (
            expect == "found_different" and rule not in ("equal", "within")
        ):
            raise ValueError(f"{self.id}: control expects {expect}, which rule {rule} cannot find")
        return self

    @property
    def target(self) -> float | None:
        """What rule within compares with: the test's own value, else the reported one."""
        reported = self.reported.value
        return self.test.value if self.test.value is not None else reported if isinstance(reported, float) else None


class PaperTable(_Strict):
    """A table or the cells of a figure of the paper's, with its source."""

    where: str = Field(min_length=1)
    columns: list[str]
    rows: dict[str, list[float]]

    @model_validator(mode="after")
    def _fits(self):
        for name, values in self.rows.items():
            if len(values) != len(self.columns):
                raise ValueError(f"row {name} has {len(values)} values for {len(self.columns)} columns")
        return self

    def frame(self) -> pd.DataFrame:
        """The table with its row names as index."""
        return pd.DataFrame.from_dict(self.rows, orient="index", columns=self.columns)


class Claims(_Strict):
    """One paper's claims.yaml."""

    paper: Paper
    cost: dict[Profile, Cost]
    tables: dict[str, PaperTable] = {}
    claims: list[Claim]

    @model_validator(mode="after")
    def _unique(self):
        ids = [claim.id for claim in self.claims]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"claim ids stand twice: {', '.join(twice)}")
        return self

    def __getitem__(self, claim_id: str) -> Claim:
        for claim in self.claims:
            if claim.id == claim_id:
                return claim
        known = ", ".join(claim.id for claim in self.claims)
        raise ClaimsError(f"claim {claim_id!r} is not in claims.yaml; it has {known}")


def parse(text: str, where: str) -> Claims:
    """Claims from the text of a claims.yaml; raises ClaimsError with file, field and reason."""
    try:
        return Claims.model_validate(yaml.safe_load(text))
    except ValidationError as err:
        first = err.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ClaimsError(f"{where}: {field}: {first['msg']}") from None
    except yaml.YAMLError as err:
        raise ClaimsError(f"{where} is not YAML: {' '.join(str(err).split())}") from None
