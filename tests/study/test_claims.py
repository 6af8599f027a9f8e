"""claims.yaml: every room's is valid, and a mistake in one is named by file, field and reason."""

import pytest
import yaml

from papercore.study import claims, parameters, rooms

GOOD = {
    "paper": dict.fromkeys(["arxiv", "title", "authors", "venue", "code", "licence"], "x"),
    "cost": {"cpu": {"minutes": 1, "memory_gb": 1, "disk_gb": 1}},
    "claims": [
        {
            "id": "C1",
            "says": "x",
            "kind": "paper",
            "reported": {"value": 1.0, "unit": "m", "where": "table 1"},
            "test": {"rule": "greater", "statistic": "mean", "of": "a", "unit": "text"},
            "control": {"arm": "shuffled", "expect": "vanishes"},
        }
    ],
}


def parse(**changes):
    raw = yaml.safe_load(yaml.safe_dump(GOOD))
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = raw["claims"][0]
        for name in parents:
            node = node[name]
        if value is None:
            node.pop(last)
        else:
            node[last] = value
    return claims.parse(yaml.safe_dump(raw), "papers/x/claims.yaml")


def test_the_good_one_parses():
    assert parse()["C1"].test.level == 0.95


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"test__statistic": "median"}, "unknown statistic 'median'"),
        ({"test__rule": "at_least"}, "`value` belongs to"),
        (
            {"test__rule": "within", "reported": {"unknown": "why"}, "control__expect": "found_different"},
            "within needs",
        ),
        ({"test__versus": "b"}, "drop `versus`"),
        ({"test__statistic": "mean_difference"}, "`versus` is missing"),
        ({"reported__where": None}, "needs `where`"),
        ({"reported__value": None}, "either `value`"),
        ({"control__expect": None}, "needs `expect`"),
        ({"control__expect": "found_different"}, "rule greater cannot find"),
        ({"control": {"arm": "none"}}, "needs `why`"),
        ({"test__arms": ["a", "b"]}, "takes `of`, not `arms`"),
        ({"surprise": 1}, "Extra inputs"),
        ({"id": "1C"}, "pattern"),
    ],
)
def test_a_mistake_is_named(changes, says):
    with pytest.raises(claims.ClaimsError, match=says) as err:
        parse(**changes)
    assert str(err.value).startswith("papers/x/claims.yaml: claims.0")


def test_not_yaml():
    with pytest.raises(claims.ClaimsError, match="is not YAML"):
        claims.parse("a: [1", "papers/x/claims.yaml")


def test_a_papers_table_becomes_a_frame_and_a_short_row_is_named():
    cosines = {"where": "figure 3", "columns": ["EN", "DE"], "rows": {"EN": [1.0, 0.5], "DE": [0.5, 1.0]}}
    frame = (
        claims.parse(yaml.safe_dump({**GOOD, "tables": {"cosines": cosines}}, sort_keys=False), "x")
        .tables["cosines"]
        .frame()
    )
    assert frame.loc["EN", "DE"] == 0.5 and list(frame.index) == list(frame.columns) == ["EN", "DE"]
    cosines["rows"]["DE"] = [0.5]
    with pytest.raises(claims.ClaimsError, match="row DE has 1 values for 2 columns"):
        claims.parse(yaml.safe_dump({**GOOD, "tables": {"cosines": cosines}}, sort_keys=False), "x")


@pytest.mark.parametrize("slug", rooms.slugs())
def test_every_rooms_claims_are_valid_and_name_known_assets(slug):
    from papercore.assets import catalogue

    found = rooms.claims(slug)
    for profile in ("smoke", "cpu"):
        assert set(found.cost[profile].models) <= set(catalogue())


@pytest.mark.parametrize("slug", rooms.slugs())
def test_a_cost_names_the_models_that_its_profile_loads(slug):
    from papercore.assets import catalogue

    for profile, cost in rooms.claims(slug).cost.items():
        declared = {name.partition(" (")[0] for name in cost.models}
        fixed = {name for name, asset in catalogue().items() if asset.kind != "language_model"}
        values = parameters.resolve(slug, profile)
        loaded = {name for _, name in parameters.named(values, "model")}
        if (sae := getattr(values, "sae", "")).count("/") > 1:  # of a hub repository: owner/name/folder
            loaded.add("/".join(sae.split("/")[:2]))
        assert declared - fixed == loaded, profile


def test_the_card_has_a_column_for_a_gpu_where_a_profile_needs_one(monkeypatch):
    from papercore.study import render

    def heads(**cost):
        made = yaml.safe_load(yaml.safe_dump(GOOD))
        made["cost"]["paper"] = {"minutes": 1, "memory_gb": 1, "disk_gb": 1} | cost
        monkeypatch.setattr(rooms, "claims", lambda slug: claims.parse(yaml.safe_dump(made), "x"))
        rows = [line for line in render.card("x").data.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) == 1
        return rows

    assert "GPU" not in heads()[0]
    head, _, cpu, paper = heads(gpu_gb=48)
    assert "| GPU |" in head and "| – |" in cpu and "| 48 GB |" in paper
    with pytest.raises(claims.ClaimsError, match=r"cost\.paper\.gpu_gb"):
        heads(gpu_gb=0)


def test_the_card_of_a_room_that_fetches_nothing_says_so(monkeypatch):
    from papercore.study import render

    made = yaml.safe_load(yaml.safe_dump(GOOD))
    made["cost"] = {"cpu": {"minutes": 1, "memory_gb": 1, "disk_gb": 1}}
    monkeypatch.setattr(rooms, "claims", lambda slug: claims.parse(yaml.safe_dump(made), "x"))
    assert render.card("x").data.splitlines()[-1] == "| cpu | 1 | 1 GB | none | 1 GB | none |"
    made["cost"]["cpu"]["note"] = "optics only"
    assert render.card("x").data.splitlines()[-1].endswith("| none | 1 GB | optics only |")
