"""From samples to outcome, and from outcomes to verdict: code says it, never prose. Floor: study."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from papercore.study import samples, statistics
from papercore.study.claims import Claim, ClaimsError
from papercore.study.statistics import Estimate

SATISFIED, VIOLATED, UNDECIDED = "satisfied", "violated", "undecided"
VERDICTS = ("supported", "contradicted", "unresolved", "void", "untested")
# Below this number of fits, the variation between fits is not known well enough for a verdict.
SEEDS_NEEDED = 3


@dataclass(frozen=True)
class Result:
    """What the samples of one claim say: the test, and the same test with the control in place."""

    estimate: Estimate
    outcome: str
    control: Estimate | None
    control_outcome: str | None


def evaluate(claim: Claim, rows: pd.DataFrame) -> Result:
    """Estimates and outcomes of one claim's stored samples; raises ClaimsError or SampleError."""
    roles = samples.split(rows)
    wanted = {"arm": claim.test.arm_names, "control": claim.test.arms or [claim.control.arm]}
    if claim.control.arm == "none":
        del wanted["control"]
    for role, names in wanted.items():
        if missing := [name for name in names if name not in roles[role]]:
            raise ClaimsError(f"{claim.id}: claims.yaml names the {role} {missing[0]!r}, which its samples lack")
    found = test(claim, roles["arm"], claim.id)
    if claim.control.arm == "none":
        return Result(*found, None, None)
    replaced = (
        roles["control"] if claim.test.arms else {**roles["arm"], claim.test.of: roles["control"][claim.control.arm]}
    )
    return Result(*found, *test(claim, replaced, f"{claim.id}, control {claim.control.arm}"))


def test(claim: Claim, arms: dict[str, pd.DataFrame], where: str) -> tuple[Estimate, str]:
    """The claim's rule applied to its arms: the estimate (of several, the smallest) and the outcome."""
    spec = claim.test
    if spec.arms:
        # Bonferroni over the adjacent steps, so that all of them hold together at the claim's level.
        level = 1 - (1 - spec.level) / (len(spec.arms) - 1)
        steps = [
            _estimate("mean_difference", samples.pair(arms[a], arms[b], where), level, spec, where)
            for a, b in zip(spec.arms[:-1], spec.arms[1:], strict=True)
        ]
        outcomes = [outcome(claim, step) for step in steps]
        sign = -1 if spec.better == "lower" else 1
        worst = min(steps, key=lambda step: sign * step.value)
        if VIOLATED in outcomes:
            return worst, VIOLATED
        return worst, SATISFIED if set(outcomes) == {SATISFIED} else UNDECIDED
    table = arms[spec.of]
    if spec.statistic in statistics.TWO_ARMS:
        table = samples.pair(table, arms[spec.versus], where)
    found = _estimate(spec.statistic, table, spec.level, spec, where)
    return found, outcome(claim, found)


def _estimate(name: str, table: pd.DataFrame, level: float, spec, where: str) -> Estimate:
    return statistics.estimate(name, table, level, exact=spec.rule == "equal", where=where)


def outcome(claim: Claim, found: Estimate) -> str:
    """satisfied (all of the interval inside the rule), violated (all of it outside) or undecided."""
    spec = claim.test
    e = (
        found.flipped()
        if spec.better == "lower" and spec.rule in ("greater", "not_worse", "ordering", "monotone")
        else found
    )
    match spec.rule:
        case "at_least":
            yes, no = e.lo >= spec.value, e.hi < spec.value
        case "at_most":
            yes, no = e.hi <= spec.value, e.lo > spec.value
        case "greater" | "ordering":
            yes, no = e.lo > spec.margin, e.hi <= spec.margin
        case "not_worse" | "monotone":
            yes, no = e.lo >= -spec.margin, e.hi < -spec.margin
        case "within":
            low, high = claim.target - spec.margin, claim.target + spec.margin
            yes, no = low <= e.lo and e.hi <= high, e.hi < low or e.lo > high
        case "equal":
            yes = abs(e.value - spec.value) <= spec.tolerance
            no = not yes
    return SATISFIED if yes else VIOLATED if no else UNDECIDED


def verdict(claim: Claim, result: Result, profile: str) -> tuple[str, str]:
    """(verdict, reason) of a claim at a profile; the reason is empty where the verdict says it all."""
    if profile == "smoke":
        return "untested", "smoke"
    if profile not in claim.profiles:
        return "untested", "not at this profile"
    seeds = min(e.seeds for e in (result.estimate, result.control) if e is not None)
    if claim.test.fitted and seeds < SEEDS_NEEDED:
        return "unresolved", f"{seeds} fitting seed(s), {SEEDS_NEEDED} are needed"
    if result.outcome == VIOLATED:
        return "contradicted", ""
    if result.outcome == UNDECIDED:
        return "unresolved", "the interval crosses the rule's boundary"
    if claim.control.arm == "none":
        return "supported", ""
    if result.control_outcome == SATISFIED:
        foreseen = f" (foreseen: {claim.expect_void})" if claim.expect_void else ""
        return "void", f"the control {claim.control.arm} passes the same test{foreseen}"
    if claim.control.expect != "vanishes" and result.control_outcome == UNDECIDED:
        return "unresolved", "control undecided"
    return "supported", ""
