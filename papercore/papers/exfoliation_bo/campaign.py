"""The closed loop: propose, execute, image, find, score, update. Its memory is the log alone.

`Campaign.open` starts a campaign or takes one up where its log ends; each `advance` writes one event. A proposal is a
function of seed and told results, so a resumed campaign proposes what an uninterrupted one would have.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from papercore.papers.exfoliation_bo import detector as detection
from papercore.papers.exfoliation_bo import log
from papercore.papers.exfoliation_bo.arms import ARMS, History, propose
from papercore.papers.exfoliation_bo.instrument import DATA, Instrument, Trial, Waiting, allowed
from papercore.papers.exfoliation_bo.space import Space


class CampaignError(ValueError):
    """A campaign that cannot be run as asked."""


class InDoubt(RuntimeError):
    """A trial was started and nothing is known of its end. Nobody but the lab can say: see `Campaign.resolve`."""


@dataclass
class State:
    """What the log says: trials with row, repeat, stage and results; whether the campaign is over."""

    trials: list[dict] = field(default_factory=list)
    over: str = ""

    def apply(self, event: dict) -> None:
        """Take one event of the log in."""
        name = event["event"]
        if name == "proposed":
            self.trials.append({"row": event["row"], "repeat": event["repeat"], "stage": name})
        elif name == "finished":
            self.over = event["why"]
        elif "trial" in event:
            trial = self.trials[event["trial"]]
            if (name, trial["stage"]) != ("analysed", "told"):  # what was told holds until it is told anew
                trial["stage"] = name if name != "asked" else f"asked: {event['answer']}"
                trial |= {key: event[key] for key in ("area", "thin", "status", "oxides", "sha256") if key in event}

    @property
    def told(self) -> list[dict]:
        """The trials that are data, in order."""
        return [trial for trial in self.trials if trial["stage"] == "told"]


class Campaign:
    """One campaign in one folder."""

    def __init__(self, folder: Path, config: dict, events: list[dict], note: str = ""):
        self.folder, self.config, self.note = folder, config, note
        self.space, self.state = Space.of(config["space"]), State()
        for event in events:
            self.state.apply(event)
        self._waiting: int | None = None  # the trial whose result this object has asked for and not got yet

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike,
        instrument: Instrument,
        *,
        arm: str = "logei",
        seed: int = 0,
        budget: int = 30,
        initial: int = 10,
        attempts: int | None = None,
    ) -> Campaign:
        """Start a campaign, or take up the one that `folder` holds. attempts: how many trials may be executed at most,
        failed ones included. Raises CampaignError for settings that cannot be, or that are not the folder's.
        """
        about, folder = instrument.describe(), Path(folder)
        attempts = 2 * budget if attempts is None else attempts
        if arm not in ARMS:
            raise CampaignError(f"arm = {arm!r} is none of {', '.join(ARMS)}")
        if not 1 <= initial <= budget <= attempts:
            raise CampaignError(
                f"initial = {initial}, budget = {budget}, attempts = {attempts} must not fall, from 1 on"
            )
        if ARMS[arm].repeats == "never" and budget > len(about.space):
            raise CampaignError(
                f"budget = {budget} is more than the {len(about.space)} conditions, and {arm} repeats none"
            )
        config = {
            "space": about.space.spec(),
            "arm": arm,
            "seed": int(seed),
            "budget": int(budget),
            "initial": int(initial),
            "attempts": int(attempts),
            "fields": about.fields,
        }
        key = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        if not (folder / log.NAME).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            if not instrument.health().get("ok"):
                raise CampaignError(f"{about.name} is not well: {instrument.health()}")
            picture, exposure = instrument.prepare()
            log.keep(folder, "reference", [picture], [exposure])
            versions = {
                name: version(name) for name in ("botorch", "gpytorch", "torch", "numpy", "optuna", "scikit-optimize")
            }
            begun = log.append(
                folder,
                "campaign_started",
                config=config,
                sha256=key,
                instrument=about.name,
                fields=about.fields,
                pixel=about.pixel,
                versions=versions,
            )
            return cls(folder, config, [begun])
        note, events = log.cut(folder), log.read(folder, mend=True)
        if events[0]["sha256"] != key:
            odd = [name for name in config if config[name] != events[0]["config"].get(name)]
            raise CampaignError(
                f"the log in {folder.name} belongs to a campaign with another {', '.join(odd) or 'config'}"
            )
        if note:
            note = f"{log.NAME}, line {len(events) + 1}, was cut and is no event: {note[:60]!r} lies in campaign.cut"
        return cls(folder, config, events, note)

    @property
    def doubt(self) -> int | None:
        """The trial that was in the machine when the log broke off, or None."""
        number = len(self.state.trials) - 1
        started = number >= 0 and self.state.trials[number]["stage"] == "started"
        return number if started and number != self._waiting else None

    @property
    def history(self) -> History:
        """Told results: rows of the space, monolayer and thin area, um2 a field."""
        told = self.state.told
        return History(
            np.array([t["row"] for t in told], dtype=int),
            np.array([t["area"] for t in told], dtype=float),
            np.array([t["thin"] for t in told], dtype=float),
        )

    def resolve(self, answer: str) -> None:
        """Say what became of the trial in doubt: "rerun" executes it (again), "void" gives it up."""
        if self.doubt is None:
            raise CampaignError("no trial is in doubt")
        if answer not in ("rerun", "void"):
            raise CampaignError(f"answer = {answer!r}: a trial in doubt is to be 'rerun' or 'void'")
        self._log("asked", trial=self.doubt, answer=answer)

    def advance(self, instrument: Instrument, detector: detection.Detector) -> str:
        """Do the next thing and write its event; its name, or an empty text when the campaign is over.

        Raises InDoubt where only the lab can know what to do.
        """
        if self.state.over:
            return ""
        number = len(self.state.trials) - 1
        trial = self.state.trials[-1] if self.state.trials else {"stage": "told"}
        if self.doubt is not None:
            raise InDoubt(
                f"trial {number} was started and the log ends there: look at the machine, then resolve('rerun') or "
                "resolve('void')"
            )
        if trial["stage"] in ("told", "failed", "voided"):
            return self._next()
        if trial["stage"] == "asked: void":
            return self._log("voided", trial=number, why="in doubt")
        if trial["stage"] == "started":
            return self._execute(instrument, number)
        if trial["stage"] in ("proposed", "asked: rerun"):
            allowed(self._trial(number), instrument.describe())
            self._log("started", trial=number)
            return self._execute(instrument, number)
        if trial["stage"] == "measured":
            return self._analyse(detector, number)
        return self._log("told", trial=number, area=trial["area"], thin=trial["thin"])

    def run(
        self, instrument: Instrument, detector: detection.Detector, each: Callable[[Campaign, str], None] | None = None
    ):
        """Advance until the campaign is over; `each` is called after every event. Returns the history."""
        while name := self.advance(instrument, detector):
            if each:
                each(self, name)
        return self.history

    def analyse_again(self, detector: detection.Detector) -> None:
        """New `analysed` and `told` events for every told trial, from the stored images."""
        for number, trial in enumerate(self.state.trials):
            if trial["stage"] == "told":
                self._analyse(detector, number)
                new = log.read(self.folder)[-1]
                self._log("told", trial=number, area=new["area"], thin=new["thin"])

    def _trial(self, number: int) -> Trial:
        trial = self.state.trials[number]
        return Trial(number, self.space.condition(trial["row"]), trial["repeat"])

    def _next(self) -> str:
        done, tried = len(self.state.told), len(self.state.trials)
        if done >= self.config["budget"]:
            return self._log("finished", why="budget")
        if tried >= self.config["attempts"]:
            return self._log("finished", why="attempts")
        row = propose(
            self.space,
            self.history,
            arm=self.config["arm"],
            seed=self.config["seed"],
            trial=tried,
            budget=self.config["budget"],
            initial=self.config["initial"],
        )
        repeat = sum(trial["row"] == row for trial in self.state.trials)
        return self._log("proposed", trial=tried, row=row, repeat=repeat, condition=self.space.condition(row))

    def _execute(self, instrument: Instrument, number: int) -> str:
        try:
            found = instrument.run(self._trial(number))
        except Waiting:
            self._waiting = number  # asking again does no harm
            raise
        about = {"status": found.status, "reached": found.reached, "seconds": found.seconds}
        if found.status not in DATA:
            return self._log("failed", trial=number, **about)
        sha256 = log.keep(self.folder, f"{number:03d}", found.images, found.exposures)
        return self._log("measured", trial=number, sha256=sha256, **about)

    def _analyse(self, detector: detection.Detector, number: int) -> str:
        images, exposures = log.images(self.folder, f"{number:03d}")
        if log.digest(images) != self.state.trials[number]["sha256"]:
            raise log.LogError(
                f"trial {number}: images/{number:03d}.npz holds other images than those that were measured"
            )
        try:
            found = detector(images, exposures)
        except detection.DetectorError as error:
            if self.state.trials[number]["stage"] == "told":
                raise
            return self._log("voided", trial=number, why=str(error))
        oxides = [round(value, 1) for value in found.oxides]
        return self._log(
            "analysed", trial=number, detector=detection.VERSION, area=found.area, thin=found.thin, oxides=oxides
        )

    def _log(self, event: str, **what) -> str:
        if event == "told":
            log.check(what["area"], what["thin"], f"trial {what['trial']}")
        self.state.apply(log.append(self.folder, event, **what))
        return event
