"""Known answers of sae_survey: counts, identities, refusals. Findings are claims, not tests."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from papercore.assets import catalogue
from papercore.models import ModelError
from papercore.papers.sae_survey import (
    browser,
    curves,
    data,
    experiment,
    meaning,
    plots,
    recording,
    train,
    worlds,
    zoo,
)
from papercore.papers.sae_survey.data import DataError
from papercore.sae import explain, interchange, metrics, recovery, registry, synthetic
from papercore.study import parameters, rooms
from papercore.study.parameters import ParameterError
from papercore.study.parameters import check as check_parameters

SHIPPED = [name for name, asset in catalogue().items() if asset.kind == "sae"]


@pytest.fixture(scope="module")
def p():
    return parameters.resolve("sae_survey", "smoke")


@pytest.fixture(scope="module")
def corpus(smollm2):
    return data.corpus(smollm2.tokenizer, 20, 10, 24, 0)


@pytest.fixture(scope="module")
def read(smollm2, corpus):
    return data.read(smollm2, corpus, 15)


@pytest.fixture(scope="module")
def sae(read, p):
    return zoo.fit("topk", read.train.x, 128, 8, p, 0)


# --- corpus


def test_every_text_that_is_read_has_a_licence_and_says_where_it_was_found():
    table = data.licences()
    assert len(table) == 19 and table[["licence", "read in"]].map(len).gt(2).all(axis=None)
    assert not table["licence"].str.contains("unknown", case=False).any()


def test_documents_are_cut_balanced_drawn_once_and_the_same_each_time(smollm2, corpus):
    assert len(corpus.ids) == 19 * 30 and max(map(len, corpus.ids)) == 24
    assert corpus.table.groupby("role").size().to_dict() == {"train": 380, "test": 190}
    labelled = corpus.table[corpus.table["use"] == "tasks"]
    assert labelled.groupby(["source", "role"])["label"].mean().eq(0.5).all()
    assert set(corpus.table[corpus.table["use"] != "tasks"]["label"]) == {-1}
    assert corpus.digest == data.corpus(smollm2.tokenizer, 20, 10, 24, 0).digest
    assert corpus.digest != data.corpus(smollm2.tokenizer, 20, 10, 24, 1).digest


def test_no_text_is_drawn_twice_from_whatever_source(smollm2):
    """At the cpu profile's size: tasks that are cut from one corpus share texts."""
    p = parameters.resolve("sae_survey", "cpu")
    whole = data.corpus(smollm2.tokenizer, p.documents, p.test_documents, 4000, p.seed)
    assert len({tuple(one) for one in whole.ids}) == len(whole.ids) == 19 * 300
    texts = [" ".join(smollm2.tokenizer.decode(one).split()).casefold() for one in whole.ids]
    assert len(set(texts)) == len(texts)


def test_tasks_of_one_corpus_are_one_unit():
    arm = pd.DataFrame({"unit": data.tasks(), "value": np.arange(14.0), "seed": 0})
    found = data.by_corpus(arm).set_index("unit")["value"]
    assert len(found) == 8 and found["ag_news"] == 1 and found["film_reviews"] == 3 and found["headlines"] == 6


def test_chats_wear_the_models_template(smollm2, corpus):
    chat = np.flatnonzero(corpus.table["use"] == "chats")[0]
    assert smollm2.tokenizer.decode(corpus.ids[chat]).startswith("<|im_start|>system")


def test_held_out_tokens_are_new(corpus, read):
    """Neither their document nor their whole prefix was trained on, the template's opening included."""
    seen = {tuple(corpus.ids[i][: n + 1]) for i in corpus.rows("train") for n in range(len(corpus.ids[i]))}
    found = [
        tuple(corpus.ids[d][: n + 1])
        for d, n in zip(read.test.document.tolist(), read.test.position.tolist(), strict=True)
    ]
    assert found and not seen & set(found) and len(set(found)) == len(found)
    assert set(read.train.document.tolist()) <= set(corpus.rows("train").tolist())
    assert (read.train.position > 0).all() and float(read.train.x.square().sum(1).mean()) == pytest.approx(
        576, rel=1e-4
    )


