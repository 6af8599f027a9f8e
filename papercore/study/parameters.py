"""One schema of parameters a room, checked before a kernel starts or a model is touched. Floor: study."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from papercore.study import rooms

PROFILES = ("smoke", "cpu", "paper")
# Names that IPython puts into a notebook's globals.
_IPYTHON = {"In", "Out", "exit", "quit", "get_ipython"}


class ParameterError(ValueError):
    """A parameter is unknown or has a value that is not allowed."""


@dataclass(frozen=True)
class Names:
    """Mark of a parameter whose value names a model, or a file that the user supplies; an empty text names none."""

    kind: Literal["model", "file"]


ModelName = Annotated[str, Names("model")]
UserFile = Annotated[str, Names("file")]


class BaseParameters(BaseModel):
    """What every notebook has; rooms subclass it as `Parameters` and add their own, with the cpu values as defaults.

    Strict: a notebook uses the very value it was given, so nothing is coerced behind its back.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)

    profile: Literal["smoke", "cpu", "paper"] = Field("cpu", description="size of the run")
    budget_seconds: float = Field(360, gt=0, description="time the run should take on two cores, s")
    seed: int = Field(0, ge=0, description="seed of everything random")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto takes CUDA where there is one")


def schema(slug: str) -> type[BaseParameters]:
    """The room's `Parameters` class; imports papers/<slug>/parameters.py only."""
    rooms.room(slug)
    return importlib.import_module(f"papercore.papers.{slug}.parameters").Parameters


def check(slug: str, values: Mapping[str, Any]) -> BaseParameters:
    """Validated parameters; raises ParameterError with name, value and what is allowed."""
    model = schema(slug)
    unknown = sorted(set(values) - set(model.model_fields))
    if unknown:
        raise ParameterError(
            f"{slug} has no parameter {unknown[0]!r} (value {values[unknown[0]]!r}); "
            f"it has {', '.join(model.model_fields)}"
        )
    try:
        return model.model_validate(dict(values))
    except ValidationError as err:
        first = err.errors()[0]
        if not first["loc"]:  # a rule over several parameters, worded by the room
            raise ParameterError(f"{slug}: {first['msg'].removeprefix('Value error, ')}") from None
        name = str(first["loc"][0])
        inside = "".join(f"[{part}]" for part in first["loc"][1:])
        meaning = model.model_fields[name].description or "no description"
        reason = first["msg"].removeprefix("Value error, ")
        raise ParameterError(f"{slug}: {name}{inside} = {first['input']!r}: {reason} ({name}: {meaning})") from None


def resolve(slug: str, profile: str, overrides: Mapping[str, Any] | None = None) -> BaseParameters:
    """Defaults, then profiles/<profile>.yaml, then overrides, validated together.

    The cpu profile is the defaults themselves and has no file.
    """
    if profile not in PROFILES:
        raise ParameterError(f"no profile {profile!r}; the profiles are {', '.join(PROFILES)}")
    values: dict[str, Any] = {"profile": profile}
    if profile != "cpu":
        file = rooms.room(slug) / "profiles" / f"{profile}.yaml"
        if not file.is_file():
            raise ParameterError(f"{slug} has no {profile} profile: papers/{slug}/profiles/{profile}.yaml is missing")
        values = {**(yaml.safe_load(file.read_text(encoding="utf-8")) or {})}
        if values.get("profile") != profile:
            raise ParameterError(f"papers/{slug}/profiles/{profile}.yaml must say `profile: {profile}`")
    return check(slug, {**values, **(overrides or {})})


def named(values: BaseParameters, kind: Literal["model", "file"]) -> list[tuple[str, str]]:
    """(parameter, name) of every model, or every file, that the parameters name; lists give a pair an entry."""
    fields = type(values).model_fields.items()
    marked = [name for name, field in fields if Names(kind) in [*field.metadata, *_marks(field.annotation)]]
    return [(name, text) for name in marked for text in _texts(getattr(values, name))]


def _marks(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for inner in get_args(annotation):
        yield from _marks(inner)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def from_globals(slug: str, namespace: Mapping[str, Any]) -> BaseParameters:
    """Parameters among a notebook's globals; any other public plain value there is refused as unknown."""
    public = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in _IPYTHON and _plain(value)
    }
    return check(slug, public)


def _plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_plain(v) for v in value.values())
    if isinstance(value, list | tuple | set):
        return all(_plain(v) for v in value)
    return value is None or isinstance(value, str | int | float | bool)
