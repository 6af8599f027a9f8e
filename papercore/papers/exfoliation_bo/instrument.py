"""What a campaign asks of an instrument, and three of them: simulated, replayed, and any robot or person by files.

An instrument executes a condition and gives images and a status. It is never asked how good a condition is.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from papercore.papers.exfoliation_bo import optics, simulator
from papercore.papers.exfoliation_bo.space import Space

DATA = ("ok", "empty chip")  # what is data; a failure is not a zero
FAILURES = ("focus lost", "tape failure", "operator void")
CHIP_MM, HANDLING_S = 10.0, 60.0  # peeled length of a chip; loading and imaging it


class InstrumentError(RuntimeError):
    """A condition that must not be run, or a result that cannot be used."""


class Waiting(InstrumentError):
    """The result of a trial is not there yet; ask again later."""


@dataclass(frozen=True)
class Trial:
    """One execution: its number in the campaign, the settings, and how often they were executed before."""

    number: int
    condition: Mapping[str, float]
    repeat: int = 0


@dataclass(frozen=True)
class Measurement:
    """What comes back: status, images, uint8 (height, width, 3), their exposures; settings reached, s it took."""

    status: str
    images: list[np.ndarray] = field(default_factory=list, repr=False)
    exposures: list[float] = field(default_factory=list)
    reached: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self):
        if self.status not in (*DATA, *FAILURES):
            raise InstrumentError(f"status {self.status!r} is none of {', '.join((*DATA, *FAILURES))}")
        if self.status in DATA and not self.images:
            raise InstrumentError(f"a trial that is {self.status!r} has one image or more")


@dataclass(frozen=True)
class Description:
    """Name, conditions with hard limits and tolerances, fields a trial, um a pixel."""

    name: str
    space: Space
    fields: int
    pixel: float


@runtime_checkable
class Instrument(Protocol):
    """What a lab implements. `describe` and `health` touch nothing; `run` blocks until images and status are there."""

    def describe(self) -> Description:
        """What it is and what may be set."""

    def prepare(self) -> tuple[np.ndarray, float]:
        """Ready the machine; a picture of bare silicon and its exposure."""

    def run(self, trial: Trial) -> Measurement:
        """Execute one trial."""

    def abort(self) -> None:
        """Stop moving at once."""

    def health(self) -> dict[str, Any]:
        """ok (bool), and whatever else the machine says of itself."""


def allowed(trial: Trial, description: Description) -> None:
    """Raises InstrumentError where a trial's settings are incomplete or outside the hard limits."""
    knobs = {knob.name: knob for knob in description.space.knobs}
    if odd := sorted(set(trial.condition) ^ set(knobs)):
        what = "unknown to" if odd[0] in trial.condition else "missing for"
        raise InstrumentError(f"trial {trial.number}: parameter {odd[0]!r} is {what} {description.name}")
    for name, value in trial.condition.items():
        low, high = knobs[name].limits
        if not (isinstance(value, int | float) and math.isfinite(value) and low <= value <= high):
            raise InstrumentError(
                f"trial {trial.number}: {name} = {value!r} {knobs[name].unit} is outside the hard limits {low:g} to "
                f"{high:g}"
            )


def seconds(condition: Mapping[str, float]) -> float:
    """How long a trial takes, s: handling, dwell, and the peel of a chip."""
    return HANDLING_S + condition.get("dwell", 0.0) + CHIP_MM / condition.get("speed", 1.0)


