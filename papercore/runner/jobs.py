"""What is to be run: notebooks by name, with checked parameters and a key, before any kernel starts. Floor: runner."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from papercore.runner import keys
from papercore.study import parameters, rooms

PROMOTED = ("cpu", "paper")


class UsageError(ValueError):
    """The runner was asked for something that it cannot do; one sentence that says what it can."""


@dataclass(frozen=True)
class Job:
    """One notebook with the parameters of one run, and the key that they give."""

    name: str
    notebook: Path
    profile: str
    slug: str | None  # None: a notebook without a room
    parameters: dict[str, Any]
    altered: bool  # by the caller, against the profile
    inputs: dict[str, Any]

    @property
    def key(self) -> str:
        return keys.digest(self.inputs)

    @property
    def folder(self) -> Path:
        """The run folder: executed notebook, figures, samples, ledger, run.json and, last, DONE."""
        return runs() / self.key

    @property
    def executed(self) -> Path:
        return self.folder / self.notebook.name

    @property
    def budget(self) -> float | None:
        """Seconds that the run should take, or None where no parameter says."""
        return self.parameters.get("budget_seconds")

    @property
    def promotes_to(self) -> Path | None:
        """figures/<slug>/<profile>/ for an unaltered cpu or paper run, else None."""
        if self.slug is None or self.altered or self.profile not in PROMOTED:
            return None
        return checkout() / "figures" / self.slug / self.profile


def checkout() -> Path:
    """Root of the repository; raises UsageError where the package was installed without one."""
    root = rooms.checkout()
    if root is None:
        raise UsageError("this needs the repository (its notebooks are not part of the wheel): clone it and run there")
    return root


def runs() -> Path:
    """Folder of the run folders."""
    return checkout() / ".papercore" / "runs"


def notebooks() -> dict[str, Path]:
    """Every notebook NN_<name>.ipynb by name, in teaching order."""
    return {path.stem[3:]: path for path in sorted((checkout() / "notebooks").glob("[0-9][0-9]_*.ipynb"))}


def write(path: Path, text: str) -> None:
    """Write a text file in one step: the old one or the new one, never half of it."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def plan(name: str, profile: str = "cpu", overrides: Mapping[str, Any] | None = None) -> Job:
    """The job of one notebook; raises UsageError, ParameterError or RoomError, one sentence each."""
    overrides = dict(overrides or {})
    if "profile" in overrides:
        raise UsageError("the profile is chosen with --profile, not as a parameter")
    known = notebooks()
    if name not in known:
        raise UsageError(f"no notebook {name!r}; the notebooks here are {', '.join(known) or '(none)'}")
    if known[name].name.startswith("00_"):
        return Job(name, known[name], profile, None, {}, False, keys.inputs(known[name], None, {}))
    values = parameters.resolve(name, profile, overrides).model_dump(mode="json")
    altered = bool(overrides) and values != parameters.resolve(name, profile).model_dump(mode="json")
    return Job(name, known[name], profile, name, values, altered, keys.inputs(known[name], name, values))
