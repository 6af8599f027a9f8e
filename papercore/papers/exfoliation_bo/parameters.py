"""The parameters of notebooks/10_exfoliation_bo.ipynb: meaning, unit, range."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from papercore.study.parameters import BaseParameters, UserFile

DIFFICULTIES = ("easy", "medium", "hard")
ARMS = (
    "random",
    "latin",
    "coarse_grid",
    "one_factor",
    "tpe",
    "skopt",
    "logei",
    "logei_never",
    "qlognei",
    "ucb",
    "thompson",
    "hurdle",
    "sought",
)
MAPPED = ("random", "tpe", "logei", "sought")  # the arms of the map


class Parameters(BaseParameters):
    """What the notebook can be asked; the defaults are the cpu profile."""

    difficulty: Literal["easy", "medium", "hard"] = Field("medium", description="landscape of the main comparison")
    fields: int = Field(4, ge=1, le=64, description="fields scanned a trial in it")
    oxide: float = Field(90.0, ge=25, le=335, description="oxide of the wafers, nm")
    pixels: int = Field(160, ge=64, le=2048, description="pixels on a side of a field; a pixel is 1 um")
    budget: int = Field(30, ge=12, le=1200, description="trials of a campaign")
    initial: int = Field(10, ge=2, description="trials of the initial design, of them")
    campaigns: int = Field(20, ge=2, description="paired campaigns of each arm: seeds")
    mapped_difficulties: list[Literal["easy", "medium", "hard"]] = Field(
        list(DIFFICULTIES), min_length=1, description="rows of the map of where BO wins"
    )
    mapped_fields: list[Annotated[int, Field(ge=1)]] = Field([1, 4, 8], min_length=2, description="its columns")
    comparison: Literal["recorded", "live"] = Field(
        "recorded", description="the recorded campaigns with one seed of each arm made again, or all of them now"
    )
    checked_fields: int = Field(150, ge=10, description="simulated fields that the detector is scored on, a condition")
    repeats: int = Field(100, ge=10, description="repeats of one condition")
    failures: float = Field(0.05, ge=0, lt=0.5, description="chance that a trial of the live campaign fails")
    images: UserFile = Field("", description="folder of real WSe2 images with masks for the detector, or empty")
    image_pixel: float = Field(1.0, gt=0, description="um a pixel of those images")
    image_oxide: float = Field(67.0, ge=25, le=335, description="effective oxide of their wafers, nm")
    jobs: int = Field(2, ge=1, description="processes of the comparison")

    @model_validator(mode="after")
    def _fits(self):
        if self.initial >= self.budget:
            raise ValueError(f"initial = {self.initial} must be less than budget = {self.budget}")
        for name in ("mapped_difficulties", "mapped_fields"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} = {values}: name each once")
        return self
