"""Probes against scikit-learn, and the scaler folded into raw space."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from papercore.probes.logistic import ProbeError, fit_logistic, fit_probe, fit_probes


@pytest.fixture
def data():
    """Activations with features of very different size, and labels that half of them decide."""
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(300, 24, generator=rng, dtype=torch.double) * torch.logspace(-2, 2, 24) + 5
    y = (((x - 5) / torch.logspace(-2, 2, 24))[:, :12].sum(1) + torch.randn(300, generator=rng) > 0).double()
    return x, y


@pytest.mark.parametrize("n", [18, 120], ids=["n below d", "n above d"])
@pytest.mark.parametrize("c", [0.1, 1.0, 100.0])
def test_many_probes_equal_scikit_learn_one_by_one(data, n, c):
    x, y = data
    rng = torch.Generator().manual_seed(1)
    subsets = torch.stack([torch.randperm(len(x), generator=rng)[:n] for _ in range(5)])
    probes = fit_probes(x, y, subsets, c=c)
    for i, rows in enumerate(subsets):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=c, fit_intercept=False, tol=1e-12, max_iter=100_000)
        )
        model.fit(x[rows].numpy(), y[rows].numpy())
        expected = model[-1].coef_[0]
        assert np.abs(probes.direction[i].numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


def test_only_the_first_rows_of_a_subset_train(data):
    x, y = data
    subset = torch.arange(100)[None]
    other = torch.cat([torch.arange(70), torch.arange(200, 230)])[None]
    same_scaler = torch.cat([x[:70], x[:70].flip(0)]), torch.cat([y[:70], y[:70].flip(0)])
    assert not torch.equal(fit_probes(x, y, subset, n_train=70).mean, fit_probes(x, y, other, n_train=70).mean)
    twice = fit_probes(*same_scaler, torch.arange(140)[None], n_train=70)
    assert torch.allclose(twice.direction, fit_probes(x, y, torch.arange(70)[None]).direction)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_folding_the_scaler_gives_exactly_the_pipelines_predictions(data, fit_intercept):
    x, y = data
    model = make_pipeline(
        StandardScaler(), LogisticRegression(fit_intercept=fit_intercept, tol=1e-6, max_iter=1000)
    ).fit(x.numpy(), y.numpy())
    probe = fit_probe(x, y, fit_intercept=fit_intercept)
    direction, intercept = probe.raw()
    expected = torch.from_numpy(model.decision_function(x.numpy()))
    assert torch.allclose(x @ direction + intercept, expected, rtol=1e-6, atol=1e-8)
    assert torch.allclose(probe.scores(x), expected, rtol=1e-6, atol=1e-8)
    assert torch.equal(probe.scores(x) > 0, torch.from_numpy(model.predict(x.numpy()) == 1))


def test_the_gradient_is_zero_where_it_stops(data):
    x, y = (t[None, :40] for t in data)
    x = (x - x.mean(1)) / x.std(1)
    w = fit_logistic(x, y, c=2.0).requires_grad_()
    loss = (w * w).sum() / 2 + 2 * torch.nn.functional.softplus(-(2 * y - 1) * (x @ w[..., None])[..., 0]).sum()
    assert torch.autograd.grad(loss, w)[0].abs().max() < 1e-6


def bad(x, y, change):
    x, y = x.clone(), y.clone()
    if change == "nan":
        x[3, 2] = float("nan")
    elif change == "constant":
        x[:, 4] = 7.0
    elif change == "one class":
        y[:] = 1
    elif change == "labels":
        y[0] = 2
    elif change == "shapes":
        y = y[:-1]
    return x, y


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("nan", "1 of 300 activations are NaN"),
        ("constant", r"1 of 24 features do not vary \(first: 4\)"),
        ("one class", "needs both classes"),
        ("labels", "labels must be 0 or 1"),
        ("shapes", r"must be \(n, d\) and \(n,\)"),
    ],
)
def test_bad_data_gets_one_sentence(data, change, says):
    x, y = bad(*data, change)
    for fit in (fit_probe, lambda x, y: fit_probes(x, y, torch.arange(300)[None])):
        with pytest.raises(ProbeError, match=says) as err:
            fit(x, y)
        assert "\n" not in str(err.value)


def test_a_subset_with_one_class_is_named(data):
    x, y = data
    with pytest.raises(ProbeError, match="1 of 2 probes saw one class only"):
        fit_probes(x, y, torch.stack([torch.nonzero(y)[:20, 0], torch.arange(20)]))
