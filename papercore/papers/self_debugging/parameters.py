"""The parameters of notebooks/08_self_debugging.ipynb: meaning, unit, range."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from papercore.study.parameters import BaseParameters, ModelName, UserFile

ARMS = ("none", "oracle", "label", "detail", "in_execution", "retry", "told_wrong")


class Parameters(BaseParameters):
    """What the notebook can be asked; the defaults are the cpu profile."""

    budget_seconds: float = Field(480, gt=0, description="time the run should take on two cores, s")
    model: ModelName = Field(
        "qwen2.5-coder-0.5b-instruct", description="catalogued model, hub id or folder; empty: an endpoint's"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number format of the model")
    endpoint: str = Field(
        "", pattern=r"^(https?://\S+)?$", description="base URL of an OpenAI-compatible server; none: local"
    )
    endpoint_model: str = Field("", description="the model's name at that server")
    problems_file: UserFile = Field("", description="own problems in HumanEval's format; empty: HumanEval")
    n_problems: int = Field(164, ge=1, description="problems, the first ones of the file")
    n_tests: int = Field(10, ge=1, le=50, description="tests that the model is asked for, a problem")
    rounds: int = Field(1, ge=1, le=4, description="rounds of debugging")
    arms: list[Literal[ARMS]] = Field(list(ARMS), description=f"among {', '.join(ARMS)}; none is always there")
    code_tokens: int = Field(200, ge=16, description="most new tokens of a program")
    test_tokens: int = Field(256, ge=16, description="most new tokens of a suite")
    inspect_tokens: int = Field(384, ge=16, description="most new tokens of an in-execution answer")
    batch: int = Field(32, ge=1, description="prompts of a batch")
    source: Literal["recorded", "live"] = Field(
        "recorded", description="answers: recorded ones, a part of them made again; or all of them made in this run"
    )
    remade: list[Literal["code", "tests", "wrong", "retry", "detail", "inspect"]] = Field(
        ["code", "tests", "wrong"], description="stages of which one recorded batch is made again, chosen by the seed"
    )
    remade_rows: int = Field(32, ge=0, description="that batch has at most so many prompts; 0: none is made again")
    executed: int = Field(164, ge=0, description="problems whose recorded programs run again in the sandbox")
    mutants: int = Field(6, ge=1, description="mutants a problem, at most, of the canonical solution")
    noise: list[float] = Field([0.0, 0.05, 0.1, 0.2], min_length=1, description="shares of expected values made wrong")
    draws: int = Field(200, ge=10, description="draws of noisy suites behind each point of a curve")
    allow_code_execution: bool = Field(True, description="run programs in the sandbox; needs full isolation")
    allow_unsandboxed: bool = Field(False, description="run them at partial isolation too, files and network in reach")

    @model_validator(mode="after")
    def _fits(self):
        if bool(self.endpoint) != bool(self.endpoint_model) or bool(self.endpoint) == bool(self.model):
            raise ValueError(
                f"model = {self.model!r}, endpoint = {self.endpoint!r}, endpoint_model = {self.endpoint_model!r}: "
                "give a model, or else endpoint and endpoint_model"
            )
        if not self.problems_file and self.n_problems > 164:
            raise ValueError(f"n_problems = {self.n_problems}: HumanEval has 164 problems, so choose 1 to 164")
        if len(set(self.arms)) != len(self.arms):
            raise ValueError(f"arms = {self.arms!r}: an arm stands twice")
        if any(not 0 <= share < 1 for share in self.noise):
            raise ValueError(f"noise = {self.noise!r}: shares lie in [0, 1)")
        if self.source == "live" and not self.allow_code_execution:
            raise ValueError(
                "source = 'live' needs allow_code_execution: without running a program nothing is known of it"
            )
        return self
