"""The parameters of notebooks/01_gcs.ipynb: meaning, unit, range."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from papercore.study.parameters import BaseParameters, ModelName, UserFile

Layer = Annotated[int, Field(ge=1)]
Strength = Annotated[float, Field(ge=-1, le=1)]


class Parameters(BaseParameters):
    """What the notebook can be asked; the defaults are the cpu profile."""

    model: ModelName = Field("smollm2-135m-instruct", min_length=1, description="catalogued model, hub id or folder")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number format of the models")
    larger_model: ModelName = Field("", description="a larger model of the same family for C3_size; empty: untested")
    texts_csv: UserFile = Field("", description="CSV with text and label (1, 0); empty: human-rated movie snippets")
    layers: list[Layer] = Field([*range(2, 31, 2)], min_length=3, description="layers whose probes are compared")
    layer: int = Field(16, ge=1, description="layer of C1 and C4, and of the concept grid; one of layers")
    pool_per_class: int = Field(400, ge=12, description="training texts of each class that one fitting seed sees")
    held_out_per_class: int = Field(150, ge=10, description="test texts of each class that no probe trains on")
    subset_per_class: int = Field(80, ge=10, description="texts of each class in one probe's subset")
    probes: int = Field(60, ge=2, description="observed probes a layer and seed (M)")
    fitting_seeds: int = Field(3, ge=1, description="independent repeats of drawing texts and fitting")
    samples: int = Field(1000, ge=2, description="vectors sampled from a subspace")
    grid_templates: int = Field(6, ge=1, le=8, description="sentence templates a category of the concept grid")
    grid_terms: int = Field(20, ge=12, le=20, description="terms a concept; every third is for testing")
    grid_probes: int = Field(30, ge=2, description="observed probes a concept and seed")
    steer_layers: list[Layer] = Field(
        [10, 12, 14, 16, 18, 20], min_length=1, description="steered layers; among layers"
    )
    strengths: list[Strength] = Field(
        [0.03, 0.06, 0.09], min_length=1, description="blend b of the steering, in [-1, 1]"
    )
    prompts: int = Field(20, ge=2, le=100, description="films to review, one prompt each")
    new_tokens: int = Field(24, ge=2, description="tokens a review")

    @model_validator(mode="after")
    def _fits(self):
        if self.layer not in self.layers:
            raise ValueError(f"layer = {self.layer} must be one of layers = {self.layers}")
        if missing := sorted(set(self.steer_layers) - set(self.layers)):
            raise ValueError(f"steer_layers has {missing[0]}, which is not among layers = {self.layers}")
        if len(set(self.layers)) < len(self.layers) or sorted(self.layers) != self.layers:
            raise ValueError(f"layers = {self.layers} must rise without repeats")
        if self.subset_per_class > self.pool_per_class:
            raise ValueError(
                f"subset_per_class = {self.subset_per_class} is more than pool_per_class = {self.pool_per_class}, the "
                "texts of a class that one fitting seed sees"
            )
        return self