class SimulatedExfoliator:
    """The simulator behind the protocol. What a condition yields depends on (seed, condition, repeat) alone, so two
    campaigns that try the same thing see the same images.

    fields: images a trial, the scanned area. failures: chance that a trial fails. dry: refuse to run.
    """

    def __init__(
        self,
        difficulty: str = "medium",
        seed: int = 0,
        *,
        fields: int = 1,
        camera: simulator.Optics | None = None,
        failures: float = 0.0,
        dry: bool = False,
        space: Space | None = None,
        vary: bool = True,
    ):
        self.space = space or Space.of(simulator.PROTOCOL["space"])
        self.difficulty, self.seed, self.fields, self.failures, self.dry = difficulty, seed, fields, failures, dry
        self.camera = camera or simulator.Optics()
        constants = simulator.constants(difficulty, seed if vary else None)
        self.hidden = simulator.landscape(self.space, constants, self.camera.field / simulator.FIELD)
        self.gains = np.exp(0.08 * np.random.default_rng([seed, 11]).standard_normal(3))
        self.trials = 0

    def describe(self) -> Description:
        return Description(f"simulated exfoliator ({self.difficulty})", self.space, self.fields, self.camera.pixel)

    def prepare(self) -> tuple[np.ndarray, float]:
        light = np.broadcast_to(optics.mirror(), (self.camera.pixels, self.camera.pixels, 3))
        exposure = self.camera.exposed / float((optics.mirror() * self.gains).max())
        draw = np.random.default_rng([self.seed, 12])
        return simulator.photograph(light, exposure * self.gains, draw, self.camera), exposure

    def run(self, trial: Trial) -> Measurement:
        allowed(trial, self.describe())
        if self.dry:
            raise InstrumentError(f"trial {trial.number} is allowed, but this is a dry run: nothing was moved")
        self.trials += 1
        row = self.space.row(trial.condition)
        draw = np.random.default_rng([self.seed, 13, row, trial.repeat, trial.number])
        took = seconds(trial.condition)
        if draw.random() < self.failures:
            return Measurement(str(draw.choice(FAILURES[:2])), seconds=took)
        reached = {
            knob.name: float(
                np.clip(trial.condition[knob.name] + knob.tolerance * draw.uniform(-0.5, 0.5), *knob.limits)
            )
            for knob in self.space.knobs
        }
        shots = [self.shot(row, trial.repeat, number) for number in range(self.fields)]
        status = "ok" if any(seen for _, _, seen in shots) else "empty chip"
        return Measurement(status, [s[0] for s in shots], [s[1] for s in shots], reached, took)

    def shot(self, row: int, repeat: int, number: int) -> tuple[np.ndarray, float, list[simulator.Flake]]:
        """Field `number` of a condition's repeat: image, exposure, and the flakes on it, which nobody is told."""
        draw = np.random.default_rng([self.seed, 14, row, repeat, number])
        seen = simulator.flakes(self.hidden, row, draw, self.camera)
        blobs = int(draw.poisson(self.hidden.residue[row]))
        return (*simulator.render(seen, blobs, self.gains, draw, self.camera), seen)

    def abort(self) -> None:
        self.dry = True

    def health(self) -> dict[str, Any]:
        return {"ok": not self.dry, "trials": self.trials}


class ReplayInstrument:
    """Gives again what a campaign recorded in `folder`; a condition that it never ran is refused."""

    def __init__(self, folder: str | os.PathLike):
        from papercore.papers.exfoliation_bo import log

        self.events = log.read(Path(folder))
        self.folder, about = Path(folder), self.events[0]
        self.about = Description(
            f"replay of {about['instrument']}", Space.of(about["config"]["space"]), about["fields"], about["pixel"]
        )

    def describe(self) -> Description:
        return self.about

    def prepare(self) -> tuple[np.ndarray, float]:
        from papercore.papers.exfoliation_bo import log

        images, exposures = log.images(self.folder, "reference")
        return images[0], exposures[0]

    def run(self, trial: Trial) -> Measurement:
        from papercore.papers.exfoliation_bo import log

        wanted = self.about.space.row(trial.condition), trial.repeat
        proposed = {e["trial"]: (e["row"], e["repeat"]) for e in self.events if e["event"] == "proposed"}
        for event in self.events:
            if event["event"] in ("measured", "failed") and proposed[event["trial"]] == wanted:
                if event["event"] == "failed" and event["trial"] != trial.number:
                    continue
                shots = ([], []) if event["event"] == "failed" else log.images(self.folder, f"{event['trial']:03d}")
                return Measurement(event["status"], *shots, event.get("reached", {}), event.get("seconds", 0.0))
        raise InstrumentError(
            f"trial {trial.number}: the recording has no repeat {trial.repeat} of {dict(trial.condition)}"
        )

    def abort(self) -> None:
        return None

    def health(self) -> dict[str, Any]:
        return {"ok": True, "events": len(self.events)}


