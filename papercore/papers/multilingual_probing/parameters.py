"""The parameters of notebooks/02_multilingual_probing.ipynb: meaning, unit, range."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from papercore.papers.multilingual_probing.languages import LANGUAGES, DataError, check
from papercore.study.parameters import BaseParameters, ModelName, UserFile

FEWEST = 4  # languages of a group
ALL = [code for code, spec in LANGUAGES.items() if not spec.refused]


class Parameters(BaseParameters):
    """What the notebook can be asked; the defaults are the cpu profile."""

    model: ModelName = Field("gemma-3-270m", min_length=1, description="catalogued model, hub id or folder")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number format of the models")
    more_models: list[ModelName] = Field([], description="further models, for claim C6; none: untested")
    other_tokenizer: ModelName = Field(
        "smollm2-135m-instruct", min_length=1, description="model whose tokenizer is compared"
    )
    languages: list[str] = Field(ALL, description=f"codes among {', '.join(ALL)}")
    cities: int = Field(100, ge=20, description="cities, each in one true and one false statement")
    cities_csv: list[UserFile] = Field([], description="own statements, one CSV a language; none: CLDR's names")
    form: Literal["sentence", "label", "neutral"] = Field("sentence", description="form of the statements")
    site: Literal["resid_post", "mlp_in", "post_attention_layernorm"] = Field(
        "resid_post", description="what is read of a block"
    )
    layers: list[Annotated[int, Field(ge=0)]] = Field(
        [*range(0, 19, 2)], min_length=3, description="layers of the sweep; the last one for the paper's own probe"
    )
    layer: int = Field(10, ge=1, description="layer of directions, transfer and forms; one of layers")
    folds: int = Field(5, ge=2, description="folds of countries")
    fitting_seeds: int = Field(3, ge=1, description="draws of false statements and folds")
    watched: str = Field("kn", description="the low-resource language whose splits are compared in a figure")
    swaps: int = Field(20, ge=2, description="draws of swapped labels behind that figure's bands")

    @model_validator(mode="after")
    def _fits(self):
        try:
            check([*self.languages, self.watched])
        except DataError as error:
            raise ValueError(str(error)) from None
        if len(set(self.languages)) < len(self.languages):
            raise ValueError(f"languages = {self.languages} names one twice")
        spoken = [PurePath(path).stem for path in self.cities_csv] or self.languages
        for group in ("high", "low"):
            count = sum(code in LANGUAGES and LANGUAGES[code].group == group for code in spoken)
            if count < FEWEST:
                raise ValueError(
                    f"{count} {group}-resource languages among {spoken}: take {FEWEST} of each group at least, with "
                    "fewer no permutation test over languages can decide"
                )
        if self.watched not in spoken:
            raise ValueError(f"watched = {self.watched!r} must be one of the languages, {', '.join(spoken)}")
        if self.layer not in self.layers:
            raise ValueError(f"layer = {self.layer} must be one of layers = {self.layers}")
        if len(set(self.layers)) < len(self.layers) or sorted(self.layers) != self.layers:
            raise ValueError(f"layers = {self.layers} must rise without repeats")
        if self.site != "resid_post" and self.layers[0] == 0:
            raise ValueError(f"site = {self.site!r} has no layer 0; let layers begin at 1")
        return self
