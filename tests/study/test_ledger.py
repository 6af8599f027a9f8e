"""The ledger recomputes itself, and whoever edits it is found out."""

import json
import shutil

import faults
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from papercore.study import ledger
from papercore.study.claims import ClaimsError
from papercore.study.statistics import SampleError
from papercore.study.study import Study


def arm(centre, n=40, seeds=3):
    rng = np.random.default_rng(n)
    tables = []
    for seed in range(seeds):
        value = centre + 0.05 * rng.normal(size=n)
        tables.append(pd.DataFrame({"unit": np.arange(n), "seed": seed, "value": value}))
    return pd.concat(tables, ignore_index=True)


@pytest.fixture
def study(slug, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERCORE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("PAPERCORE_KEY", raising=False)
    s = Study.open(slug, parameters={"profile": "cpu"})
    s.claim("C1", one=arm(0.9), two=arm(0.85), control=arm(0.5))
    s.claim("C4", one=arm(0.7), two=arm(0.9), control=arm(0.5))
    s.untested("C3", "asset unavailable")
    s.ledger()
    return s


def rows(folder):
    return {r["id"]: r for r in ledger.read(folder)["claims"]}


def test_a_ledger_has_a_row_for_every_claim(study):
    found = rows(study.folder)
    assert list(found) == ["C1", "C2", "C3", "C4", "P1"]
    assert found["C1"]["verdict"] == "supported" and found["C4"]["verdict"] == "contradicted"
    assert (found["C3"]["verdict"], found["C3"]["reason"]) == ("untested", "asset unavailable")
    assert (found["C2"]["verdict"], found["C2"]["reason"]) == ("untested", "not reached")
    assert (found["P1"]["verdict"], found["P1"]["reason"]) == ("untested", "not at this profile")


def test_an_honest_ledger_has_no_differences(study):
    assert ledger.recompute(study.folder) == []


def test_one_altered_sample_is_found_even_with_a_forged_hash(study):
    path = study.folder / "samples.parquet"
    table = pd.read_parquet(path)
    at = table.index[(table["claim"] == "C1") & (table["arm"] == "two")][0]
    table.loc[at, "value"] += 0.5
    table.to_parquet(path, index=False)
    said = ledger.recompute(study.folder)
    assert any("sha256" in line for line in said) and any("C1: statistic" in line for line in said)
    forged = json.loads((study.folder / "ledger.json").read_text())
    forged["samples_sha256"] = ledger.sha256(path)
    (study.folder / "ledger.json").write_text(json.dumps(forged))
    said = ledger.recompute(study.folder)
    assert said and all("C1" in line for line in said)


@pytest.mark.parametrize(
    ("claim", "field", "value"),
    [("C4", "verdict", "supported"), ("C4", "outcome", "satisfied"), ("C1", "statistic", 0.06), ("C1", "says", "else")],
)
def test_an_edited_row_is_found(study, claim, field, value):
    path = study.folder / "ledger.json"
    edited = json.loads(path.read_text())
    next(r for r in edited["claims"] if r["id"] == claim)[field] = value
    path.write_text(json.dumps(edited))
    assert [line for line in ledger.recompute(study.folder) if f"{claim}: {field}" in line]


def test_an_edited_reason_or_profile_is_found(study):
    path = study.folder / "ledger.json"
    edited = json.loads(path.read_text())
    next(r for r in edited["claims"] if r["id"] == "C2")["reason"] = "asset unavailable"
    path.write_text(json.dumps(edited))
    assert [line for line in ledger.recompute(study.folder) if "C2: reason" in line]
    edited["profile"] = "paper"
    path.write_text(json.dumps(edited))
    assert [line for line in ledger.recompute(study.folder) if "profile paper is not that" in line]


def test_samples_of_other_arms_than_claims_yaml_names_are_a_sentence(study):
    path = study.folder / "samples.parquet"
    table = pd.read_parquet(path)
    table.loc[table["arm"] == "two", "arm"] = "too"
    table.to_parquet(path, index=False)
    assert ledger.recompute(study.folder) == ["C1: claims.yaml names the arm 'two', which its samples lack"]


def test_rounding_below_1e_6_is_no_difference(study):
    path = study.folder / "ledger.json"
    edited = json.loads(path.read_text())
    row = next(r for r in edited["claims"] if r["id"] == "C1")
    row["statistic"] *= 1 + 1e-8
    path.write_text(json.dumps(edited))
    assert ledger.recompute(study.folder) == []
    row["statistic"] *= 1 + 1e-4
    path.write_text(json.dumps(edited))
    assert ledger.recompute(study.folder)


def test_rewrite_says_the_verdict_before_and_after(study):
    path = study.folder / "ledger.json"
    edited = json.loads(path.read_text())
    next(r for r in edited["claims"] if r["id"] == "C4")["verdict"] = "supported"
    path.write_text(json.dumps(edited))
    assert ("C4", "supported", "contradicted") in ledger.rewrite(study.folder)
    assert ledger.recompute(study.folder) == []


def test_a_ledger_that_does_not_fit_the_schema_is_refused(study):
    path = study.folder / "ledger.json"
    path.write_text(path.read_text().replace('"supported"', '"proved"'))
    with pytest.raises(ledger.LedgerError, match="proved"):
        ledger.read(study.folder)
    assert ledger.recompute(study.folder)


def test_unforeseen_voids_and_unreached_claims_are_named(study):
    study.claim("C4", one=arm(0.9), two=arm(0.7), control=arm(0.9))
    study.ledger()
    said = ledger.unforeseen(ledger.read(study.folder), study.claims)
    assert any("C4 is void" in line for line in said) and any("C2 was never handed over" in line for line in said)
    assert not any(" P1 " in line for line in said)


def test_the_checked_cell_and_the_table_show_the_rows(study, capsys):
    study.check()
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("C4"))
    assert line.split() == ["C4", "40", f"{rows(study.folder)['C4']['statistic']:.4g}", "violated", "violated"]
    html = study.ledger().data
    assert "contradicted" in html and "asset unavailable" in html and "0.872" in html


