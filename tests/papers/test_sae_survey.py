"""Known answers of sae_survey: counts, identities, refusals. Findings are claims, not tests."""

import numpy as np
import pandas as pd
import pytest
import torch

from papercore.models import ModelError
from papercore.papers.sae_survey import curves, data, experiment, recording, worlds, zoo
from papercore.papers.sae_survey.data import DataError
from papercore.sae import metrics, recovery, registry, synthetic
from papercore.study import parameters, rooms
from papercore.study.parameters import ParameterError
from papercore.study.parameters import check as check_parameters


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
