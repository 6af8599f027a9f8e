"""The notebook's experiments: what each hands to its claims and figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import spearmanr

from papercore.papers.exfoliation_bo import benchmark, importance, log, optics, optimise, simulator
from papercore.papers.exfoliation_bo.campaign import Campaign
from papercore.papers.exfoliation_bo.detector import Analysis, Detector, DetectorError
from papercore.papers.exfoliation_bo.instrument import SimulatedExfoliator, read_image
from papercore.papers.exfoliation_bo.space import Space

LEAST = 50.0  # um2: a monolayer that D_recall counts
KINDS = ("best", "much residue", "thick flakes")


def contrasts() -> pd.DataFrame:
    """The nine published contrasts beside the model's: layers, channel, measured, model; oxide and RMS in attrs."""
    oxide, model, error = optics.published()
    rows = [
        (n + 1, channel, optics.MEASURED[n, c], model[n, c])
        for n in range(3)
        for c, channel in enumerate(optics.CHANNELS)
    ]
    table = pd.DataFrame(rows, columns=["layers", "channel", "measured", "model"])
    table.attrs |= {"oxide": oxide, "rms": error}
    return table


def camera(p) -> simulator.Optics:
    """The microscope of the parameters."""
    return simulator.Optics(pixels=p.pixels, oxide=p.oxide)


def instrument(p, seed: int | None = None, **changes) -> SimulatedExfoliator:
    """The simulated instrument of the parameters."""
    settings = {"fields": p.fields, "camera": camera(p), **changes}
    return SimulatedExfoliator(p.difficulty, p.seed if seed is None else seed, **settings)


def conditions(at: simulator.Landscape) -> dict[str, int]:
    """Rows that are hard on a detector in three ways: the best; of the hundred with most residue the one that yields
    most; of those with at least half the most flakes, the one with the smallest share of monolayers.
    """
    residue = np.argsort(-at.residue, kind="stable")[:100]
    many = np.flatnonzero(at.flakes * at.area >= 0.5 * (at.flakes * at.area).max())
    return dict(
        zip(
            KINDS,
            (int(at.mean.argmax()), int(residue[at.mean[residue].argmax()]), int(many[at.single[many].argmin()])),
            strict=True,
        )
    )


def check_detector(p) -> pd.DataFrame:
    """Simulated fields, the truth known: a row each of kind, unit, detector (ours, nearest class, wrong oxide), truth
    and found (um2), right, called (pixels), and there, right_large: pixels of monolayers of LEAST um2 and more.
    """
    device, cam = instrument(p, fields=1), camera(p)
    reference = device.prepare()
    detectors = {
        "ours": Detector(cam.pixel, reference),
        "nearest class": Detector(cam.pixel, reference, strict=False),
        "wrong oxide": Detector(cam.pixel, reference, oxide=min(p.oxide + 30, optics.OXIDES[1])),
    }
    rows = []
    for kind, row in conditions(device.hidden).items():
        for number in range(p.checked_fields):
            image, exposure, seen = device.shot(row, 1000 + number, 0)
            truth, large = simulator.mask(seen, cam), simulator.mask(seen, cam, LEAST)
            area = sum(flake.area for flake in seen if flake.layers == 1)
            for name, detector in detectors.items():
                found = detector([image], [exposure])
                called = monolayers(found, truth.shape)
                rows.append(
                    (
                        kind,
                        f"{kind}/{number}",
                        name,
                        area,
                        found.area,
                        int((called & truth).sum()),
                        int(called.sum()),
                        int(large.sum()),
                        int((called & large).sum()),
                    )
                )
    columns = ["kind", "unit", "detector", "truth", "found", "right", "called", "there", "right_large"]
    return pd.DataFrame(rows, columns=columns)


def monolayers(found: Analysis, shape: tuple[int, int], number: int = 0) -> np.ndarray:
    """Pixels of image `number` that count as monolayer, bool."""
    called = np.zeros(shape, dtype=bool)
    for flake in found.flakes[number]:
        if flake.layers == 1 and not flake.rejected:
            called[flake.pixels] = True
    return called


def arm(table: pd.DataFrame, detector: str, column: str) -> pd.DataFrame:
    """One column of `check_detector` as a claim's arm: unit, value."""
    rows = table[table["detector"] == detector]
    return rows.assign(value=rows[column])[["unit", "value"]]