class FolderInstrument:
    """Any robot, or a person: writes proposals/<trial>.json, then waits for results/<trial>/ in `folder`.

    A result is a status.json, {"status": "ok", "exposures": [...], "reached": {...}}, and PNG images in the order of
    their names; reference.png with reference.json, {"exposure": ...}, lies in the folder itself. status.json comes
    last: it says that the images are whole. wait: s until `Waiting` is raised; asking again does no harm.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        space: Space,
        *,
        pixel: float,
        fields: int = 1,
        wait: float = 0.0,
        every: float = 1.0,
    ):
        if not isinstance(pixel, int | float) or not math.isfinite(pixel) or pixel <= 0:
            raise InstrumentError(f"pixel = {pixel!r}: the size of a pixel is needed, in um")
        self.folder, self.wait, self.every = Path(folder), wait, every
        self.about = Description("a folder", space, fields, pixel)
        for name in ("proposals", "results"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def describe(self) -> Description:
        return self.about

    def prepare(self) -> tuple[np.ndarray, float]:
        about = self._json(self.folder / "reference.json")
        return read_image(self.folder / "reference.png"), float(about["exposure"])

    def run(self, trial: Trial) -> Measurement:
        allowed(trial, self.about)
        name = f"{trial.number:03d}"
        proposal, result = self.folder / "proposals" / f"{name}.json", self.folder / "results" / name
        units = {knob.name: knob.unit for knob in self.about.space.knobs}
        text = {"trial": trial.number, "repeat": trial.repeat, "set": dict(trial.condition), "units": units}
        if proposal.is_file() and self._json(proposal) != text:
            raise InstrumentError(
                f"{proposal.name} proposes something else: {self.folder.name} belongs to another campaign"
            )
        if result.is_dir() and not proposal.is_file():
            raise InstrumentError(f"results/{name} is there before it was proposed: empty the folder first")
        _write(proposal, json.dumps(text, indent=1) + "\n")
        until = time.monotonic() + self.wait
        while not (result / "status.json").is_file():
            if time.monotonic() >= until:
                raise Waiting(
                    f"trial {trial.number}: {proposal.name} is proposed; results/{name}/status.json is not there"
                )
            time.sleep(self.every)
        said = self._json(result / "status.json")
        images = [read_image(path) for path in sorted(result.glob("*.png"))]
        exposures = list(map(float, said.get("exposures", [])))
        if len(exposures) != len(images):
            raise InstrumentError(
                f"results/{name} has {len(images)} images and {len(exposures)} exposures in status.json"
            )
        return Measurement(
            said.get("status", ""), images, exposures, dict(said.get("reached", {})), float(said.get("seconds", 0.0))
        )

    def _json(self, path: Path) -> dict:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Waiting(f"{path.name} is not there") from None
        except ValueError as error:
            raise InstrumentError(f"{path.name} is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise InstrumentError(f"{path.name} must be a JSON object")
        return found

    def abort(self) -> None:
        _write(self.folder / "ABORT", "stop moving\n")

    def health(self) -> dict[str, Any]:
        return {"ok": not (self.folder / "ABORT").exists(), "folder": self.folder.name}


def read_image(path: Path) -> np.ndarray:
    """An 8-bit colour image, (height, width, 3)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            return np.array(opened.convert("RGB") if opened.mode in ("RGBA", "P") else opened)
    except FileNotFoundError:
        raise Waiting(f"{path.name} is not there") from None
    except (UnidentifiedImageError, OSError) as error:
        raise InstrumentError(f"{path.name} is no image that can be read: {error}") from None


def _write(path: Path, text: str) -> None:
    """Whole or not at all: whoever watches the folder never reads half a file."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
