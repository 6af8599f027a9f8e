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
