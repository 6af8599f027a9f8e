"""Known answers of the room multilingual_probing."""

import numpy as np

from papercore.papers.multilingual_probing import data


def test_the_effect_is_recovered_and_the_control_has_none():
    table = data.scores(100_000, effect=0.5, seed=0)
    assert abs((table["treated"] - table["plain"]).mean() - 0.5) < 0.01
    assert abs((table["shuffled"] - table["plain"]).mean()) < 0.01


def test_one_seed_gives_the_same_scores():
    one, two, other = (data.scores(50, 0.5, seed) for seed in (1, 1, 2))
    assert one.equals(two)
    assert not np.allclose(one["plain"], other["plain"])
