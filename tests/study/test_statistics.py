"""Statistics against closed forms and other libraries; intervals against textbook ones."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from papercore.study.samples import arm, pair
from papercore.study.statistics import SampleError, estimate


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_mean_interval_is_the_t_interval(rng):
    x = rng.normal(2, 3, 400)
    e = estimate("mean", arm(x, "x"), 0.95)
    low, high = stats.t.interval(0.95, 399, x.mean(), stats.sem(x))
    assert e.value == pytest.approx(x.mean())
    # The bootstrap draws 1,000 times: its standard error is known to about 2 %.
    assert (e.hi - e.lo) == pytest.approx(high - low, rel=0.08)
    assert (e.hi + e.lo) / 2 == pytest.approx(x.mean())


def test_paired_difference_ignores_what_the_units_share(rng):
    base = rng.normal(0, 10, 200)
    a, b = base + 1 + rng.normal(0, 0.1, 200), base + rng.normal(0, 0.1, 200)
    e = estimate("mean_difference", pair(arm(a, "a"), arm(b, "b"), "t"), 0.95)
    assert 0.9 < e.lo < 1 < e.hi < 1.1


def test_units_are_paired_by_name_and_not_by_order(rng):
    a = pd.DataFrame({"unit": list("abc"), "value": [1.0, 2.0, 3.0]})
    b = a.iloc[[2, 0, 1]].assign(value=lambda t: t["value"] - 5)
    assert estimate("mean_difference", pair(arm(a, "a"), arm(b, "b"), "t"), 0.95).value == pytest.approx(5)


def test_wilson_for_a_rate():
    e = estimate("rate", arm([1] * 81 + [0] * 182, "x"), 0.95)
    # 81 of 263, the worked example of Newcombe 1998, Statistics in Medicine 17:857.
    assert (round(e.lo, 4), round(e.hi, 4)) == (0.2553, 0.3662)


def test_newcombe_from_the_cells_of_the_table():
    from statsmodels.stats.proportion import proportion_confint

    yy, yn, ny, nn = 36, 12, 2, 5
    a, b = np.repeat([1, 1, 0, 0], [yy, yn, ny, nn]), np.repeat([1, 0, 1, 0], [yy, yn, ny, nn])
    e = estimate("mean_difference", pair(arm(a, "a"), arm(b, "b"), "t"), 0.95)
    n = yy + yn + ny + nn
    (al, au), (bl, bu) = (proportion_confint(k, n, method="wilson") for k in (yy + yn, yy + ny))
    p, q = (yy + yn) / n, (yy + ny) / n
    phi = (yy * nn - yn * ny) / np.sqrt((yy + yn) * (ny + nn) * (yy + ny) * (yn + nn))
    low = p - q - np.sqrt((p - al) ** 2 - 2 * phi * (p - al) * (bu - q) + (bu - q) ** 2)
    high = p - q + np.sqrt((au - p) ** 2 - 2 * phi * (au - p) * (q - bl) + (q - bl) ** 2)
    assert (e.value, e.lo, e.hi) == pytest.approx((10 / n, low, high))


def test_rates_that_never_differ_still_have_an_interval():
    e = estimate("mean_difference", pair(arm(np.ones(50), "a"), arm(np.ones(50), "b"), "t"), 0.95)
    assert e.value == 0 and e.lo < -0.01 and e.hi > 0.01


def groups(values, labels, **columns):
    return pd.DataFrame({"unit": [f"u{i}" for i in range(len(values))], "value": values, "label": labels, **columns})


def test_a_label_difference_leaves_zero_out_exactly_where_the_permutation_test_rejects(rng):
    labels = np.array(list("1111111" + "00000000"))
    decided = []
    for shift in np.linspace(0, 3, 16):
        x = rng.normal(size=15) + shift * (labels == "1")

        def difference(a, b):
            return a.mean() - b.mean()

        peer = stats.permutation_test(
            (x[:7], x[7:]), difference, n_resamples=np.inf, permutation_type="independent", alternative="greater"
        )
        e = estimate("label_difference", arm(groups(x, labels), "x"), 0.95)
        assert e.n == 15 and e.value == pytest.approx(x[:7].mean() - x[7:].mean())
        assert (e.lo > 0) == (peer.pvalue <= 0.025)
        decided.append(e.lo > 0)
    assert {False, True} == set(decided)


def test_a_label_difference_moves_with_the_group(rng):
    labels = list("1111111" + "00000000")
    x = rng.normal(size=15)
    one = estimate("label_difference", arm(groups(x, labels), "x"), 0.95)
    moved = estimate("label_difference", arm(groups(x + 3 * (np.array(labels) == "1"), labels), "x"), 0.95)
    assert (moved.lo - one.lo, moved.hi - one.hi) == pytest.approx((3, 3))
    turned = estimate("label_difference", arm(groups(-x, labels), "x"), 0.95)
    assert (turned.lo, turned.hi) == pytest.approx((-one.hi, -one.lo))


def test_as_many_deals_as_a_level_needs():
    # 4 of 8 can be dealt in 70 ways, 3 of 6 in 20: no p value of those lies below 1/20.
    e = estimate("label_difference", arm(groups([9.0, 9, 9, 9, 0, 0, 0, 0], list("11110000")), "x"), 0.95)
    assert e.lo > 0 and e.n == 8
    with pytest.raises(SampleError, match=r"3 of 6 units have the label 1, which can be dealt in 20 ways; .* needs 40"):
        estimate("label_difference", arm(groups([9.0, 9, 9, 0, 0, 0], list("111000")), "x"), 0.95)


def test_pairs_within_a_group_against_a_permutation_test_by_hand(rng):
    from itertools import combinations

    n, members = 9, (0, 1, 2, 3)
    cosine = {pair: rng.normal() + 1.5 * (set(pair) <= set(members)) for pair in combinations(range(n), 2)}
    rows = [(f"u{i}", f"u{j}", v, f"{int(i in members)}{int(j in members)}") for (i, j), v in cosine.items()]
    e = estimate("within_minus_rest", arm(pd.DataFrame(rows, columns=["unit", "other", "value", "label"]), "x"), 0.95)

    def difference(group, shift):
        value = {pair: v - shift * (set(pair) <= set(members)) for pair, v in cosine.items()}
        inside = [v for pair, v in value.items() if set(pair) <= set(group)]
        outside = [v for pair, v in value.items() if not set(pair) <= set(group)]
        return np.mean(inside) - np.mean(outside)

    def p_values(shift):
        deals = np.array([difference(deal, shift) for deal in combinations(range(n), 4)])
        true = difference(members, shift)
        return np.mean(deals >= true - 1e-12), np.mean(deals <= true + 1e-12)

    assert e.value == pytest.approx(difference(members, 0))
    # Just outside the interval the test rejects, just inside it does not.
    assert p_values(e.lo - 1e-6)[0] <= 0.025 < p_values(e.lo + 1e-6)[0]
    assert p_values(e.hi + 1e-6)[1] <= 0.025 < p_values(e.hi - 1e-6)[1]


def test_fitting_seeds_widen_a_permutation_interval(rng):
    x, labels = rng.normal(size=15), list("1111111" + "00000000")
    one = groups(x, labels)
    still = pd.concat([one.assign(seed=s) for s in range(3)])
    moved = pd.concat([one.assign(seed=s, value=x + s * (one["label"] == "1")) for s in range(3)])
    widths = [estimate("label_difference", arm(t, "x"), 0.95) for t in (one, still, moved)]
    single, unmoved, wider = [e.hi - e.lo for e in widths]
    assert single == pytest.approx(unmoved) and wider > unmoved + 1


def test_many_labelled_units_are_dealt_at_random_and_the_same_each_time(rng):
    table = arm(groups(rng.normal(size=60), ["1"] * 30 + ["0"] * 30), "x")
    assert estimate("label_difference", table, 0.95) == estimate("label_difference", table, 0.95)


@pytest.mark.parametrize(
    ("statistic", "table", "sentence"),
    [
        ("label_difference", {"label": ["1", "x"]}, "the label of a row must be 0 or 1, not 'x'"),
        ("within_minus_rest", {"other": ["b", "c"], "label": ["1", "0"]}, "must be 00, 01, 10 or 11"),
        ("within_minus_rest", {"other": ["b", "a"], "label": ["11", "01"]}, "the unit [ab] has both labels"),
        ("label_difference", {"label": ["1", "1"]}, "2 of 2 units have the label 1"),
    ],
)
def test_labels_that_deal_nothing_are_refused(statistic, table, sentence):
    rows = pd.DataFrame({"unit": ["a", "b"], "value": [1.0, 2.0], **table})
    with pytest.raises(SampleError, match=sentence):
        estimate(statistic, arm(rows, "x"), 0.95)


def test_rank_correlation_slope_auroc_kappa_agree_with_other_libraries(rng):
    from sklearn.metrics import cohen_kappa_score, roc_auc_score

    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    table = arm({"value": y, "x": x}, "t")
    assert estimate("rank_correlation", table, 0.95).value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert estimate("slope", table, 0.95).value == pytest.approx(stats.linregress(x, y).slope)
    label = (x > 0).astype(int)
    assert estimate("auroc", arm({"value": y, "label": label}, "t"), 0.95).value == pytest.approx(
        roc_auc_score(label, y)
    )
    ratings = arm({"value": label, "label": (y > 0).astype(int)}, "t")
    assert estimate("kappa", ratings, 0.95).value == pytest.approx(cohen_kappa_score(label, y > 0))


def test_ratio_of_sums_is_not_the_mean_of_ratios():
    e = estimate("ratio_of_sums", pair(arm([1.0, 9.0], "a"), arm([1.0, 3.0], "b"), "t"), 0.95)
    assert e.value == pytest.approx(2.5)


def test_pairs_resample_their_units(rng):
    # Values v_i + v_j: the mean's variance is 4 var(v) / n, far above that of n (n - 1) / 2 independent pairs.
    n, v = 60, rng.normal(size=60)
    i, j = np.triu_indices(n, 1)
    e = estimate("pairwise_mean", arm({"unit": i, "other": j, "value": v[i] + v[j]}, "t"), 0.95)
    assert e.n == n
    half = stats.t.ppf(0.975, n - 1) * 2 * v.std(ddof=1) / np.sqrt(n)
    assert (e.hi - e.lo) / 2 == pytest.approx(half, rel=0.1)


def test_within_minus_between():
    table = arm(
        {
            "unit": [0, 0, 0, 1, 1, 2],
            "other": [1, 2, 3, 2, 3, 3],
            "value": [0.9, 0.1, 0.1, 0.1, 0.1, 0.7],
            "label": ["within", *["between"] * 4, "within"],
        },
        "t",
    )
    assert estimate("within_minus_between", table, 0.95, exact=True).value == pytest.approx(0.7)


def test_fitting_seeds_widen_the_interval(rng):
    units, seeds = 200, 4
    noise = rng.normal(0, 0.1, units)
    table = pd.concat(
        pd.DataFrame({"unit": np.arange(units), "seed": s, "value": noise + shift})
        for s, shift in enumerate(np.linspace(-1, 1, seeds))
    )
    e = estimate("mean", arm(table, "t"), 0.95)
    one = estimate("mean", arm(table[table["seed"] == 0].drop(columns="seed"), "t"), 0.95)
    assert e.seeds == seeds and (e.hi - e.lo) > 20 * (one.hi - one.lo)
    # The seeds dominate: Satterthwaite's degrees of freedom are about S - 1.
    half = stats.t.ppf(0.975, seeds - 1) * np.linspace(-1, 1, seeds).std(ddof=1) / 2
    assert (e.hi - e.lo) / 2 == pytest.approx(half, rel=0.02)


def test_the_same_samples_give_the_same_interval(rng):
    x = rng.normal(size=50)
    assert estimate("mean", arm(x, "x"), 0.95) == estimate("mean", arm(x.copy(), "x"), 0.95)


def test_units_of_their_own_in_each_seed_count_once_and_lie_within_the_interval():
    """Three SAEs of 16 latents each, all of them right: 48 of 48, not 16."""
    rows = [(f"{seed}/{i}", seed, 1.0) for seed in range(3) for i in range(16)]
    found = estimate("rate", pd.DataFrame(rows, columns=["unit", "seed", "value"]), 0.95)
    from statsmodels.stats.proportion import proportion_confint

    lo, hi = proportion_confint(48, 48, method="wilson")
    assert (found.value, found.n) == (1, 48) and (found.lo, found.hi) == pytest.approx((lo, hi))
    # Seeds that differ are resampled, whatever the order of their values.
    rows = [(f"{seed}/{i}", seed, float(i < 4 + 4 * seed)) for seed in range(3) for i in range(16)]
    found = estimate("rate", pd.DataFrame(rows, columns=["unit", "seed", "value"]), 0.95)
    assert found.value == pytest.approx(0.5) and found.lo < 0.3 and found.hi > 0.7


def test_rates_that_no_seed_moves_get_a_closed_form():
    table = {"unit": np.tile(np.arange(5), 3), "seed": np.repeat([0, 1, 2], 5), "value": np.ones(15)}
    e = estimate("rate", arm(table, "t"), 0.95)
    assert e.value == 1 and e.lo < 0.6 and e.seeds == 3


@pytest.mark.parametrize(
    ("name", "table", "says"),
    [
        ("rate", {"value": [0.5, 1, 0]}, "share of units"),
        ("slope", {"value": [1, 2, 3]}, "needs the column 'x'"),
        ("auroc", {"value": [1, 2, 3], "label": [1, 1, 1]}, "not defined"),
        ("mean", {"value": [1.0]}, "one unit"),
    ],
)
def test_samples_that_say_nothing_are_refused(name, table, says):
    with pytest.raises(SampleError, match=says):
        estimate(name, arm(table, "t"), 0.95, where="C1")
