"""Known answers of the room gcs: closed forms, identities, counts, refusals. Findings are claims, not tests."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from papercore.papers.gcs import classify, concepts, data, experiment, steering, subspace
from papercore.probes.logistic import ProbeError
from papercore.study import rooms, samples, verdicts

LAYERS = [4, 10, 16]


@pytest.fixture(scope="module")
def texts():
    return data.split(data.movie_snippets(), 100, 30, seed=0)


@pytest.fixture(scope="module")
def reading(smollm2, texts):
    return experiment.read(smollm2, texts, LAYERS, [0])


@pytest.fixture(scope="module")
def fits(reading):
    return experiment.fit(reading, LAYERS, probes=40, subset_per_class=30)


@pytest.fixture(scope="module")
def grid():
    return data.concept_grid(2, 12, seed=0)


def toy(d=400, m=60, r=0.5, seed=0):
    """A subspace of vectors that no model made, with noise-to-signal ratio about r."""
    rng = torch.Generator().manual_seed(seed)
    probes = torch.randn(d, generator=rng, dtype=torch.double) / d**0.5
    probes = probes + torch.randn(m, d, generator=rng, dtype=torch.double) * (r / d) ** 0.5
    zero, one = torch.zeros(d, dtype=torch.double), torch.ones(d, dtype=torch.double)
    probe = subspace.Probe(probes, torch.zeros(m, dtype=torch.double), zero.expand(m, -1), one.expand(m, -1))
    return subspace.Subspace(probe, zero, one)


# --- data


def test_the_snippets_are_as_many_as_the_dossier_of_the_archive_counts():
    table = data.movie_snippets()
    assert dict(table["label"].value_counts()) == {1: 2420, 0: 2351}
    assert not table["text"].duplicated().any()
    assert table["text"].str.split().str.len().between(8, 25).all()


def test_pools_are_disjoint_where_the_texts_suffice_and_held_out_texts_are_in_none():
    table = data.movie_snippets()
    three = data.split(table, 700, 150, seed=1, shares=3)
    assert three.shares == 3 and not three.pool["text"].duplicated().any()
    assert set(three.pool["text"]).isdisjoint(three.held_out["text"])
    for i in range(3):
        assert dict(three.pool.iloc[three.share(i)]["label"].value_counts()) == {1: 700, 0: 700}
    assert dict(three.held_out["label"].value_counts()) == {1: 150, 0: 150}
    # 2,351 negatives: no three pools of 800, so one for all seeds.
    one = data.split(table, 800, 150, seed=1, shares=3)
    assert one.shares == 1 and (one.share(0) == one.share(2)).all() and len(one.pool) == 1600


def test_the_grid_has_sixteen_concepts_and_no_term_on_both_sides(grid):
    assert len(concepts.concepts(grid)) == 16 and concepts.concepts(grid)["category"].value_counts().eq(4).all()
    whole = data.concept_grid(8, 20, seed=1)
    assert len(whole) == 4 * 5 * 20 * 8
    sides = whole.groupby(["category", "concept", "term"])["test"].nunique()
    assert (sides == 1).all()
    # A term belongs to one concept of its category, or it would be positive and negative at once.
    assert (whole.groupby(["category", "term"])["concept"].nunique() == 1).all()
    for category, rows in whole.groupby("category"):
        templates = rows.apply(lambda r: r["text"].replace(r["term"], "X"), axis=1)
        assert templates.nunique() == 8, category


def test_no_term_contains_its_concepts_name():
    for row in data.concept_grid(1, 20, seed=0).itertuples():
        assert row.concept.split()[0] not in row.term.lower().replace("-", " ").split(), row.term


def test_a_bag_of_words_reads_the_word_that_tells():
    from papercore.papers.gcs.baseline import bag_of_words

    train = pd.DataFrame({"text": [f"word{i % 7} good" for i in range(40)], "label": 1})
    train = pd.concat([train, pd.DataFrame({"text": [f"word{i % 7} bad" for i in range(40)], "label": 0})])
    assert bag_of_words(train, train).mean() == 1
    unseen = pd.DataFrame({"text": ["word1 good", "word1 bad", "something good"], "label": [1, 0, 0]})
    assert list(bag_of_words(train, unseen)) == [1, 1, 0]


# --- the subspace and its closed form


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_closed_form_holds_on_real_probes(fits, k):
    for (layer, _), space in fits.items():
        drawn = space.sample(400, torch.Generator().manual_seed(layer), k)
        form = subspace.closed_form(space.spread, k, n_probes=len(space.observed))
        for name, value in subspace.measured(space, drawn).items():
            assert abs(value - form[name]) <= 0.02, (layer, k, name)


@pytest.mark.parametrize("shape", ["box", "gaussian"])
def test_the_closed_form_holds_for_vectors_without_a_model(shape):
    space = toy(d=20_000, m=80)
    drawn = space.sample(100, torch.Generator().manual_seed(1), 2, shape)
    form = subspace.closed_form(space.spread, 2, shape, n_probes=80)
    assert subspace.measured(space, drawn) == pytest.approx(form, abs=0.005)


def test_samples_have_the_variance_that_their_shape_says():
    space, rng = toy(d=50), torch.Generator().manual_seed(2)
    for shape, factor in (("box", 4 / 3), ("gaussian", 4), ("full", 4)):
        drawn = space.sample(40_000, rng, k=2, shape=shape)
        assert torch.allclose(drawn.var(0), factor * space.sigma**2, rtol=0.06), shape
        assert torch.allclose(drawn.mean(0), space.mu, atol=0.01)
    box = space.sample(1000, rng, k=2)
    assert ((box - space.mu).abs() <= 2 * space.sigma).all()


def test_full_covariance_draws_have_the_probes_covariance():
    space = toy(d=6, m=500)
    drawn = space.sample(100_000, torch.Generator().manual_seed(0), shape="full")
    expected = torch.cov(space.observed.T, correction=0)
    assert torch.allclose(torch.cov(drawn.T), expected, atol=0.02 * float(expected.diagonal().max()))


def test_pairs_of_probes_and_of_one_subset_match(reading, fits):
    pairs = experiment.pairs(fits, 16)
    assert len(pairs) == 40 * 39 / 2 and pairs["value"].max() < 1
    same = experiment.same_subset_pairs(reading, 16, pairs, 30)
    assert same[["unit", "other", "seed"]].equals(pairs[["unit", "other", "seed"]])


def test_standardised_accuracy_is_that_of_the_folded_scaler(reading, fits):
    space, x, y = fits[16, 0], reading.held_out[16], reading.held_out_y
    folded = space.observed / space.scale
    right = ((x.double() - space.mean) @ folded.T > 0) == (y > 0)[:, None]
    assert torch.equal(space.accuracy(space.observed, x, y), right.double().mean(1))


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(smollm2, texts, fits):
    again = experiment.fit(experiment.read(smollm2, texts, [10], [0, 1]), [10], probes=40, subset_per_class=30)
    assert torch.equal(again[10, 0].observed, fits[10, 0].observed)
    assert not torch.allclose(again[10, 0].observed, again[10, 1].observed)


def test_no_two_layers_or_places_share_a_stream():
    draws = [
        torch.rand(1, generator=experiment.generator(*parts)).item() for parts in ((0, 2, 4), (0, 2, 6), (0, 4, 4))
    ]
    assert len(set(draws)) == 3


def test_own_negatives_are_shared_by_no_two_concepts(grid):
    for category, rows in concepts.concepts(grid).groupby("category"):
        terms = [set(grid.loc[concepts.task(grid, c, "own") == 0, "term"]) for c in rows["concept"]]
        assert sum(map(len, terms)) == len(set.union(*terms)) == 12, category
        shared = [set(grid.loc[concepts.task(grid, c, "same_category") == 0, "term"]) for c in rows["concept"]]
        assert shared[0] == shared[1] == set.union(*terms)


def test_the_heat_map_is_the_mean_of_all_sample_cosines(grid):
    order = list(concepts.concepts(grid)["concept"])
    spaces = {(c, 0): toy(d=30, seed=i) for i, c in enumerate(order)}
    cells = concepts.heat_map(spaces, grid, 50)[0]
    rng = experiment.generator(0, 10)
    drawn = [spaces[c, 0].sample(50, rng) for c in order]
    for i, j in ((0, 0), (2, 9), (15, 3)):
        assert cells[i, j] == pytest.approx(float(subspace.unit(drawn[i]).mean(0) @ subspace.unit(drawn[j]).mean(0)))
        pairs = torch.nn.functional.cosine_similarity(drawn[i][:, None], drawn[j][None], dim=-1)
        assert cells[i, j] == pytest.approx(float(pairs.mean()))


def test_controls_of_gains_can_pass():
    """Where any vector loses on raw states, or any labels gain by averaging, the controls of A8 and A6 say so."""
    claims = rooms.claims("gcs")
    gain = pd.concat(pd.DataFrame({"unit": range(40), "seed": s, "value": 0.1 + 0.01 * s}) for s in range(3))
    gain["value"] += np.tile(np.linspace(-0.02, 0.02, 40), 3)
    for claim, arm in (("A8", "loss"), ("A17", "regained"), ("A6", "gain")):
        result = verdicts.evaluate(claims[claim], samples.collect(claims[claim], {arm: gain, "control": gain}))
        assert verdicts.verdict(claims[claim], result, "cpu")[0] == "void"


def test_gains_are_text_by_text():
    of = pd.DataFrame({"unit": [0, 1], "seed": [0, 0], "value": [1.0, 0.5]})
    over = pd.DataFrame({"unit": [1, 0], "seed": [0, 0], "value": [0.5, 0.25]})
    assert dict(zip(*classify.gain_arm(of, over)[["unit", "value"]].to_numpy().T, strict=True)) == {0: 0.75, 1: 0}


def test_observed_probes_are_tested_with_their_own_scaler(reading, fits):
    table = classify.accuracies(fits, reading, [10], samples=5)
    arm = classify.text_arm(table, 10, "observed")
    space, x, y = fits[10, 0], reading.held_out[10], reading.held_out_y
    z = (x.double()[None] - space.probes.mean[:, None]) / space.probes.scale[:, None]
    right = ((z * space.observed[:, None]).sum(-1) > 0) == (y > 0)
    assert np.allclose(arm["value"], right.double().mean(0))


def test_rise_and_change_are_differences_of_the_observed_curve():
    rows = [(i, s, 1.0, "box", "observed", i / 10 + s, 0.0) for i in range(1, 8) for s in (0, 1, 2)]
    table = pd.DataFrame(rows, columns=["layer", "seed", "k", "shape", "curve", "cosine", "predicted"])
    rise, change = experiment.rise_arm(table), experiment.change_arm(table)
    assert np.allclose(rise["value"], 0.4) and len(rise) == 9
    assert sorted(change.loc[change["unit"] == 1, "value"].round(6)) == [1, 1, 2]
    shifted = table.assign(cosine=table["cosine"] - 0.25)
    assert np.allclose(experiment.change_arm(table, shifted)["value"], 0.25)


def test_the_bag_of_words_stands_beside_every_probe_accuracy(reading, fits, texts, grid):
    import matplotlib.pyplot as plt

    from papercore.papers.gcs import plots

    table = classify.accuracies(fits, reading, LAYERS, samples=5)
    lexical = classify.lexical_arm(texts, reading)["value"].mean()
    figure, drawn = plots.accuracy_by_layer(table, lexical, table)
    assert (drawn["bag_of_words"] == lexical).all() and set(drawn["layer"]) == set(LAYERS)
    assert "bag of words" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    plt.close(figure)
    assert list(concepts.lexical_accuracies(grid, negatives="same_category").index) == list(
        concepts.concepts(grid)["concept"]
    )


def test_growth_compares_equal_relative_depth():
    def curves(n_layers, slope):
        rows = [
            (i, s, 1.0, "box", "observed", slope * i / n_layers, 0.0) for i in range(1, n_layers + 1) for s in (0, 1)
        ]
        return pd.DataFrame(rows, columns=["layer", "seed", "k", "shape", "curve", "cosine", "predicted"])

    arm = experiment.growth_arm(curves(30, 1.0), curves(40, 2.0), (30, 40))
    assert np.allclose(arm["value"], arm["unit"]) and set(arm["seed"]) == {0, 1}


def test_a_full_covariance_of_independent_vectors_is_no_more_than_itself():
    table = experiment.spreads({(layer, s): toy(seed=10 * layer + s) for layer in range(6) for s in range(3)})
    wide = table.pivot_table(index="kind", values="value")["value"]
    # Independent vectors: the observed scatter is the diagonal's, while their own full covariance scatters more.
    assert wide["observed"] == pytest.approx(wide["diagonal"], rel=0.1)
    assert wide["full"] == pytest.approx(wide["full_of_independent"], rel=0.1)
    assert wide["full"] > 1.5 * wide["diagonal"]


def test_silhouettes_are_high_for_separate_groups():
    points = np.repeat([[0, 0], [10, 0], [0, 10], [10, 10]], 4, axis=0) + np.tile([[0, 0.1], [0.1, 0]], (8, 1))
    assert concepts.silhouettes(points, np.repeat(list("abcd"), 4)).min() > 0.95


# --- steering


def test_steering_with_strength_0_is_the_unsteered_text(smollm2, reading, fits):
    vectors = {0: steering.directions(fits, reading, [10, 16], 0, samples=20)}
    assert set(vectors[0]) == set(steering.METHODS)
    made = steering.steer_texts(smollm2, vectors, ["Titanic", "Rocky"], [0.0], 6)
    plain = made[made["method"] == "none"].set_index("unit")["text"]
    assert len(made) == 2 * (1 + len(steering.METHODS))
    assert all(row.text == plain[row.unit] for row in made.itertuples())


def test_each_row_of_a_batch_is_steered_by_its_own_vector(smollm2, reading, fits):
    from papercore.models.steer import Steer

    vectors = steering.directions(fits, reading, [10], 0, samples=20)
    made = steering.steer_texts(smollm2, {0: vectors}, ["Titanic"], [0.3], 5)
    for method in ("mean_difference", "random"):
        steer = Steer(10, vectors[method][10], 0.3, where="last", mode="blend")
        alone = smollm2.generate([steering.PROMPT.format(title="Titanic")], steer=steer, max_new_tokens=5)
        assert made.loc[made["method"] == method, "text"].item() == alone[0]


def test_scores_of_known_texts(smollm2):
    lines = [" wonderful, a joy", " terrible, a shame"]
    table = pd.DataFrame(
        {"text": lines, "tokens": [smollm2.tokenizer(x, return_tensors="pt").input_ids[0] for x in lines]}
    )
    scores = steering.score(smollm2, table)
    assert scores["sentiment"][0] > 0.5 and scores["sentiment"][1] < -0.5
    assert (scores["nll"] > 0).all()
    assert steering.distinct_2("a b a b") == pytest.approx(2 / 3) and steering.distinct_2("word") == 1


# --- a claim about learned representations collapses when random weights do as well


def test_a_learned_claim_is_void_when_random_weights_match():
    claim = rooms.claims("gcs")["C3"]
    assert claim.control.arm == "random_weights"
    rise = pd.concat(
        pd.DataFrame({"unit": range(12), "x": range(12), "seed": s, "value": np.arange(12) + 0.01 * s})
        for s in range(3)
    )
    flat = rise.assign(value=np.tile([1.0, -1.0], 18))

    def verdict(control):
        rows = samples.collect(claim, {"observed": rise, "control": control})
        return verdicts.verdict(claim, verdicts.evaluate(claim, rows), "cpu")[0]

    assert verdict(control=rise) == "void"
    assert verdict(control=flat) == "supported"


def test_claims_about_what_was_learned_name_random_weights():
    claims = rooms.claims("gcs")
    for learned in ("C3", "C3_late", "C3_size", "C5", "C6", "A9", "A11", "A12", "A16"):
        assert claims[learned].control.arm == "random_weights"
    # What averaging or arithmetic can produce shows its random-weights result as a row of its own.
    assert {"R1", "R2", "R4"} <= {c.id for c in claims.claims}


# --- bad input gets one sentence


def refuse(error, says, call):
    with pytest.raises(error, match=says) as err:
        call()
    assert "\n" not in str(err.value)


def test_bad_input_is_refused_in_one_sentence(reading, fits, grid, tmp_path):
    x, y, rng = reading.pool[10], reading.pool_y, torch.Generator()
    fit = {"n_probes": 3, "subset_per_class": 30, "generator": rng}
    too_many = {**fit, "subset_per_class": 101}
    refuse(ProbeError, "the pool has 100 texts with label 1", lambda: subspace.fit_subspace(x, y, **too_many))
    refuse(ProbeError, "2 or more", lambda: subspace.fit_subspace(x, y, **{**fit, "n_probes": 1}))
    refuse(ProbeError, "needs both classes", lambda: subspace.fit_subspace(x, torch.ones_like(y), **fit))
    broken = x.clone()
    broken[0, 0] = float("nan")
    refuse(ProbeError, "NaN", lambda: subspace.fit_subspace(broken, y, **fit))
    flat = x.clone()
    flat[:, 0] = 1
    refuse(ProbeError, "do not vary", lambda: subspace.fit_subspace(flat, y, **fit))
    refuse(ValueError, "must be above 0", lambda: fits[10, 0].sample(3, rng, k=0))
    refuse(ValueError, "box, gaussian or full", lambda: fits[10, 0].sample(3, rng, shape="ball"))
    refuse(ValueError, "choose same_category", lambda: concepts.task(grid, "bird", "all"))
    refuse(data.DataError, "20 terms a concept", lambda: data.concept_grid(2, 21, 0))
    refuse(data.DataError, "label 0 has 2351", lambda: data.split(data.movie_snippets(), 2300, 100, 0))
    refuse(data.DataError, "no such file", lambda: data.own_texts(str(tmp_path / "none.csv")))
    own = tmp_path / "own.csv"
    for table, says in (
        ({"text": ["a"], "class": [1]}, "columns text and label"),
        ({"text": ["a", "b"], "label": [1, 3]}, "label .1 or 0."),
        ({"text": ["a", " "], "label": [1, 0]}, "row 3 has an empty text"),
    ):
        pd.DataFrame(table).to_csv(own, index=False)
        refuse(data.DataError, says, lambda: data.own_texts(str(own)))


def test_out_of_range_layers_and_strengths_are_refused(smollm2):
    from papercore.models.errors import ModelError
    from papercore.models.steer import Steer

    refuse(ModelError, "31", lambda: smollm2.activations(["a text"], layers=31))
    refuse(ModelError, r"\[-1, 1\]", lambda: Steer(4, torch.ones(576), 1.5, mode="blend"))
    refuse(ModelError, "empty", lambda: smollm2.activations([""], layers=3))


def test_a_negative_strength_is_the_concepts_opposite():
    from papercore.models.steer import Steer

    v, h = torch.randn(8), torch.randn(1, 1, 8)
    at = torch.ones(1, 1, dtype=torch.bool)
    plus, minus = (Steer(1, v, b, mode="blend").apply(h, at, [0]) for b in (0.2, -0.2))
    expected = v * h.abs().mean() / v.abs().mean()
    assert torch.allclose(plus, 0.8 * h + 0.2 * expected, atol=1e-6)
    assert torch.allclose(minus, 1.2 * h - 0.2 * expected, atol=1e-6)


def test_the_papers_cells_need_the_papers_model(fits):
    class Handed:
        def __init__(self):
            self.rows = {}

        def claim(self, name, **arms):
            self.rows[name] = set(arms)

        def untested(self, name, reason):
            self.rows[name] = reason

    other, same = Handed(), Handed()
    experiment.paper_numbers(other, "smollm2-135m-instruct", "", 0.2, fits)
    assert all("Llama-2-7B" in reason for reason in other.rows.values()) and len(other.rows) == 3
    bird = {(layer, 0): replace(fits[10, 0]) for layer in (2, 15, 30)}
    experiment.paper_numbers(same, "meta-llama/Llama-2-7b-chat-hf", "bird.csv", 0.5, bird)
    assert all("20 %" in reason for reason in same.rows.values())
    experiment.paper_numbers(same, "meta-llama/Llama-2-7b-chat-hf", "bird.csv", 0.2, bird)
    assert same.rows == {"P1": {"layer_30", "control"}, "P2": {"layer_15", "control"}, "P3": {"layer_2", "control"}}
