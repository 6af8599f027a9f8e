"""claims.yaml: every room's is valid, and a mistake in one is named by file, field and reason."""

import pytest
import yaml

from papercore.study import claims, rooms

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


@pytest.mark.parametrize("slug", rooms.slugs())
def test_every_rooms_claims_are_valid_and_name_known_assets(slug):
    from papercore.assets import catalogue

    found = rooms.claims(slug)
    for profile in ("smoke", "cpu"):
        assert set(found.cost[profile].models) <= set(catalogue())