def test_the_same_samples_give_the_same_bytes(study):
    first = (study.folder / "samples.parquet").read_bytes()
    study.ledger()
    assert (study.folder / "samples.parquet").read_bytes() == first


@pytest.mark.parametrize(
    ("claim", "arms", "says"),
    [
        ("C9", {}, "not in claims.yaml"),
        ("C1", {"one": arm(1), "control": arm(1)}, "takes the arms one, two"),
        ("C1", {"one": arm(1), "two": arm(1)}, "needs control="),
        ("C3", {"one": [1.0, 2.0], "control": [1.0, 2.0]}, "has no control"),
        ("C1", {"one": arm(1), "two": arm(1, n=30), "control": arm(1)}, "share 90"),
        ("C1", {"one": arm(float("nan")), "two": arm(1), "control": arm(1)}, "not finite"),
        ("C1", {"one": [1.0, 2.0], "two": [1.0, 2.0], "control": [1.0, 2.0]}, "needs `seed`"),
        ("C2", {x: arm(1) for x in ("a", "b", "c", "control")}, "dict with the arms"),
        ("C1", {"one": pd.concat([arm(1), arm(1)]), "two": arm(1), "control": arm(1)}, "two samples for"),
        ("C3", {"one": np.ones((2, 2))}, "one value a unit"),
        ("C3", {"one": {"value": [1.0, 2.0], "colour": ["r", "g"]}}, "unknown column 'colour'"),
    ],
)
def test_wrong_samples_get_one_sentence(study, claim, arms, says):
    with pytest.raises((ClaimsError, SampleError), match=says) as err:
        study.claim(claim, **arms)
    assert "\n" not in str(err.value)


@faults.linux
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_ledger_cut_off_at_any_step_is_the_old_one_the_new_one_or_found_out(study, tmp_path, fault):
    old = tmp_path / "old"
    shutil.copytree(study.folder, old)
    study.claim("C4", one=arm(0.9), two=arm(0.7), control=arm(0.5))
    whole = 0
    for told in faults.steps(study.write, study.folder, fault):
        assert told["error"] is None or told["error"][0] == "OSError", told
        if ledger.recompute(study.folder) == []:
            pair = [(study.folder / name).read_bytes() for name in ("ledger.json", "samples.parquet")]
            same = pair == [(old / name).read_bytes() for name in ("ledger.json", "samples.parquet")]
            assert rows(study.folder)["C4"]["verdict"] == ("contradicted" if same else "supported"), told
            whole += 1
        shutil.rmtree(study.folder)
        shutil.copytree(old, study.folder)
    assert whole


@faults.linux
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_figure_cut_off_at_any_step_is_the_old_one_or_the_new_one(study, fault):
    plt.switch_backend("agg")
    names = ("line.png", "line.csv")

    def draw(values) -> None:
        figure, ax = plt.subplots(figsize=(1, 1))
        ax.plot(values)
        study.figure("line", figure, pd.DataFrame({"y": values}))

    draw([1, 2])
    old = [(study.folder / name).read_bytes() for name in names]
    draw([2, 1])
    new = [(study.folder / name).read_bytes() for name in names]
    for name, data in zip(names, old, strict=True):
        (study.folder / name).write_bytes(data)
    for told in faults.steps(lambda: draw([2, 1]), study.folder, fault):
        for name, one, other in zip(names, old, new, strict=True):
            assert (study.folder / name).read_bytes() in (one, other), told
            (study.folder / name).write_bytes(one)
    assert told["step"] > 3


@faults.linux
def test_a_ledger_for_which_there_is_no_room_leaves_the_old_one(study):
    old = {path.name: path.read_bytes() for path in study.folder.iterdir()}
    study.claim("C4", one=arm(0.9), two=arm(0.7), control=arm(0.5))
    for told in faults.rooms(study.write, by=1500):
        assert told["error"][0] == "OSError", told
        now = {path.name: path.read_bytes() for path in study.folder.iterdir() if path.suffix != ".part"}
        # The samples, which come first, may be new; then the old ledger does not fit them, and says so.
        assert now == old or ledger.recompute(study.folder), told
        for name, data in old.items():
            (study.folder / name).write_bytes(data)
    assert told["step"] >= 4500


def test_a_warning_stands_in_the_ledger_once_and_above_the_readers_table(study):
    assert "warnings" not in ledger.read(study.folder)
    for _ in range(2):
        study.warn("code <ran> unguarded")
    assert "<b>Warning:</b> code &lt;ran&gt; unguarded" in study.ledger().data
    assert ledger.read(study.folder)["warnings"] == ["code <ran> unguarded"]
    assert ledger.recompute(study.folder) == []
