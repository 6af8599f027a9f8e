"""Every rule with every verdict it can reach, on samples whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from papercore.study import samples, verdicts
from papercore.study.claims import Claim

HIGH, MID, LOW = 1.0, 0.0, -1.0


def claim(rule, statistic="mean_difference", expect="vanishes", **test):
    arms = {} if "arms" in test else {"of": "a"} | ({"versus": "b"} if statistic == "mean_difference" else {})
    control = {"arm": "none", "why": "a count"} if expect is None else {"arm": "control", "expect": expect}
    return Claim.model_validate(
        {
            "id": "C1",
            "says": "x",
            "kind": "paper",
            "reported": test.pop("reported", {"unknown": "synthetic"}),
            "test": {"rule": rule, "statistic": statistic, "unit": "text", **arms, **test},
            "control": control,
        }
    )


def table(centre, spread=0.05, n=200, seed=0):
    """n samples whose mean is exactly `centre`; a wide spread makes any test near it undecided."""
    x = np.random.default_rng(seed).normal(0, spread, n)
    return pd.DataFrame({"unit": np.arange(n), "value": centre + x - x.mean()})


def judge(c, profile="cpu", **arms):
    result = verdicts.evaluate(c, samples.collect(c, arms))
    return result, verdicts.verdict(c, result, profile)


WIDE = {"spread": 20.0, "seed": 3}
SINGLE = {
    "at_least": ({"value": 0.5}, HIGH, LOW, table(0.5, **WIDE), "found_worse"),
    "at_most": ({"value": 0.5}, LOW, HIGH, table(0.5, **WIDE), "found_worse"),
    "within": (
        {"margin": 0.2, "reported": {"value": 0.0, "where": "here"}},
        MID,
        HIGH,
        table(0.0, **WIDE),
        "found_different",
    ),
    "greater": ({}, HIGH, LOW, table(0.0, **WIDE), "vanishes"),
}


@pytest.mark.parametrize("rule", SINGLE)
@pytest.mark.parametrize("verdict", ["supported", "contradicted", "unresolved", "void"])
def test_one_arm_rules_reach_every_verdict(rule, verdict):
    extra, good, bad, unsure, expect = SINGLE[rule]
    c = claim(rule, "mean", expect, **extra)
    of = {"contradicted": table(bad), "unresolved": unsure}.get(verdict, table(good))
    control = table(good, seed=1) if verdict == "void" else table(bad, seed=1)
    assert judge(c, a=of, control=control)[1][0] == verdict


@pytest.mark.parametrize("rule", ["greater", "not_worse"])
@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("verdict", ["supported", "contradicted", "unresolved", "void"])
def test_comparisons_reach_every_verdict_in_both_directions(rule, better, verdict):
    sign = 1 if better == "higher" else -1
    c = claim(rule, expect="vanishes" if rule == "greater" else "found_worse", margin=0.1, better=better)
    edge = 0.1 if rule == "greater" else -0.1
    of = {
        "supported": table(sign * HIGH),
        "void": table(sign * HIGH),
        "contradicted": table(sign * LOW),
        "unresolved": table(sign * edge, **WIDE),
    }[verdict]
    control = table(sign * (HIGH if verdict == "void" else LOW), seed=1)
    assert judge(c, a=of, b=table(MID, seed=2), control=control)[1][0] == verdict


@pytest.mark.parametrize("rule", ["ordering", "monotone"])
@pytest.mark.parametrize("verdict", ["supported", "contradicted", "unresolved", "void"])
def test_orders_reach_every_verdict(rule, verdict):
    c = claim(rule, expect="vanishes", arms=["x", "y", "z"])
    falling = {"x": table(2), "y": table(1, seed=1), "z": table(0, seed=2)}
    rising = {"x": table(0), "y": table(1, seed=1), "z": table(2, seed=2)}
    arms = {
        "contradicted": {**falling, "z": table(3, seed=2)},
        "unresolved": {**falling, "z": table(1, **WIDE)},
    }.get(verdict, falling)
    assert judge(c, **arms, control=falling if verdict == "void" else rising)[1][0] == verdict


def test_the_row_of_an_order_shows_its_smallest_step():
    c = claim("ordering", arms=["x", "y", "z"])
    arms = {"x": table(2), "y": table(1.75, seed=1), "z": table(0, seed=2)}
    result, _ = judge(c, **arms, control=arms)
    assert result.estimate.value == pytest.approx(0.25)


@pytest.mark.parametrize(("of", "verdict"), [(16.0, "supported"), (15.0, "contradicted")])
def test_equal_is_never_unresolved_by_its_own_interval(of, verdict):
    # Counts that scatter widely: the rule looks at their mean alone.
    c = claim("equal", "mean", None, value=16)
    result, (found, _) = judge(c, a=[of - 40, of + 40])
    assert found == verdict and result.estimate.lo == result.estimate.hi


@pytest.mark.parametrize(("control", "verdict"), [(16.0, "void"), (15.0, "supported")])
def test_equal_with_a_control(control, verdict):
    c = claim("equal", "mean", "found_different", value=16, tolerance=0.5)
    assert judge(c, a=[16.0, 16.0], control=[control, control])[1][0] == verdict


@pytest.mark.parametrize("of", [HIGH, LOW])
def test_control_none_is_never_void(of):
    c = claim("greater", "mean", None)
    assert judge(c, a=table(of))[1][0] in ("supported", "contradicted")


def test_an_undecided_control_leaves_found_worse_unresolved_and_vanishes_supported():
    unsure = table(0, **WIDE)
    worse = claim("not_worse", expect="found_worse", margin=0.01)
    assert judge(worse, a=table(1), b=table(0, seed=2), control=unsure)[1] == ("unresolved", "control undecided")
    vanish = claim("greater", expect="vanishes")
    assert judge(vanish, a=table(1), b=table(0, seed=2), control=unsure)[1][0] == "supported"


def test_void_replaces_only_supported():
    c = claim("greater", "mean")
    assert judge(c, a=table(LOW), control=table(HIGH))[1][0] == "contradicted"
    assert judge(c, a=table(0, **WIDE), control=table(HIGH))[1][0] == "unresolved"


def test_within_compares_with_the_tests_own_value_before_the_reported_one():
    c = claim("within", "mean", None, value=1.0, margin=0.2, reported={"value": 0.0, "where": "here"})
    assert judge(c, a=table(1))[1][0] == "supported"
    assert judge(c, a=table(0))[1][0] == "contradicted"


def seeded(centre, seeds):
    return pd.concat(table(centre, seed=s).assign(seed=s) for s in range(seeds))


@pytest.mark.parametrize("of", [HIGH, LOW])
def test_few_fitting_seeds_are_at_most_unresolved(of):
    c = claim("greater", "mean", fitted=True)
    assert judge(c, a=seeded(of, 3), control=seeded(LOW, 1))[1][0] == "unresolved"
    few, enough = (judge(c, a=seeded(of, s), control=seeded(LOW, s))[1] for s in (1, 3))
    assert few[0] == "unresolved" and "seed" in few[1]
    assert enough[0] == ("supported" if of == HIGH else "contradicted")


@pytest.mark.parametrize("of", [HIGH, LOW])
def test_smoke_withholds_the_verdict_but_not_the_outcome(of):
    c = claim("greater", "mean")
    result, verdict = judge(c, "smoke", a=table(of), control=table(of))
    assert verdict == ("untested", "smoke")
    assert result.outcome == ("satisfied" if of == HIGH else "violated") == result.control_outcome


def test_a_profile_without_verdict_says_so():
    c = claim("greater", "mean").model_copy(update={"profiles": ["paper"]})
    assert judge(c, "cpu", a=table(1), control=table(0))[1] == ("untested", "not at this profile")
