"""Known answers of multilingual_probing: counts, identities, refusals, peers. Findings are claims, not tests."""

import unicodedata
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from papercore.models import ModelError
from papercore.papers.multilingual_probing import data, directions, experiment, probing, splits
from papercore.papers.multilingual_probing.languages import LANGUAGES, DataError, check, template, with_slots
from papercore.papers.multilingual_probing.parameters import ALL
from papercore.study import rooms
from papercore.study.parameters import ParameterError
from papercore.study.parameters import check as check_parameters

FEW = ["en", "ru", "hi", "kn", "te"]
HIGH = ["en", "de", "fr", "zh", "es", "ru", "id"]


@pytest.fixture(scope="module")
def known():
    return data.facts(120, ALL)


@pytest.fixture(scope="module")
def drawn(known):
    return {seed: data.draw(known.head(60), FEW, "label", 3, seed) for seed in (0, 1)}


@pytest.fixture(scope="module")
def gemma():
    from papercore.models import load_model

    return load_model("gemma-3-270m", device="cpu")


@pytest.fixture(scope="module")
def reading(drawn):
    """A reading that no model made: noise, and along one direction the truth, the more the deeper."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.randn(40, generator=rng)
    states, rows = {}, {seed: {} for seed in drawn}
    for language in FEW:
        signs = torch.cat([torch.tensor(2.0 * one.labels - 1) for one in drawn.values()])
        noise = torch.randn(len(signs), 40, generator=rng)
        states[language] = {layer: noise + layer / 4 * signs[:, None] * truth for layer in (1, 2, 4)}
        for i, (seed, one) in enumerate(drawn.items()):
            rows[seed][language] = torch.arange(len(one.labels)) + i * len(one.labels)
    return experiment.Reading(drawn, {k: {n: x.float() for n, x in v.items()} for k, v in states.items()}, rows)


# --- facts


@pytest.mark.parametrize(
    ("codes", "countries", "cities"),
    [
        (["zh", "ru", "or", "hi", "my", "kn", "ta", "te", "kk"], 263, 398),
        (["tk"], 263, 295),
        (["es"], 263, 186),
        (["fr"], 263, 144),
        (["de"], 263, 117),
        (["id"], 263, 66),
        (["en"], 264, 39),
    ],
)
def test_cldr_names_as_many_countries_and_cities_as_counted(codes, countries, cities):
    for code in codes:
        assert data.coverage(code) == (countries, cities)


def test_hawaiian_has_too_few_country_names():
    assert data.coverage("haw")[0] == 20
    assert LANGUAGES["haw"].refused == "CLDR knows 20 of 263 country names in Hawaiian"


def test_names_spelled_as_in_english():
    table = data.shared_names(ALL)
    assert dict(table["en"].drop("en")[table["en"] > 0]) == {"de": 107, "fr": 76, "es": 86, "id": 127, "tk": 39}
    assert (table.to_numpy() == table.to_numpy().T).all()


def test_facts_are_beyond_dispute_and_no_name_gives_the_answer_away(known):
    assert len(known) == 120 and known["zone"].is_unique and (known["population"] > data.POPULATION).all()
    assert not {"HK", "MO", "TW", "PS", "PR"} & set(known["country"])
    everything = data.facts(len(data._facts()), ALL)
    assert not {"Asia/Jerusalem", "Europe/Simferopol", "Asia/Singapore", "Africa/Djibouti"} & set(everything["zone"])
    for code in ALL:
        for city, country in zip(everything[f"city_{code}"], everything[f"country_{code}"], strict=True):
            assert city.casefold() not in country.casefold() and country.casefold() not in city.casefold()


def test_names_are_nfc_and_keep_their_joiners(known):
    names = {code: " ".join([*known[f"city_{code}"], *known[f"country_{code}"]]) for code in ALL}
    assert all(unicodedata.is_normalized("NFC", text) for text in names.values())
    assert {code for code, text in names.items() if "\u200c" in text or "\u200d" in text} == {"or", "kn", "te"}


def test_facts_that_everyone_knows(known):
    row = known.set_index("zone").loc["Asia/Tokyo"]
    assert (row["city_en"], row["country_en"], row["city_zh"], row["country_ru"]) == (
        "Tokyo",
        "Japan",
        "东京",
        "Япония",
    )
    # CLDR keeps Kolkata under the older name of its zone.
    assert known.set_index("zone").loc["Asia/Kolkata", "city_ru"] == "Калькутта"


# --- statements


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cities", [20, 60, 120])
def test_every_country_is_named_as_often_in_a_true_as_in_a_false_statement(known, cities, seed):
    table = data.draw(known.head(cities), ["en"], "neutral", 4, seed).table
    assert (table.groupby("city")["label"].sum() == 1).all()
    for _, fold in table.groupby("fold"):
        true, false = (Counter(fold.loc[fold["label"] == label, "named"]) for label in (1, 0))
        assert true == false
    assert ((table["named"] == table["correct"]) == (table["label"] == 1)).all()
    assert Counter(table["city"]) == dict.fromkeys(table["city"], 2)
    for what in ("city", "correct", "named"):
        assert (table.groupby(what)["fold"].nunique() == 1).all()


def test_another_seed_draws_other_statements_and_the_same_seed_the_same(known):
    one, same, other = (data.draw(known, ["en"], "sentence", 5, seed).texts["en"] for seed in (3, 3, 4))
    assert one == same and len(set(one) & set(other)) < len(one)


def test_the_three_forms(known):
    texts = {(c, f): data.draw(known, [c], f, 5, 0).texts[c] for c, f in [("en", "sentence"), ("en", "neutral")]}
    assert "The city of Tokyo is in Japan." in texts["en", "sentence"]
    assert "Tokyo - Japan" in texts["en", "neutral"]
    assert data.draw(known, ["zh"], "sentence", 5, 0).texts["zh"][0] == "上海位于中国。"
    assert template("kn", "sentence") == template("kn", "label") == "{city}. ದೇಶ: {country}"
    assert template("en", "label") == "{city}. Country: {country}"


def test_every_language_has_its_forms_and_the_paper_its_groups():
    assert [code for code in LANGUAGES if experiment.group(code) == "1"] == HIGH
    assert len(LANGUAGES) == 16 and set(LANGUAGES) - set(ALL) == {"haw"}
    for code in ALL:
        for form in ("sentence", "label", "neutral"):
            assert with_slots(template(code, form))
        assert bool(LANGUAGES[code].sentence) == bool(LANGUAGES[code].order)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda known: check(["haw"]), r"Hawaiian \(haw\) is refused: CLDR knows 20 of 263 country names"),
        (lambda known: check(["xx"]), "unknown language 'xx'; choose from en, de, fr"),
        (lambda known: data.facts(10_000, ["en"]), "cities = 10000: only 1.. cities are known in every language"),
        (lambda known: template("en", "poem"), "unknown form 'poem'; choose from sentence, label, neutral"),
        (lambda known: with_slots("{city} is nice"), "must have the places {city} and {country}, once each"),
        (lambda known: with_slots("{city}, {city}: {country}"), "once each"),
        (lambda known: data.draw(known.head(20), ["en"], "label", 15, 0), "take fewer folds"),
        (lambda known: data.draw(known.head(19), ["en"], "label", 3, 0), "19 true statements; at least 20"),
        (lambda known: data.sound(["a", " "], np.array([1, 0]), "x"), "x: statement 2 is empty"),
        (lambda known: data.sound(["a", "a"], np.array([1, 0]), "x"), "the statement 'a' stands there twice"),
        (lambda known: data.sound([*map(str, range(30))], np.ones(30), "x"), "x: 0 false statements; at least 20"),
    ],
)
def test_bad_input_is_one_sentence(known, call, sentence):
    with pytest.raises(DataError, match=sentence):
        call(known)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"languages": ["en", "de", "fr", "ru", "haw", "kn", "te", "tk"]}, "Hawaiian .haw. is refused"),
        ({"languages": ["en", "de", "fr", "ru", "hi", "kn", "te", "xx"]}, "unknown language 'xx'"),
        ({"languages": ["en", "de", "fr", "ru", "id", "kn", "te", "tk"]}, "3 low-resource languages among"),
        ({"languages": ["en", "en", "fr", "ru", "hi", "kn", "te", "tk"]}, "names one twice"),
        ({"languages": ["en", "de", "fr", "ru", "hi", "my", "te", "tk"]}, "watched = 'kn' must be one of"),
        ({"layer": 9}, "layer = 9 must be one of layers"),
        ({"layers": [0, 10, 4]}, "must rise without repeats"),
        ({"site": "mlp_in"}, "has no layer 0"),
        ({"cities_csv": ["en.csv", "de.csv"]}, "2 high-resource languages among"),
    ],
)
def test_parameters_that_cannot_work_are_refused_before_a_model_is_touched(values, sentence):
    with pytest.raises(ParameterError, match=sentence):
        check_parameters("multilingual_probing", values)


# --- own statements


@pytest.fixture
def csvs(tmp_path, known):
    def write(**changes):
        one = data.draw(known.head(60), ["en", "de"], "label", 3, 0)
        names = {"correct": "correct_country", "named": "country"}
        paths = []
        for code in ("en", "de"):
            table = one.table.rename(columns=names).assign(statement=one.texts[code]).drop(columns="fold")
            table = table if code == "en" else table[["statement", "label"]]
            paths.append(tmp_path / f"{code}.csv")
            changes.get(code, lambda t: t)(table).to_csv(paths[-1], index=False)
        return [str(path) for path in paths]

    return write


def test_own_statements_are_read_row_by_row_and_tested_in_balance(csvs):
    one = data.from_csv(csvs(), 3, 0)
    assert set(one.texts) == {"en", "de"} and len(one.texts["de"]) == len(one.table)
    tested = one.table[one.table["fold"] >= 0]
    assert len(tested) > 40
    counts = tested.groupby(["named", "label"]).size().unstack(fill_value=0)
    assert (counts[0] == counts[1]).all()
    for train, test in splits.split(one, "country", 0):
        for what in ("city", "named"):
            assert not set(one.table[what].iloc[train]) & set(one.table[what].iloc[test])
        assert len(train) > 0.3 * len(one.table) and set(one.table["label"].iloc[train]) == {0, 1}


def test_an_instruction_goes_before_the_statement(csvs):
    texts = data.from_csv(csvs(de=lambda t: t.assign(instruction="Wahr?")), 3, 0).texts
    assert all(text.startswith("Wahr? ") for text in texts["de"]) and not texts["en"][0].startswith("Wahr?")


def test_hawaiian_may_come_in_the_readers_own_words(csvs, tmp_path):
    (en, _) = csvs()
    (tmp_path / "haw.csv").write_text((tmp_path / "de.csv").read_text())
    assert set(data.from_csv([en, str(tmp_path / "haw.csv")], 3, 0).texts) == {"en", "haw"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"de": lambda t: t.iloc[:-1]}, "de.csv and en.csv differ in number or labels of their rows"),
        ({"de": lambda t: t.assign(label=1 - t["label"])}, "differ in number or labels"),
        ({"de": lambda t: t.rename(columns={"label": "truth"})}, "de.csv: columns statement and label"),
        ({"de": lambda t: t.assign(label=t["label"] + 1)}, "de.csv: columns statement and label"),
        ({"de": lambda t: t.assign(statement=[None, *t["statement"][1:]])}, "de.csv: statement 1 is empty"),
        ({"en": lambda t: t[["statement", "label"]]}, "none of en.csv, de.csv has the columns city, country"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(csvs, changes, sentence):
    with pytest.raises(DataError, match=sentence):
        data.from_csv(csvs(**changes), 3, 0)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"there is no file ru.csv for Russian"):
        data.from_csv([str(tmp_path / "ru.csv")], 3, 0)


# --- splits


def test_the_papers_split_is_scikit_learns(drawn):
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(120), test_size=0.4, random_state=42)
    ((ours, held_out),) = splits.split(drawn[0], "random", experiment.partition(0))
    assert (ours == train).all() and (held_out == test).all()


def test_what_each_split_keeps_apart(drawn):
    table = drawn[0].table

    def crossing(kind, what):
        parts = splits.split(drawn[0], kind, 42)
        return max(len(set(table[what].iloc[a]) & set(table[what].iloc[b])) for a, b in parts)

    assert crossing("random", "city") > 0
    assert crossing("city", "city") == 0 < crossing("city", "named")
    assert crossing("country", "city") == crossing("country", "named") == crossing("country", "correct") == 0
    tested = np.concatenate([test for _, test in splits.split(drawn[0], "country", 0)])
    assert sorted(tested) == list(range(len(table)))


def test_swapped_labels_turn_whole_cities(drawn):
    y, labels = splits.swapped(drawn[0], 7), drawn[0].labels
    turned = pd.DataFrame({"city": drawn[0].table["city"], "turned": y != labels}).groupby("city")["turned"]
    assert (turned.nunique() == 1).all() and 15 < turned.first().sum() < 45
    assert (splits.swapped(drawn[0], 7) == y).all() and (splits.swapped(drawn[0], 8) != y).any()


def test_a_probe_that_knows_only_cities_is_wrong_about_every_twin(drawn):
    one = data.Statements(drawn[0].table.assign(named="X"), drawn[0].texts)
    parts = splits.split(one, "random", 42)
    (train, test), found = parts[0], probing.memoriser(one, one.labels, parts)
    seen = set(one.table["city"].iloc[train])
    twins = [row for row in test if one.table["city"].iloc[row] in seen]
    assert len(twins) > 20 and (found[twins] == 0).all()
    assert np.isnan(found[train]).all()


def test_a_probe_that_knows_only_names_is_at_one_half_where_countries_are_apart(drawn):
    for one in drawn.values():
        assert (probing.memoriser(one, one.labels, splits.split(one, "country", 0)) == 0.5).all()


def test_another_coin_turns_other_cities(drawn):
    one, other = (splits.swapped(drawn[0], 0, coin) for coin in (1, 2))
    assert (one != other).any() and one.sum() == other.sum() == 60


@pytest.mark.parametrize("seed", range(4))
def test_a_set_like_the_papers(seed):
    one = data.like_the_papers(748, 5, seed)
    table = one.table
    assert len(table) == 1496 and table["label"].sum() == 748 and (table.groupby("city").size() == 2).all()
    assert ((table["named"] == table["correct"]) == (table["label"] == 1)).all()
    # False countries come by their frequency among the cities.
    often = table.loc[table["label"] == 1, "named"].value_counts()
    said = table.loc[table["label"] == 0, "named"].value_counts().reindex(often.index, fill_value=0)
    assert often.index[0] == "CN" and np.corrcoef(often, said)[0, 1] > 0.9
    assert (probing.memoriser(one, one.labels, splits.split(one, "country", 0))[table["fold"] >= 0] == 0.5).all()


# --- probes


def test_our_probe_is_scikit_learns(reading):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, y = reading.x("ru", 0, [2]), reading.y(0)
    peer = LogisticRegression(C=probing.STRENGTH, fit_intercept=False, tol=1e-10, max_iter=10_000)
    peer.fit(StandardScaler().fit_transform(x[0].double().numpy()), y)
    assert np.allclose(probing.directions(x, y)[0], peer.coef_[0], atol=1e-6)


def test_scores_come_from_the_training_rows_alone(reading, drawn):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, parts = reading.x("hi", 1, [1, 4]), reading.y(1), splits.split(drawn[1], "country", 1)
    ours = probing.scores(x, y, parts)
    for layer in (0, 1):
        for train, test in parts:
            probe = LogisticRegression(C=probing.STRENGTH, fit_intercept=False, tol=1e-10, max_iter=10_000)
            peer = make_pipeline(StandardScaler(), probe).fit(x[layer][train].double().numpy(), y[train])
            theirs = peer.decision_function(x[layer][test].double().numpy())
            assert np.allclose(ours[layer, test], theirs, atol=1e-6)


def test_states_that_do_not_vary_teach_nothing_and_score_one_half(reading, drawn):
    x = torch.full((1, 120, 40), 3.7)
    y, parts = reading.y(0), splits.split(drawn[0], "country", 0)
    assert (probing.right(probing.scores(x, y, parts), y) == 0.5).all()
    assert not probing.directions(x, y).any()
    x[..., 5] = torch.randn(120)
    assert probing.directions(x, y)[0].nonzero().flatten().tolist() == [5]


def test_the_papers_probe_is_scikit_learn_as_it_comes(reading, drawn):
    from sklearn.linear_model import LogisticRegression

    x, y = reading.x("en", 0, [1])[0], reading.y(0)
    ((train, test),) = splits.split(drawn[0], "random", 42)
    coefficients, found, accuracy = probing.papers_probe(x, y, (train, test))
    peer = LogisticRegression().fit(x.double().numpy()[train], y[train])
    assert np.array_equal(coefficients, peer.coef_[0])
    assert np.nanmean(found) == peer.score(x.double().numpy()[test], y[test])
    assert accuracy == peer.score(x.double().numpy()[train], y[train]) and np.isnan(found[train]).all()


# --- tables


def test_accuracy_by_country_is_the_accuracy(reading):
    table = experiment.accuracies(reading, [2, 4], "country")
    assert len(table) == 2 * 2 * len(FEW) * 120
    right, tested = experiment.by_country(table[table["layer"] == 4], "te")
    mean = table[(table["layer"] == 4) & (table["language"] == "te")]["right"].mean()
    assert right["value"].sum() / tested["value"].sum() == pytest.approx(mean)


def test_the_layer_is_chosen_on_the_other_folds():
    # Layer 1 is perfect on fold 0 and nowhere else, layer 2 on the others: all must take layer 2, fold 0 too.
    rows = [
        ("en", 0, layer, f"c{fold}{i}", "X", fold, float((layer == 1) == (fold == 0)))
        for layer in (1, 2)
        for fold in range(4)
        for i in range(4)
    ]
    table = pd.DataFrame(rows, columns=["language", "seed", "layer", "city", "country", "fold", "right"])
    chosen = experiment.held_out_layer(table)
    assert dict(chosen.groupby("fold")["layer"].first()) == dict.fromkeys(range(4), 2) and len(chosen) == 16
    assert chosen.loc[chosen["fold"] == 0, "right"].eq(0).all()


def test_a_straight_rise_has_its_slope():
    rows = [("hi", 0, layer, "c", "X", 0, 0.5 + 0.03 * layer) for layer in (0, 5, 10)]
    table = pd.DataFrame(rows, columns=["language", "seed", "layer", "city", "country", "fold", "right"])
    (slope,) = experiment.slopes(table).itertuples()
    assert (slope.unit, slope.label, slope.value) == ("hi", "0", pytest.approx(0.3))


def test_what_is_noise():
    assert experiment.noise(0.55, 300) == "[0.493, 0.605]: noise"
    assert experiment.noise(0.6, 300).endswith(": not noise")


def test_a_gain_pairs_units_and_keeps_pairs_of_units(reading):
    arm = directions.pair_arm(directions.vectors(reading, 2), FEW)
    nothing = experiment.gain(arm, arm.sample(frac=1, random_state=0))
    assert len(nothing) == len(arm) and not nothing["value"].any()
    assert {"unit", "other", "seed", "label"} < set(nothing)


def test_shares_by_unit(reading):
    table = experiment.accuracies(reading, [2, 4], "country")
    cities = experiment.per_unit(table, "city", ["hi", "kn"])
    rows = table[table["language"].isin(["hi", "kn"])]
    assert len(cities) == 2 * 60 and cities["value"].mean() == pytest.approx(rows["right"].mean())


def test_names_in_another_languages_frame(known, drawn):
    framed = data.named_in("en", "kn", known.head(60), drawn)
    assert set(framed[0].texts) == {"kn"} and framed[0].table is drawn[0].table
    assert "Tokyo. ದೇಶ: Japan" in framed[0].texts["kn"]


def test_cosines_of_languages_are_symmetric_and_follow_their_labels(reading):
    found = directions.vectors(reading, 2)
    table = directions.matrix(directions.pair_arm(found, FEW), FEW)
    assert np.allclose(np.diag(table), 1) and np.allclose(table, table.T)
    turned = FEW[::-1]
    again = directions.pair_arm({seed: v.flip(0) for seed, v in found.items()}, turned)
    assert np.allclose(directions.matrix(again, turned).loc[FEW, FEW], table)
    mean = sum(torch.nn.functional.cosine_similarity(v[0], v[3], dim=0) for v in found.values()) / len(found)
    assert table.loc["en", "kn"] == pytest.approx(float(mean))


def test_pairs_are_labelled_by_their_groups(reading):
    arm = directions.pair_arm(directions.vectors(reading, 2), FEW)
    labels = {(row.unit, row.other): row.label for row in arm.itertuples()}
    assert (labels["en", "ru"], labels["en", "kn"], labels["hi", "te"]) == ("11", "10", "00")
    assert len(directions.block(arm, "10")) == 2 * 6 and len(directions.among(arm, ["hi", "kn"])) == 2
    to = directions.to_high(arm, ["en", "ru"]).set_index(["unit", "seed"])["value"]
    pair = arm[(arm["unit"] == "en") & (arm["other"] == "ru") & (arm["seed"] == 0)]["value"].item()
    assert to["en", 0] == to["ru", 0] == pytest.approx(pair)


def test_a_probe_at_home_is_its_own_transfer(reading):
    moved = directions.transfer(reading, 2)
    home = experiment.by_language(experiment.accuracies(reading, [2], "country")).set_index(["unit", "seed"])["value"]
    for row in moved[moved["train"] == moved["test"]].itertuples():
        assert row.value == pytest.approx(home[row.train, row.seed])
    arm = directions.pair_arm(directions.vectors(reading, 2), FEW)
    both = directions.foretold(moved, arm).set_index(["unit", "other", "seed"])
    cells = moved.set_index(["train", "test", "seed"])["value"]
    assert both.loc[("en", "kn", 1), "value"] == pytest.approx((cells["en", "kn", 1] + cells["kn", "en", 1]) / 2)


def test_tokens_and_doublings():
    def every_letter(texts, add_special_tokens):
        return {"input_ids": [list(text) for text in texts]}

    def every_other(texts, add_special_tokens):
        return {"input_ids": [list(text)[::2] for text in texts]}

    one = data.Statements(pd.DataFrame({"label": [1, 0]}), {"en": ["abcd", "ab"], "kn": ["abcdefgh", "abcd"]})
    counts = experiment.token_counts({"a": every_letter, "b": every_other}, one)
    assert dict(counts.groupby(["tokenizer", "language"])["tokens"].sum()) == {
        ("a", "en"): 6,
        ("a", "kn"): 12,
        ("b", "en"): 3,
        ("b", "kn"): 6,
    }
    assert (counts["words"] == 1).all()
    assert experiment.doublings(counts, "a", "b", ["en", "kn"])["value"].tolist() == [1, 1]


def test_the_papers_map_is_the_one_that_was_decoded():
    frame = directions.by_our_codes(rooms.claims("multilingual_probing").tables["heat_map"].frame())
    cells = frame.to_numpy()
    assert cells.shape == (16, 16) and (cells == cells.T).all() and (np.diag(cells) == 1).all()
    low = [code for code in LANGUAGES if code not in HIGH]
    upper = np.triu(np.ones((7, 7), dtype=bool), 1)
    assert frame.loc[HIGH, HIGH].to_numpy()[upper].mean() == pytest.approx(0.45, abs=0.005)
    assert frame.loc["hi", HIGH].mean() == pytest.approx(0.20, abs=0.005)
    assert frame.loc["kk", HIGH].mean() == pytest.approx(0.12, abs=0.005)
    pairs = frame.loc[low, low].to_numpy()[np.triu(np.ones((9, 9), dtype=bool), 1)]
    assert len(pairs) == 36 and pairs.mean() == pytest.approx(0.11, abs=0.01)
    assert (frame.loc["kn", "te"] + frame.loc["kn", "ta"] + frame.loc["ta", "te"]) / 3 == pytest.approx(0.263, abs=0.01)


# --- the real model


@pytest.mark.parametrize("form", ["sentence", "label", "neutral"])
def test_no_split_finds_anything_at_the_embeddings(gemma, known, form):
    """Each tested country is named as often in a true as in a false statement, so any function of it is half right."""
    languages = ["en", "zh", "hi", "te"]
    drawn = {seed: data.draw(known.head(40), languages, form, 4, seed) for seed in (0, 1)}
    found = experiment.by_language(experiment.accuracies(experiment.read(gemma, drawn, [0]), [0], "country"))
    assert (found["value"] == 0.5).all() and len(found) == 8


def test_states_are_those_of_transformers_whatever_the_batch_and_the_padding(gemma, known, monkeypatch):
    languages = ["en", "ru", "kn", "my"]
    one = data.draw(known.head(20), languages, "sentence", 2, 0)
    texts = [one.texts[code][i] for code in languages for i in (0, 7)]
    heads = []
    hook = gemma.nn._module.lm_head.register_forward_hook(lambda *_: heads.append(1))
    try:
        alone = gemma.activations(texts, range(19), batch_tokens=1, cache=False)
        for side in ("left", "right"):
            monkeypatch.setattr(gemma.tokenizer, "padding_side", side)
            batched = gemma.activations(texts, range(19), cache=False)
            for layer in range(19):
                error = (batched[layer] - alone[layer]).norm(dim=1) / alone[layer].norm(dim=1)
                assert error.max() < 1e-3
        assert not heads  # the vocabulary head never ran
    finally:
        hook.remove()
    with torch.no_grad():
        ids = [torch.tensor([gemma.tokenizer(text)["input_ids"]]) for text in texts]
        peer = [gemma.nn._module(i, output_hidden_states=True).hidden_states for i in ids]
    for layer in range(18):  # the last one is read before the final norm, theirs after it
        theirs = torch.stack([states[layer][0, -1] for states in peer])
        assert ((alone[layer] - theirs).norm(dim=1) / theirs.norm(dim=1)).max() < 1e-4


def test_the_papers_site_is_refused_where_it_means_something_else(gemma):
    with pytest.raises(ModelError, match="in the gemma3_text architecture post_attention_layernorm is not the normed"):
        gemma.activations(["Tokyo - Japan"], [4], "post_attention_layernorm")
    assert gemma.activations(["Tokyo - Japan"], 4, "mlp_in").shape == (1, 640)
