"""The scoreboard recomputes every committed ledger, and objects to what does not follow from the samples."""

import json
from pathlib import Path

import pandas as pd
import pytest

from papercore.runner import report

README = Path(__file__).parents[2] / "README.md"


def edit(path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_the_scoreboard_counts_verdicts_and_has_no_times_of_day(tree):
    (tree.root / "README.md").write_text(f"before\n{report._BEGIN}\nold\n{report._END}\nafter\n")
    assert "claims judged: 1" in tree("report")
    board = json.loads((tree.root / "figures" / "scoreboard.json").read_text())
    rows = {paper["slug"]: paper for paper in board["papers"]}
    assert rows["demo"]["results"]["cpu"]["verdicts"]["supported"] == 1
    assert rows["demo"]["results"]["cpu"]["stale"] is rows["demo"]["results"]["cpu"]["overrun"] is False
    assert (rows["other"]["room"], rows["other"]["results"], rows["saif"]["room"]) == (True, {}, False)
    assert [paper["number"] for paper in board["papers"]] == list(range(1, 13))
    text = (tree.root / "figures" / "scoreboard.md").read_text()
    assert "| 11 | demo | cpu | 1 |" in text
    assert "Claims judged: 1. Families are not corrected across claims." in text
    assert (tree.root / "figures" / "scoreboard.png").read_bytes()[:4] == b"\x89PNG"
    page = (tree.root / "README.md").read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "[demo](notebooks/11_demo.ipynb) | cpu: 1 supported |" in page
    assert "old" not in page
    first = {path.name: path.read_bytes() for path in (tree.root / "figures").glob("scoreboard.*")}
    tree("report")
    assert {path.name: path.read_bytes() for path in (tree.root / "figures").glob("scoreboard.*")} == first


def test_an_old_key_shows_as_stale_and_an_overrun_is_shown(tree):
    with (tree.root / "papercore/papers/demo/data.py").open("a") as file:
        file.write("# changed\n")
    edit(tree.promoted / "ledger.json", lambda ledger: ledger["provenance"].update(seconds=61.0))
    tree("report")
    assert "61 / 60 | overrun, stale |" in (tree.root / "figures" / "scoreboard.md").read_text()
    assert "cpu: 1 supported (stale)" in tree("list")


def test_one_altered_sample_is_objected_to(tree):
    path = tree.promoted / "samples.parquet"
    samples = pd.read_parquet(path)
    samples.loc[samples.index[0], "value"] += 1.0
    samples.to_parquet(path, index=False)
    said = tree("report", code=1)
    assert "objection: cpu: demo: samples.parquet" in said
    assert "demo C1: statistic" in said
    assert not (tree.root / "figures" / "scoreboard.md").exists()


@pytest.mark.parametrize(
    ("field", "value"), [("verdict", "contradicted"), ("outcome", "violated"), ("statistic", 0.9), ("n", 7)]
)
def test_an_edited_ledger_is_objected_to_by_claim_and_field(tree, field, value):
    edit(tree.promoted / "ledger.json", lambda ledger: ledger["claims"][0].update({field: value}))
    assert f"demo C1: {field}" in tree("report", code=1)


def test_recompute_rewrites_a_ledger_and_prints_verdicts_before_and_after(tree):
    path, whole = tree.promoted / "ledger.json", (tree.promoted / "ledger.json").read_text()
    edit(path, lambda ledger: ledger["claims"][0].update(verdict="unresolved"))
    said = tree("report", "--recompute", "demo")
    assert "C1     unresolved  supported" in said
    assert json.loads(path.read_text()) == json.loads(whole)
    assert "--recompute only" in tree("report", "demo", code=2)


def test_the_table_in_readme_is_up_to_date():
    text = README.read_text(encoding="utf-8")
    assert report._BEGIN in text
    assert report._END in text
    assert report.readme(text, report.board()) == text, "run `papercore report`"


def test_the_committed_ledgers_follow_from_their_samples():
    assert report.objections() == []
