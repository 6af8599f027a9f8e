"""Sparse products against dense ones, forward and backward."""

import pytest
import torch

from papercore.sae import sparse
from papercore.sae.registry import make, names
from papercore.sae.sparse import Codes, Pairs, largest, products_at, weighted_sum


def _problem(density: float):
    draw = torch.Generator().manual_seed(0)
    mask = torch.rand(40, 60, generator=draw) < density
    pairs = Pairs.where(mask)
    values = torch.randn(len(pairs.row), generator=draw, dtype=torch.double).requires_grad_()
    weight = torch.randn(60, 8, generator=draw, dtype=torch.double).requires_grad_()
    return pairs, values, weight


@pytest.mark.parametrize("density", [0.05, 0.5])
def test_weighted_sum_is_the_dense_product_with_its_gradients(density):
    pairs, values, weight = _problem(density)
    assert pairs.dense == (density > sparse.DENSE)
    target = torch.randn(40, 8, dtype=torch.double)
    found = weighted_sum(Codes(pairs, values), weight)
    wanted = torch.zeros(40, 60, dtype=torch.double).index_put((pairs.row, pairs.latent), values) @ weight
    assert torch.allclose(found, wanted, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad((found * target).sum(), (values, weight)),
        torch.autograd.grad((wanted * target).sum(), (values, weight)),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("density", [0.05, 0.5])
def test_products_at_pairs_have_the_dense_gradient(density):
    pairs, _, weight = _problem(density)
    x = torch.randn(40, 8, dtype=torch.double).requires_grad_()
    pull = torch.randn(len(pairs.row), dtype=torch.double)
    found = products_at(pairs, x, weight, (x @ weight.T).detach())
    wanted = (x @ weight.T)[pairs.row, pairs.latent]
    assert torch.equal(found, wanted)
    ours, theirs = (torch.autograd.grad((one * pull).sum(), (weight, x)) for one in (found, wanted))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_a_token_or_a_latent_without_pairs_gets_zeros():
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1, 2] = True
    pairs = Pairs.where(mask)
    weight = torch.ones(4, 5, requires_grad=True)
    found = weighted_sum(Codes(pairs, torch.tensor([2.0])), weight)
    assert found[[0, 2]].abs().sum() == 0 and (found[1] == 2).all()
    (gradient,) = torch.autograd.grad(found.sum(), weight)
    assert (gradient[2] == 2).all() and gradient.sum() == 10


@pytest.mark.parametrize("floor", [float("-inf"), 0.5, 1e9])
def test_largest_takes_exactly_the_largest_whatever_the_guess(floor):
    scores = torch.randn(30, 50, generator=torch.Generator().manual_seed(3))
    pairs = largest(scores, 90, floor)
    found = scores[pairs.row, pairs.latent]
    assert len(found) == 90 and torch.equal(found.sort().values, scores.flatten().topk(90).values.sort().values)
    assert (pairs.row.diff() >= 0).all()


@pytest.mark.parametrize("name", names("base", "architecture", "control"))
def test_a_step_by_pairs_has_the_gradient_of_a_dense_step(name, x, monkeypatch):
    """The same loss with every product dense: gradients agree to 1e-5 of their size."""
    found = []
    for dense in (2.0, -1.0):  # never, always
        monkeypatch.setattr(sparse, "DENSE", dense)
        sae = make(name, 64, 256, 5)
        sae.calibrate(x)
        sae.coefficient = 0.1
        if name == "random_codes":
            sae.requires_grad_(True)
        loss = sae.train().loss(x[:512], dead=torch.arange(256) % 7 == 0)
        loss.total.backward()
        found.append({n: p.grad for n, p in sae.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and found[0]
    for key, gradient in found[0].items():
        assert (gradient - found[1][key]).norm() <= 1e-5 * gradient.norm().clamp_min(1e-8), key


def test_a_reconstruction_has_the_gradient_of_its_input(x):
    """So that an SAE can stand inside a model that is differentiated."""
    sae = make("topk", 64, 256, 5)
    sae.calibrate(x)
    states = x[:50].clone().requires_grad_()
    codes = torch.relu((states - sae.decoder_bias) @ sae.encoder.T + sae.encoder_bias)
    codes = codes * (sae.encode(x[:50]) > 0)
    (a,) = torch.autograd.grad(sae(states).square().sum(), states)
    (b,) = torch.autograd.grad((codes @ sae.decoder + sae.decoder_bias).square().sum(), states)
    assert torch.allclose(a, b, atol=1e-4)
