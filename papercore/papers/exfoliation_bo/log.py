"""The campaign's log: one JSON object a line, appended and flushed, images beside it. State is its replay."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np

NAME = "campaign.jsonl"
EVENTS = (
    "campaign_started",
    "proposed",
    "started",
    "measured",
    "failed",
    "analysed",
    "told",
    "voided",
    "asked",
    "finished",
)
# Which event a trial's event may follow.
AFTER = {
    "started": {"proposed", "asked"},
    "measured": {"started"},
    "failed": {"started"},
    "analysed": {"measured", "told"},
    "told": {"analysed"},
    "voided": {"asked", "measured"},
    "asked": {"started"},
}


class LogError(RuntimeError):
    """A log that cannot be what happened."""


def read(folder: Path, *, mend: bool = False) -> list[dict]:
    """All events in order, checked. A last line that was cut in the middle is no event: with `mend` it is moved to
    campaign.cut and the log goes on before it. Raises LogError for any other line that is no event, and for an order of
    events that no campaign can have.
    """
    path = folder / NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise LogError(f"there is no {NAME} in {folder.name}") from None
    lines, events, good = raw.split(b"\n"), [], 0
    for number, line in enumerate(lines, start=1):
        last = number == len(lines)
        if last and not line:
            break
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or event.get("event") not in EVENTS:
                raise ValueError("not an event")
        except ValueError as error:
            if not last:
                raise LogError(f"{NAME}, line {number}: {error}; only a last line can be cut") from None
            if mend:
                with (folder / "campaign.cut").open("ab") as file:
                    file.write(line + b"\n")
                with path.open("r+b") as file:
                    file.truncate(good)
            break
        if last and mend:  # whole, but for its end
            with path.open("ab") as file:
                file.write(b"\n")
        events.append(event)
        good += len(line) + 1
    if not events:
        raise LogError(f"{NAME} in {folder.name} has no event")
    _order(events)
    return events


def cut(folder: Path) -> str:
    """What of a last line is there, if it was cut; else an empty text."""
    line = (folder / NAME).read_bytes().split(b"\n")[-1]
    try:
        json.loads(line or b"{}")
    except ValueError:
        return line.decode("utf-8", "replace")
    return ""


def _order(events: list[dict]) -> None:
    if events[0]["event"] != "campaign_started":
        raise LogError(f"{NAME} begins with {events[0]['event']!r}, not with campaign_started")
    stage: dict[int, str] = {}
    for number, event in enumerate(events[1:], start=2):
        name, trial = event["event"], event.get("trial")
        if name == "campaign_started":
            raise LogError(f"{NAME}, line {number}: a second campaign_started; a folder holds one campaign")
        if name == "finished":
            continue
        if name == "proposed":
            if trial != len(stage):
                raise LogError(f"{NAME}, line {number}: trial {trial} is proposed where trial {len(stage)} is due")
        elif trial not in stage or stage[trial] not in AFTER[name]:
            raise LogError(
                f"{NAME}, line {number}: trial {trial} is {name} after it was {stage.get(trial, 'never proposed')}"
            )
        if name == "told":
            check(event.get("area"), event.get("thin", 0.0), f"{NAME}, line {number}")
        stage[trial] = name


def check(area, thin, where: str) -> None:
    """Raises LogError where a result is none."""
    for name, value in (("area", area), ("thin", thin)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
            raise LogError(f"{where}: {name} = {value!r} must be a number of um2 from 0")


def append(folder: Path, event: str, **what) -> dict:
    """Write one event, on the disk before this returns; `at` is the only thing in it that another run would not
    repeat.
    """
    found = {"event": event, **what, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    with (folder / NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return found


def keep(folder: Path, name: str, images: list[np.ndarray], exposures: list[float]) -> str:
    """Store images of one size under images/NAME.npz, whole or not at all; their sha256."""
    place = folder / "images"
    place.mkdir(exist_ok=True)
    part = place / f".{name}.npz.part"
    with part.open("wb") as file:
        np.savez_compressed(file, images=np.stack(images), exposures=np.array(exposures, dtype=float))
    os.replace(part, place / f"{name}.npz")
    return digest(images)


def images(folder: Path, name: str) -> tuple[list[np.ndarray], list[float]]:
    """Stored images and their exposures."""
    path = folder / "images" / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return list(file["images"]), file["exposures"].tolist()
    except (OSError, KeyError, ValueError) as error:
        raise LogError(f"images/{path.name} cannot be read: {error}") from None


def digest(images: list[np.ndarray]) -> str:
    """Hex sha256 of images, in order."""
    found = hashlib.sha256()
    for image in images:
        found.update(np.ascontiguousarray(image).tobytes())
    return found.hexdigest()