def precision(table: pd.DataFrame, detector: str) -> pd.DataFrame:
    """Share of the pixels called monolayer that are, for each field with any: unit, value."""
    rows = table[(table["detector"] == detector) & (table["called"] > 0)]
    return rows.assign(value=rows["right"] / rows["called"])[["unit", "value"]]


def repeats(p) -> pd.DataFrame:
    """Areas of repeats of the best condition, one field and sixteen: fields, repeat, area, relative (to the mean of all
    repeats) and far, 1 where it is under half or over twice that.
    """
    parts = []
    for fields in (1, 16):
        device = instrument(p, fields=fields)
        row, detector = int(device.hidden.mean.argmax()), Detector(device.camera.pixel, device.prepare())
        shots = [[device.shot(row, 2000 + i, n) for n in range(fields)] for i in range(p.repeats)]
        areas = np.array([detector([s[0] for s in one], [s[1] for s in one]).area for one in shots])
        relative = areas / areas.mean()
        parts.append(
            pd.DataFrame(
                {
                    "fields": fields,
                    "repeat": np.arange(p.repeats),
                    "area": areas,
                    "relative": relative,
                    "far": ((relative < 0.5) | (relative > 2)).astype(float),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


class _Power(BaseException):
    """Ends a campaign in the middle, as a power cut does: nothing catches it."""


def killed_and_resumed(p, folder: Path, each=None) -> dict[str, Campaign]:
    """Three campaigns of plain LogEI: `whole`; `resumed`, killed when the images of a trial in its middle were there,
    and taken up from its log by new objects; `other`, with another seed.
    """
    found = {}
    for name, seed in (("whole", p.seed), ("other", p.seed + 1), ("resumed", p.seed)):
        settings = {"arm": "logei", "seed": seed, "budget": p.budget, "initial": p.initial}
        device, detector = _equipment(p, seed)
        campaign = Campaign.open(folder / name, device, **settings)
        if name == "resumed":

            def cut(now: Campaign, event: str) -> None:
                if event == "measured" and len(now.state.told) == (p.budget * 17) // 30:
                    raise _Power

            try:
                campaign.run(device, detector, cut)
            except _Power:
                device, detector = _equipment(p, seed)
                campaign = Campaign.open(folder / name, device, **settings)
        campaign.run(device, detector, each if name == "resumed" else None)
        found[name] = campaign
    return found


def _equipment(p, seed: int) -> tuple[SimulatedExfoliator, Detector]:
    device = instrument(p, seed, failures=p.failures)
    return device, Detector(device.camera.pixel, device.prepare())


def events(campaign: Campaign) -> list[dict]:
    """All events of a campaign's log."""
    return log.read(campaign.folder)


def same_events(one: list[dict], other: list[dict]) -> pd.DataFrame:
    """Event by event, whether two logs say the same, times apart: unit, value. The header is left out."""
    plain = [[{k: v for k, v in event.items() if k != "at"} for event in events_[1:]] for events_ in (one, other)]
    count = max(map(len, plain))
    same = [float(i < len(plain[0]) and i < len(plain[1]) and plain[0][i] == plain[1][i]) for i in range(count)]
    return pd.DataFrame({"unit": np.arange(count), "value": same})


def part(
    table: pd.DataFrame, p, arm_name: str, *, shuffled: bool = False, fields: int = 0, difficulty: str = ""
) -> pd.DataFrame:
    """The trials of one arm in one setting; the main one unless told otherwise."""
    return table[
        (table["arm"] == arm_name)
        & (table["shuffled"] == shuffled)
        & (table["fields"] == (fields or p.fields))
        & (table["difficulty"] == (difficulty or p.difficulty))
    ]


def value(table: pd.DataFrame, p, arm_name: str, **where) -> pd.DataFrame:
    """What an arm recommends in the end, over the best: unit (the campaign), value."""
    rows = benchmark.final(part(table, p, arm_name, **where))
    return pd.DataFrame({"unit": rows["seed"], "value": rows["recommended_value"]})


def gain(table: pd.DataFrame, p, of: str, versus: str, **where) -> pd.DataFrame:
    """`value` of one arm minus that of another, campaign by campaign: unit, value."""
    one, other = (value(table, p, name, **where).set_index("unit")["value"] for name in (of, versus))
    return (one - other).rename("value").reset_index()


def saved(table: pd.DataFrame, p, of: str, versus: str, share: float, **where) -> pd.DataFrame:
    """Trials that `versus` needs to try a condition of that share of the best, minus those of `of`: unit, value."""
    one, other = (
        benchmark.trials_to(part(table, p, name, **where), share).set_index("seed")["trials"] for name in (of, versus)
    )
    return (other - one).rename("value").rename_axis("unit").reset_index()


def by_area(table: pd.DataFrame, p, *, shuffled: bool) -> pd.DataFrame:
    """LogEI's gain over random with the largest area of the map minus with the smallest, mean over landscapes."""
    most, least = max(p.mapped_fields), min(p.mapped_fields)
    parts = []
    for difficulty in p.mapped_difficulties:
        one, other = (
            gain(table, p, "logei", "random", fields=fields, difficulty=difficulty, shuffled=shuffled).set_index("unit")
            for fields in (most, least)
        )
        parts.append(one - other)
    return (sum(parts) / len(parts)).reset_index()


def lucky(table: pd.DataFrame, p) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Area of LogEI's best trial minus one more repeat's; and the same of a trial drawn at random: unit, value."""
    trials = part(table, p, "logei")
    last = benchmark.final(trials).set_index("seed")
    best = trials.groupby("seed")["area"].max()
    drawn = trials[trials["trial"] == trials["random_trial"] + 1].set_index("seed")["area"]
    both = (best - last["again"], drawn - last["random_again"])
    return tuple(one.rename("value").rename_axis("unit").reset_index() for one in both)


def boundary(table: pd.DataFrame, p) -> pd.DataFrame:
    """The map: difficulty, fields, zeros (share of one field's zeros over conditions, and of a trial's), versus random
    of each other arm: mean gain and its 95 % half-width.
    """
    rows = []
    space = Space.of(simulator.PROTOCOL["space"])
    for difficulty in p.mapped_difficulties:
        at = simulator.landscape(space, simulator.constants(difficulty))
        for fields in p.mapped_fields:
            for name in ("logei", "sought", "tpe"):
                found = gain(table, p, name, "random", fields=fields, difficulty=difficulty)["value"]
                half = 1.96 * found.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.nan
                zeros = float((at.zeros ** (fields * camera(p).field / simulator.FIELD)).mean())
                rows.append((difficulty, fields, zeros, name, found.mean(), half))
    return pd.DataFrame(rows, columns=["difficulty", "fields", "zeros", "arm", "gain", "half"])


def regret(table: pd.DataFrame, p) -> pd.DataFrame:
    """Main setting: arm, trials, the recommended condition's shortfall from the best, mean and 95 % half-width."""
    rows = table[(table["fields"] == p.fields) & (table["difficulty"] == p.difficulty) & ~table["shuffled"]].dropna(
        subset=["recommended_value"]
    )
    found = (1 - rows["recommended_value"]).groupby([rows["arm"], rows["trial"]]).agg(["mean", "sem"]).reset_index()
    return found.rename(columns={"mean": "regret"}).assign(half=1.96 * found["sem"]).drop(columns="sem")


def summary(table: pd.DataFrame, p) -> pd.DataFrame:
    """Main setting, an arm a row: value of the recommendation with its 95 % half-width, of the luckiest condition,
    trials to 50, 80 and 90 % of the best (the budget plus one where never), repeats.
    """
    names = [name for name in table["arm"].unique() if len(part(table, p, name))]
    rows = {}
    for name in names:
        trials = part(table, p, name)
        last = benchmark.final(trials)
        rows[name] = {
            "recommended": last["recommended_value"].mean(),
            "+-": 1.96 * last["recommended_value"].sem(),
            "luckiest": last["lucky"].mean(),
            **{
                f"trials to {share:.0%}": benchmark.trials_to(trials, share)["trials"].median()
                for share in benchmark.SHARES
            },
            "repeats": (trials.groupby("seed")["row"].size() - trials.groupby("seed")["row"].nunique()).mean(),
        }
    return pd.DataFrame(rows).T.sort_values("recommended", ascending=False)


def identified(table: pd.DataFrame, p) -> pd.DataFrame:
    """Importance after each LogEI campaign of the main setting, and of a surrogate fitted to shuffled areas: seed,
    fitted (to areas, shuffled), method, knob, value; sobol, the exact total index of what the surrogate models, the log
    of 1 + mean area / scale.
    """
    parts = []
    for seed, trials in part(table, p, "logei").groupby("seed"):
        device = instrument(p, int(seed))
        mean = device.hidden.mean
        _, total = importance.sobol(optimise.target(mean, mean), device.space.shape)
        draw = np.random.default_rng([int(seed), 61])
        for fitted, order in (("areas", np.arange(len(trials))), ("shuffled", draw.permutation(len(trials)))):
            area = trials["area"].to_numpy()[order]
            found = optimise.fit(device.space, trials["row"].to_numpy(), optimise.target(area, area))
            each = importance.methods(device.space, found, draw)
            at = [device.space.names.index(knob) for knob in each["knob"]]
            parts.append(each.assign(seed=int(seed), fitted=fitted, sobol=total[at]))
    return pd.concat(parts, ignore_index=True)


def ranked(found: pd.DataFrame, method: str, fitted: str) -> pd.DataFrame:
    """Rank correlation of a method's importance with the exact total Sobol indices: unit (campaign), value. 0 where all
    parameters matter alike to the surrogate.
    """
    rows = found[(found["method"] == method) & (found["fitted"] == fitted)]
    pairs = [(seed, one["value"].round(9), one["sobol"]) for seed, one in rows.groupby("seed")]
    values = [spearmanr(value, truth).statistic if value.nunique() > 1 else 0.0 for _, value, truth in pairs]
    return pd.DataFrame({"unit": [seed for seed, _, _ in pairs], "value": values})


def audited(p, campaign: Campaign, top: int = 3, fields: int = 20) -> pd.DataFrame:
    """The conditions that a campaign's surrogate thinks best, looked at again: settings, predicted rank, what the
    detector finds in new fields and what is there, um2 a field. Only the simulator can tell the second.
    """
    device = instrument(p, campaign.config["seed"], fields=1)
    detector = Detector(device.camera.pixel, device.prepare())
    told = campaign.history
    order = optimise.fit(device.space, told.rows, optimise.target(told.area, told.thin)).mean.argsort()[::-1][:top]
    rows = []
    for rank, row in enumerate(order, start=1):
        shots = [device.shot(int(row), 3000 + i, 0) for i in range(fields)]
        found = detector([s[0] for s in shots], [s[1] for s in shots]).area
        there = np.mean([sum(f.area for f in seen if f.layers == 1) for _, _, seen in shots])
        value = device.hidden.mean[row] / device.hidden.mean.max()
        rows.append(
            {"rank": rank, **device.space.condition(int(row)), "found": found, "there": there, "of the best": value}
        )
    return pd.DataFrame(rows).set_index("rank")


def real_images(folder: str | Path, pixel: float, oxide: float) -> pd.DataFrame:
    """The detector on a reader's micrographs, pixel um a pixel: NAME.png (sRGB) beside NAME_layers.png, whose pixel
    values are numbers of layers. A row an image and detector (ours, wrong oxide): unit, detector, right, there (pixels
    of monolayers). Raises DetectorError where there is none.
    """
    truths = sorted(Path(folder).glob("*_layers.png"))
    if not truths:
        raise DetectorError(
            f"{Path(folder).name} has no NAME_layers.png: give each NAME.png one, its values the layers"
        )
    rows = []
    for path in truths:
        with Image.open(path) as opened:
            layers = np.atleast_3d(np.array(opened))[..., 0]  # of a palette, its indices
        image = linear(read_image(path.with_name(path.name.replace("_layers", ""))))
        for name, shift in (("ours", 0.0), ("wrong oxide", 30.0)):
            called = monolayers(Detector(pixel, oxide=oxide + shift)([image], [1.0]), layers.shape)
            rows.append((path.name, name, int((called & (layers == 1)).sum()), int((layers == 1).sum())))
    return pd.DataFrame(rows, columns=["unit", "detector", "right", "there"])


def linear(image: np.ndarray) -> np.ndarray:
    """An sRGB image's counts as a linear camera would give them, uint8 (IEC 61966-2-1)."""
    share = image / 255
    return np.rint(255 * np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)).astype(np.uint8)
