"""The parameters of notebooks/03_sae_survey.ipynb: meaning, unit, range."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from papercore.study.parameters import BaseParameters, ModelName

ZOO = ["relu", "p_anneal", "gated", "prolu", "jumprelu", "topk", "batch_topk", "matryoshka", "switch", "frozen_decoder"]
NEEDED = ("relu", "topk", "frozen_decoder")  # what every figure compares with


class Parameters(BaseParameters):
    """What the notebook can be asked; the defaults are the cpu profile."""

    model: ModelName = Field("smollm2-135m-instruct", min_length=1, description="catalogued model, hub id or folder")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number format of the model")
    layer: int = Field(15, ge=1, description="block after which the residual stream is read")
    group_layers: list[Annotated[int, Field(ge=1)]] = Field(
        [12, 13, 14, 15], min_length=2, description="layers among which groups are formed"
    )
    documents: int = Field(200, ge=20, description="training documents of each task and each further text")
    test_documents: int = Field(100, ge=10, description="held-out documents of each task and each further text")
    max_tokens: int = Field(96, ge=8, description="tokens of a document that are read")
    latents: int = Field(2304, ge=8, description="latents of the SAE that is looked into")
    k: int = Field(32, ge=1, description="active latents a token it aims at")
    steps: int = Field(300, ge=1, description="training steps of every SAE")
    batch: int = Field(1024, ge=16, description="tokens a step")
    lr: float = Field(1e-3, gt=0, description="learning rate")
    fitting_seeds: int = Field(3, ge=1, description="SAEs trained of each kind")
    architectures: list[str] = Field(ZOO, description=f"names among {', '.join(ZOO)}")
    zoo_latents: int = Field(1152, ge=8, description="latents of the SAEs of the frontier")
    sparsities: list[Annotated[int, Field(ge=1)]] = Field([16, 32, 64], min_length=2, description="L0 aimed at")
    sweep: list[Annotated[int, Field(ge=1)]] = Field(
        [8, 16, 32, 64, 128], min_length=5, max_length=5, description="L0 of the sweep of TopK alone"
    )
    frontier: Literal["recorded", "live"] = Field(
        "recorded", description="the recorded frontier with a part of it made again, or all of it now"
    )
    splice_documents: int = Field(24, ge=4, description="held-out documents that are spliced")
    sae: str = Field(
        "shipped", min_length=1, description="SAE that is looked at: shipped, or a folder, here or of a hub repository"
    )
    explained: int = Field(16, ge=2, description="latents of each SAE that are explained and steered")
    cards: int = Field(2, ge=1, description="latents with a feature card")
    short_steps: int = Field(30, ge=2, description="training steps of the taxonomy's roll call")
    synthetic_worlds: int = Field(5, ge=2, description="synthetic worlds with known features")
    world_steps: int = Field(300, ge=2, description="training steps in a synthetic world")

    @model_validator(mode="after")
    def _fits(self):
        unknown = [name for name in self.architectures if name not in ZOO]
        if unknown or len(set(self.architectures)) < len(self.architectures):
            raise ValueError(f"architectures = {self.architectures}: name each once, among {', '.join(ZOO)}")
        if missing := [name for name in NEEDED if name not in self.architectures]:
            raise ValueError(
                f"architectures = {self.architectures} lacks {missing[0]}, which the others are compared with"
            )
        for name in ("sparsities", "sweep"):
            values = getattr(self, name)
            if sorted(set(values)) != values:
                raise ValueError(f"{name} = {values} must rise without repeats")
        if self.k > self.latents:
            raise ValueError(f"k = {self.k} is more than latents = {self.latents}")
        widest = max(*self.sparsities, *self.sweep)
        if self.zoo_latents % 4 or widest > self.zoo_latents // 4:
            raise ValueError(
                f"zoo_latents = {self.zoo_latents} must be a multiple of 4, and at least {4 * widest}: Switch deals "
                f"them to 4 experts, and each needs {widest}"
            )
        if self.batch * self.sparsities[0] < self.zoo_latents:
            raise ValueError(
                f"batch = {self.batch} must be at least {-(-self.zoo_latents // self.sparsities[0])}: Feature Choice "
                f"deals sparsities[0] times batch places to zoo_latents = {self.zoo_latents}, one each or more"
            )
        if self.layer not in self.group_layers:
            raise ValueError(f"layer = {self.layer} must be one of group_layers = {self.group_layers}")
        return self