def test_what_cannot_be_drawn_or_read_is_refused(smollm2, corpus):
    with pytest.raises(DataError, match=r"has \d+ texts of a class, but \d+ are needed"):
        data.corpus(smollm2.tokenizer, 4000, 10, 24, 0)
    with pytest.raises(DataError, match=r"held-out documents have 24 tokens or more, but 5000 are needed"):
        data.long_documents(corpus, 24, 5000, 0)
    with pytest.raises(ModelError, match="layer 31 is out of range"):
        data.read(smollm2, corpus, 31)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"k": 3000}, "k = 3000 is more than latents = 2304"),
        ({"zoo_latents": 1150}, "must be a multiple of 4"),
        ({"zoo_latents": 256}, "each needs 128"),
        ({"architectures": ["topk"]}, "lacks relu"),
        ({"architectures": ["topk", "relu", "frozen_decoder", "x"]}, "name each once"),
        ({"sweep": [8, 16, 64, 32, 128]}, "must rise without repeats"),
        ({"layer": 3}, "must be one of group_layers"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_in_one_sentence(change, said):
    with pytest.raises(ParameterError, match=said):
        check_parameters("sae_survey", change)


# --- splices


def test_the_splice_doctor_knows_what_it_must_know(smollm2, read, corpus, sae, p):
    """Identity 1 and KL 0, each ablation 0 against itself (dossier section 8, item 1)."""
    table = experiment.spliced(smollm2, read, corpus, {0: sae}, p)
    said = recovery.doctor(table[~table["function"].str.startswith("other")])
    assert said.loc["identity", "CE score (zero)"] == pytest.approx(1, abs=1e-4)
    assert said.loc["identity", "CE score (mean)"] == pytest.approx(1, abs=1e-4)
    assert said.loc["identity", "KL"] == 0
    assert said.loc["zero", "CE score (zero)"] == 0 and said.loc["mean", "CE score (mean)"] == 0
    assert said.loc["mean", "KL score (mean)"] == 0
    none = experiment.splice_arm(table, [0], "identity", "clean", "ce")
    assert (none["value"] == 0).all() and len(none) == p.splice_documents
    assert (experiment.ablation_arm(table, [0], "identity")["value"] == 0).all()


def test_noise_is_as_large_as_the_saes_error_token_by_token(read, sae):
    whole = sae.folded(read.scale)
    states = read.test.x[:200] * read.scale
    noisy = experiment._as_large(whole, 0)(states)
    with torch.no_grad():
        error = (states - whole(states)).norm(dim=1)
    assert torch.allclose((noisy - states).norm(dim=1), error, rtol=1e-3)


def test_an_sae_finds_all_its_own_latents_again(read, sae):
    table = experiment.shared({0: sae, 1: sae}, read.test.x)
    assert experiment.found_again(table, "itself")["value"].eq(1).all()
    assert experiment.found_again(table, "next")["value"].eq(1).all()
    assert table["random"].max() < 0.5


# --- the frontier


def _made(l0s, errors, name="topk", seed=0):
    """A frontier of made-up SAEs: two documents, the second with twice the error and the variance of the first."""
    runs = pd.DataFrame({"name": name, "k": l0s, "share": 1.0, "seed": seed, "L0": np.array(l0s, float)})
    runs["explained variance"], runs["probing"] = 1 - np.array(errors), 0.7
    rows = [
        {
            "name": name,
            "k": k,
            "share": 1.0,
            "seed": seed,
            "document": d,
            "error": e * v,
            "variance": v,
            "dot": 2.0 * v,
            "norm2_hat": 1.5 * v,
        }
        for k, e in zip(l0s, errors, strict=True)
        for d, v in ((0, 1.0), (1, 2.0))
    ]
    return zoo.Frontier(runs, pd.DataFrame(rows), pd.DataFrame())


def test_fvu_is_interpolated_in_log_l0_and_never_beyond_what_was_measured():
    frontier = _made([16, 64], [0.4, 0.2])
    assert curves.matched(frontier, "topk", 16)["value"].mean() == pytest.approx(0.4)
    assert curves.matched(frontier, "topk", 32)["value"].mean() == pytest.approx(0.3)
    assert curves.matched(frontier, "topk", 64)["value"].mean() == pytest.approx(0.2)
    for l0 in (15.9, 65):
        with pytest.raises(curves.UnmatchedError, match=r"L0 from 16\.0 to 64\.0"):
            curves.matched(frontier, "topk", l0)


def test_the_mean_of_documents_is_the_ratio_of_sums():
    frontier = _made([16, 64], [0.4, 0.2])
    assert curves.at(frontier, "topk", 64)["value"].mean() == pytest.approx(0.2)
    assert curves.shrinks(frontier, "topk", 64)["value"].mean() == pytest.approx(1 - 1.5 / 2)


def test_an_architecture_is_no_better_than_itself():
    one = _made([16, 64], [0.4, 0.2], "relu")
    assert (curves.beyond(one, "relu", 20)["value"] == 0).all()


def test_probing_is_compared_with_itself_on_other_corpora():
    """An SAE that is as good on every task agrees with itself; the frozen decoder and shares are left out."""
    rows = [
        {"name": name, "k": k, "share": share, "seed": 0, "task": task, "k1": k / 100}
        for name, share in (("topk", 1.0), ("topk", 0.25), ("frozen_decoder", 1.0))
        for k in (8, 16)
        for task in data.tasks()
    ]
    found = curves.use_twice(zoo.Frontier(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(rows)))
    assert found["unit"].tolist() == ["topk 16", "topk 8"] or found["unit"].tolist() == ["topk 8", "topk 16"]
    assert found["x"].tolist() == pytest.approx(found["value"].tolist())
    assert sorted(found["value"]) == pytest.approx([0.08, 0.16])


def test_documents_sum_up_to_the_runs_metrics(read, corpus, sae):
    spec = zoo.Spec("topk", 8, 1.0, 0)
    found = zoo.measured(spec, sae, read, corpus)
    sums = found.documents[["error", "variance", "dot", "norm2_hat"]].sum()
    run = found.runs.iloc[0]
    assert sums["error"] / sums["variance"] == pytest.approx(run["FVU"], rel=1e-6)
    assert sums["norm2_hat"] / sums["dot"] == pytest.approx(run["relative bias"], rel=1e-6)
    assert set(found.probing["task"]) == set(data.tasks())
    assert run["probing"] == pytest.approx(found.probing["k1"].mean())
    codes = zoo.document_codes(sae, read, corpus)
    first = int(corpus.rows("train", "agnews_0")[0])
    mine = sae.encode(read.train.x[read.train.document == first]).mean(0)
    assert torch.allclose(codes[first], mine, atol=1e-4)


def test_a_share_is_of_documents(read):
    part = zoo.part_of(read, 0.25, 0)
    assert 0.1 * len(read.train) < len(part) < 0.4 * len(read.train)
    assert torch.equal(part, zoo.part_of(read, 0.25, 0)) and not torch.equal(part, zoo.part_of(read, 0.25, 1))


# --- the recording


def test_the_recording_belongs_to_the_cpu_profile_and_holds_all_of_it(smollm2):
    p = parameters.resolve("sae_survey", "cpu")
    corpus = data.corpus(smollm2.tokenizer, p.documents, p.test_documents, p.max_tokens, p.seed)
    found = recording.load(recording.key(p, corpus, smollm2.identity))
    wanted = {(s.name, s.k, s.share, s.seed) for s in zoo.specs(p, range(p.fitting_seeds))}
    assert set(found.runs[zoo.KEYS].itertuples(index=False, name=None)) == wanted
    sums = found.documents.groupby(zoo.KEYS)[["error", "variance"]].sum()
    runs = found.runs.set_index(zoo.KEYS)
    assert np.allclose((sums["error"] / sums["variance"])[runs.index], runs["FVU"], rtol=1e-6)
    assert np.allclose(found.probing.groupby(zoo.KEYS)["k1"].mean()[runs.index], runs["probing"])
    assert recording.recipe()["saes"] == len(wanted)


def test_a_recording_of_other_settings_is_refused():
    with pytest.raises(recording.RecordingError, match=r"take frontier = 'live'"):
        recording.load("0" * 64)


def test_what_is_made_again_is_compared_metric_by_metric(read, corpus, p):
    todo = [zoo.Spec("topk", 8, 1.0, 0), zoo.Spec("relu", 8, 1.0, 0)]
    found = zoo.frontier(todo, read, corpus, p)
    again = recording.again(found, read, corpus, p, 1)
    assert list(again["metric"]) == recording.COMPARED
    assert np.array_equal(again["recorded"], again["live"])  # one machine, one thread count: to the bit


# --- synthetic worlds


def test_excess_is_one_sparsity_over_another():
    table = pd.DataFrame({"world": 0, "seed": 0, "k": [2, 4, 16], "absorbed": [0.5, 0.1, 0.3], "unrelated": [0, 0, 1]})
    assert worlds.excess(table, 2, 4)["value"].tolist() == pytest.approx([0.4])
    assert worlds.excess(table, 16, 4, "unrelated")["value"].tolist() == [1]


def test_the_true_sparsity_of_the_worlds_with_children_is_the_middle_one():
    codes = synthetic.world(**worlds.HIERARCHY, seed=1).sample(20_000)[1]
    active = float((codes > 0).sum(1).float().mean())
    assert worlds.DENSITIES[1] == round(active) and worlds.DENSITIES[0] < active < worlds.DENSITIES[2]


def test_features_are_found_from_the_cosine_on():
    table = worlds.dictionary(2, 5)
    assert worlds.found(table.assign(cosine=[0.9, 0.89] * worlds.FEATURES))["value"].mean() == 0.5
    assert len(table) == 2 * worlds.FEATURES and table["chance"].sum() == pytest.approx(2 * worlds.ACTIVE, rel=0.2)


# --- the roll call


def test_the_roll_call_names_every_entry_of_the_survey(smollm2, read, corpus, p):
    sae = zoo.fit("topk", read.train.x, 128, 8, p, 0)
    table = experiment.roll_call(read, corpus, smollm2, sae, p)
    called = {name.split()[0] for name in table["entry"]}
    assert called == {name for name in registry.names() if registry.TAXONOMY[name].survey}
    assert len(called) == rooms.claims("sae_survey")["C2"].reported.value
    assert np.isfinite(table[["before", "after"]]).all(axis=None)


def test_explained_variance_is_that_of_the_definition(read, sae):
    with torch.no_grad():
        x, hat = read.test.x, sae(read.test.x)
    wanted = 1 - float((x - hat).square().sum() / (x - x.mean(0)).square().sum())
    assert metrics.explained_variance(metrics.per_token(sae, x)) == pytest.approx(wanted, rel=1e-4)


# --- meaning, steering, what ships


@pytest.fixture(scope="module")
def wide(read, p):
    return zoo.fit("topk", read.train.x, 256, 16, p, 0)


@pytest.fixture(scope="module")
def seen(smollm2, read, corpus, wide):
    return {0: meaning.explained(smollm2, read, corpus, wide, 3, 0)}


def test_explanations_are_the_peaks_of_the_top_windows_in_either_half_of_the_training_documents(seen, corpus):
    each, rows = seen[0], corpus.rows("train")
    for half, sets in ((rows[::2], each.before), (rows[1::2], each.other)):
        for column, found in enumerate(sets):
            top = explain.max_activating(each.fires, column, among=half).query("kind == 'top'")
            assert found == {corpus.ids[d][p] for d, p in zip(top["document"], top["position"], strict=True)}
    assert each.written.shape == (3, meaning.TOKENS) and all(len(ids) <= meaning.TOKENS for ids in each.after)
    assert torch.allclose(each.directions.norm(dim=1), torch.ones(3), atol=1e-4)


def test_a_latent_fires_in_no_text_whose_beginning_was_seen_before(seen, corpus):
    """So that the chat template's opening, the same in every chat, is in the windows of one document alone."""
    first = {}
    for i, (ids, codes) in enumerate(zip(corpus.ids, seen[0].fires.codes, strict=True)):
        for end in range(1, len(ids) + 1):
            owner = first.setdefault(tuple(ids[:end]), i)
            assert owner == i or (codes[end - 1] == 0).all()


def _words(*texts):
    """Explanations of so many latents, one token each."""
    return meaning.Explained(
        torch.arange(len(texts[0])), None, None, torch.tensor([[i] for i in texts[0]]), [{i} for i in texts[1]], [], []
    )


def test_agreement_is_of_tokens_whatever_their_case_and_spaces_and_counts_anothers_too(smollm2):
    the, also_the, dog = (smollm2.tokenizer(text)["input_ids"][0] for text in (" The", "the", "dog"))
    made = {0: _words([the, dog], [also_the, dog]), 5: _words([the, the], [also_the, also_the])}
    table = meaning.agreement(smollm2.tokenizer, made, "written", "before")
    assert table["own"].tolist() == [1, 1, 1, 1] and table["another"].tolist() == [0, 0, 1, 1]
    made[0].before[1] = set()
    assert len(meaning.agreement(smollm2.tokenizer, made, "written", "before")) == 3
    part = next(i for i in range(smollm2.vocabulary) if "\ufffd" in smollm2.tokenizer.decode([i]))
    assert meaning.agreement(smollm2.tokenizer, {0: _words([part], [part])}, "written", "before").empty


def test_steering_is_a_slope_over_the_dose_beyond_a_random_directions(smollm2, read, seen):
    table = meaning.steered(smollm2, read, seen, 15)
    assert len(table) == 3 * 3 * len(meaning.DOSES) and table["unit"].nunique() == 3
    assert meaning.steering_arm(table, "own", "own", "written")["value"].eq(0).all()
    own, next_one = (
        table[table["direction"] == name].set_index(["unit", "dose"]) for name in ("own", "another latent")
    )
    assert not own["written"].equals(next_one["written"])
    size = table["direction"].map({"own": 3.0, "random": 1.0, "another latent": 1.0})
    line = table.assign(after=size * table["dose"])
    assert meaning.steering_arm(line, "own", "random", "after")["value"].tolist() == pytest.approx([2, 2, 2])
    assert meaning.steering_arm(line, "another latent", "random", "after")["value"].tolist() == pytest.approx([0, 0, 0])


def test_what_a_small_step_raises_is_read_from_the_slope(smollm2, read, seen):
    first, random = meaning.named_first(smollm2, read, seen)
    assert len(first) == len(random) == 3 and set(first["value"]) | set(random["value"]) <= {0, 1}
    state = smollm2.activations(meaning.PROMPTS, smollm2.n_layers)[0]
    step = 1e-2 * float(state.norm()) * seen[0].directions[0]
    moved = [smollm2.lens((state + sign * step)[None])[0] for sign in (1, -1)]
    token = int(seen[0].written[0, 0])
    slope = explain.first_order(smollm2, state, seen[0].directions[:1])[0, token]
    assert bool(moved[0][token] > moved[1][token]) == bool(slope > 0)


class _Numbers:
    """A tokenizer whose words are the ids."""

    def decode(self, ids):
        return " ".join(map(str, ids))


def test_detection_is_chance_where_embeddings_say_nothing_and_whole_where_they_say_all():
    """Sixty documents of one token; latent 0 fires on the even ones, latent 1 on the odd ones."""
    table = pd.DataFrame({"source": "a", "use": "tasks", "role": ["train"] * 40 + ["test"] * 20, "label": 0})
    corpus = data.Corpus([[i] for i in range(60)], table)
    codes = [torch.tensor([[1.0 + i, 0.0]] if i % 2 == 0 else [[0.0, 1.0 + i]]) for i in range(60)]
    fires = explain.Firing(torch.tensor([3, 4]), codes)
    seen = {0: meaning.Explained(fires.latents, None, fires, None, [], [], [])}

    def knows(texts):
        return torch.tensor([[1.0, 0.0] if int(text) % 2 == 0 else [0.0, 1.0] for text in texts])

    found = meaning.detection(knows, _Numbers(), corpus, seen)
    assert found["own"].tolist() == [1, 1] and found["another"].tolist() == [0, 0]
    assert meaning.drawn_apart(found, found, "own")["value"].eq(0).all()
    apart = meaning.drawn_apart(found, found.iloc[::-1].assign(own=[0.5, 0.25]), "own")
    assert apart["value"].tolist() == [0.5, 0.75] and apart["unit"].tolist() == [0, 1]
    blind = meaning.detection(lambda texts: torch.ones(len(texts), 4) / 2, _Numbers(), corpus, seen)
    assert blind[["own", "another"]].eq(0.5).all(axis=None)


def test_the_bias_is_that_of_the_training_documents_and_nothing_held_is_nothing_changed(read, corpus, wide):
    codes = {0: zoo.document_codes(wide, read, corpus)}
    table = meaning.bias_removed(read, corpus, codes, {0: wide})
    assert set(table["n"]) == {-1, 0, *(n for n in meaning.MANY if 2 * n <= 256)}
    assert set(table["unit"]) == set(corpus.rows("test", "film_sentiment")) | set(
        corpus.rows("test", "product_sentiment")
    )
    both = [table[(table["latents"] == kind) & (table["n"] == 0)]["right"].tolist() for kind in ("best", "as active")]
    assert both[0] == both[1]
    arm = meaning.bias_arm(table, "best", 0, 0)
    assert arm["value"].eq(0).all() and len(arm) == 20


def test_others_are_as_active_and_none_twice():
    mean = torch.tensor([0.0, 1.0, 1.1, 5.0, 5.2, 0.1])
    assert meaning._as_active(mean, torch.tensor([1, 3])).tolist() == [2, 4]
    assert len(set(meaning._as_active(mean, torch.tensor([1, 3, 0])).tolist()) | {1, 3, 0}) == 6


def test_a_card_is_drawn_and_leafed_through(smollm2, read, corpus, wide, monkeypatch):
    cards = meaning.cards(smollm2, read, corpus, wide, [0, 1])
    assert [one["latent"] for one in cards] == [0, 1]
    ups = [value for _, value in cards[0]["up"]]
    assert ups == sorted(ups, reverse=True) and max(v for _, v in cards[0]["down"]) < min(ups)
    figure, table = plots.card(cards[0])
    assert len(table) == len(cards[0]["windows"]) + 16
    plots.plt.close(figure)
    cards[0]["windows"].append(("top", ["<b>", "$x$"], [1.0, 0.0]))
    page = browser.page(cards)
    assert page.count("<details>") == 2 and "&lt;b&gt;" in page and "<b>" not in page
    monkeypatch.setenv("PAPERCORE_RUN_DIR", "x")
    assert type(browser.browse(cards)).__name__ == "HTML"
    monkeypatch.delenv("PAPERCORE_RUN_DIR")
    box = browser.browse(cards)
    shown = box.children[1].value
    box.children[0].index = 1
    assert box.children[1].value != shown


# --- what ships


def test_both_saes_of_the_recipe_ship():
    assert [f"smollm2-135m-sae-{layer}" for layer in train.SHIPPING["layers"]] == SHIPPED


def test_the_recipes_texts_have_licences_that_allow_anything():
    for spec in train.SHIPPING["sources"].values():
        assert spec["licence"] in ("MIT", "CC BY 4.0") and spec["read"]


def test_a_prefix_counts_only_so_many_times_and_never_the_first_token():
    masks = data.fresh([[1, 2, 3], [1, 2, 3], [1, 2, 4], [9]], 2)
    assert [mask.tolist() for mask in masks] == [
        [False, True, True],
        [False, True, True],
        [False, False, True],
        [False],
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_small_and_says_how_it_was_made(name):
    asset = catalogue()[name]
    folder = Path(str(resources.files("papercore"))) / asset.shipped
    settings = json.loads((folder.parent / "cfg.json").read_text())
    recipe = yaml.safe_load((resources.files("papercore.papers.sae_survey") / "shipping.yaml").read_text())
    made = settings["metadata"]
    assert made["recipe"] == {key: value for key, value in recipe.items() if key != "sources"}
    assert made["texts"] == recipe["sources"]
    assert made["training"]["tokens"] >= 1_000_000 and settings["d_sae"] >= 2304 and settings["dtype"] == "float16"
    assert sum(catalogue()[one].size for one in SHIPPED) < 12e6


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_sae_is_what_its_card_says(name, smollm2):
    sae, card = interchange.find(name, d_model=smollm2.d_model), interchange.card(name)
    assert sae.k == 32 and torch.allclose(sae.decoder.norm(dim=1), torch.ones(sae.n_latents), atol=2e-3)
    quality = meaning.quality().loc[name]
    assert len(quality) == 6 and np.isfinite(quality[["explained variance", "CE score (mean)"]]).all(axis=None)
    assert card["without position 0"]["tokens"] < card["with position 0"]["tokens"]
    ids, _ = train.documents(smollm2.tokenizer, {**train.SHIPPING, "tokens": 1})
    states = smollm2.activations(ids[:60], int(name.rpartition("-")[2]), position="all")
    x = torch.cat([one[1:] for one in states])
    # Sixty of its 1,200 held-out documents: the card's numbers within what so few can tell.
    assert metrics.summary(sae, x)["L0"] == pytest.approx(card["without position 0"]["topk"]["L0"], abs=0.1)
    explains = metrics.explained_variance(metrics.per_token(sae, x))
    assert explains == pytest.approx(card["without position 0"]["topk"]["explained variance"], abs=0.05)


def test_where_no_sae_ships_one_of_the_runs_own_is_looked_at(smollm2, read, wide, p):
    for change in ({"layer": 12}, {"model": "gemma-3-270m"}):
        name, sae = meaning.kept(p.model_copy(update=change), smollm2, read, wide)
        assert name.startswith("one of this run's: none ships for block") and sae is wide


def test_an_sae_of_ones_own_is_looked_at_at_the_models_scale(smollm2, read, wide, p, tmp_path):
    interchange.save(wide.folded(read.scale), tmp_path)
    name, sae = meaning.kept(p.model_copy(update={"sae": str(tmp_path)}), smollm2, read, None)
    assert name == str(tmp_path)
    assert torch.allclose(sae.encode(read.test.x[:50]), wide.encode(read.test.x[:50]), atol=1e-3)


def test_training_goes_from_texts_to_a_file_and_a_card(smollm2, tmp_path, monkeypatch):
    """The whole of `papercore train sae_survey` on a few documents."""
    small = {"tokens": 2000, "test_documents": 60, "layers": [15], "latents": 128, "k": 8, "steps": 4, "batch": 64}
    settings = {**train.SHIPPING, **small, "spliced": 2, "max_tokens": 24}
    monkeypatch.setattr("papercore.models.load_model", lambda *a, **k: smollm2)
    train.main(tmp_path, settings)
    (folder,) = tmp_path.iterdir()
    sae, card = interchange.load(folder, d_model=576), json.loads((folder / "card.json").read_text())
    assert sae.n_latents == 128 and set(card["without position 0"]) == {"tokens", "topk", "frozen_decoder", "PCA-8"}
    scored = [card[f"{where} position 0"]["topk"] for where in ("without", "with")]
    assert all(np.isfinite(one["explained variance"]) and np.isfinite(one["CE score (mean)"]) for one in scored)


def test_the_recipe_begun_again_reads_the_shipped_saes_own_documents(smollm2, read, wide, p):
    small, whole = ({**train.SHIPPING, "tokens": n, "test_documents": 60} for n in (500, 2000))
    (few, table), (many, _) = (train.documents(smollm2.tokenizer, settings) for settings in (small, whole))
    assert many[: len(few)] == few and len(many) > len(few)
    assert table["role"].tolist() == ["test"] * 60 + ["train"] * (len(few) - 60)
    rows = meaning.recipe(smollm2, read, wide, p)
    assert rows.index[0] == "as shipped" and np.isfinite(rows["FVU"]).all()
