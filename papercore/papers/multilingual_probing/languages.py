"""The table of languages and sentence forms (languages.yaml); imports nothing heavy, the parameters read it too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from string import Formatter

import yaml

FORMS = ("sentence", "label", "neutral")


class DataError(ValueError):
    """Statements, names or files that this study cannot be made of."""


@dataclass(frozen=True)
class Language:
    """One row of languages.yaml: the paper's label and group (high or low resource), and the words of its forms."""

    name: str
    paper: str
    group: str
    country: str = ""
    sentence: str = ""
    order: str = ""
    refused: str = ""


TABLE = yaml.safe_load((resources.files(__package__) / "languages.yaml").read_text(encoding="utf-8"))
LANGUAGES = {code: Language(**row) for code, row in TABLE["languages"].items()}


def check(codes: Iterable[str], *, named: bool = True) -> None:
    """Refuse an unknown language with the list, and if it is to be `named` by CLDR, one that lacks names; DataError."""
    usable = [code for code, spec in LANGUAGES.items() if not spec.refused]
    for code in codes:
        if code not in LANGUAGES:
            raise DataError(f"unknown language {code!r}; choose from {', '.join(usable)}")
        if named and LANGUAGES[code].refused:
            raise DataError(f"{LANGUAGES[code].name} ({code}) is refused: {LANGUAGES[code].refused}")


def template(code: str, form: str) -> str:
    """The pattern of a form: `sentence` falls back to `label` where no sentence stands; raises DataError."""
    check([code])
    spec = LANGUAGES[code]
    if form not in FORMS:
        raise DataError(f"unknown form {form!r}; choose from {', '.join(FORMS)}")
    if form == "neutral":
        return with_slots(TABLE["neutral"])
    if form == "sentence" and spec.sentence:
        return with_slots(spec.sentence)
    return with_slots(TABLE["label"].replace("{word}", spec.country))


def with_slots(pattern: str) -> str:
    """The pattern, if it has a place for the city and one for the country, once each; raises DataError."""
    slots = sorted(name for _, name, _, _ in Formatter().parse(pattern) if name is not None)
    if slots != ["city", "country"]:
        raise DataError(f"the template {pattern!r} must have the places {{city}} and {{country}}, once each")
    return pattern
