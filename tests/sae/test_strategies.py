"""Layer groups, aligned features, end-to-end fine-tuning."""

import pytest
import torch

from papercore.sae import strategies
from papercore.sae.activations import keep, norm_limit, scale, tokens
from papercore.sae.base import SAEError
from papercore.sae.relu import ReLU
from papercore.sae.topk import TopK
from papercore.sae.trainer import Recipe, train


def test_layers_that_point_alike_are_grouped():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(200, 16, generator=draw), torch.randn(200, 16, generator=draw)
    noise = [0.1 * torch.randn(200, 16, generator=draw) for _ in range(4)]
    states = {3: a + noise[0], 4: 5 * a + noise[1], 9: b + noise[2], 10: b + noise[3]}
    assert strategies.layer_groups(states, 2) == [[3, 4], [9, 10]]
    assert strategies.layer_groups(states, 4) == [[3], [4], [9], [10]]
    assert strategies.layer_groups(states, 1) == [[3, 4, 9, 10]]
    distances = strategies.angular_distances(states)
    assert torch.allclose(distances, distances.T, atol=1e-6) and float(distances[0, 2]) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(SAEError, match="4 layers cannot form 5 groups"):
        strategies.layer_groups(states, 5)


def test_the_pull_aligns_the_members(x):
    found = {}
    for weight in (0.0, 1.0):
        both = strategies.FeatureAligned([TopK(64, 128, 5, seed=s) for s in (0, 1)], weight)
        train(both, x, Recipe(steps=120, batch=512, lr=3e-3))
        found[weight] = float(both.alignment().detach())
        assert both(x[:7]).shape == (7, 64)
        assert all(torch.allclose(one.decoder.norm(dim=1), torch.ones(128), atol=1e-4) for one in both.members)
    assert found[1.0] > found[0.0] + 0.05
    with pytest.raises(SAEError, match="two SAEs or more"):
        strategies.FeatureAligned([TopK(64, 128, 5)])
    with pytest.raises(SAEError, match="nothing steers the penalties"):
        strategies.FeatureAligned([ReLU(64, 128, 5, seed=s) for s in (0, 1)])


def test_end_to_end_lowers_the_kl_of_its_own_batches(tiny_model):
    model, texts = tiny_model
    states = model.activations(texts, 1, position="all")
    found = tokens(states)
    sae = TopK(model.d_model, 64, 4)
    train(sae, found.x / scale(found.x), Recipe(steps=60, batch=64, lr=3e-3))
    sae = sae.folded(scale(found.x))
    masks = keep(states, norm_limit(states))
    before = [one.clone() for one in sae.parameters()]
    history = strategies.finetune_end_to_end(sae, model, texts, 1, masks, steps=30, lr=3e-3)
    assert history["kl"].tail(5).mean() < history["kl"].head(5).mean()
    assert any(not torch.equal(a, b) for a, b in zip(before, sae.parameters(), strict=True))
    assert all(p.grad is None for p in model.nn._module.parameters())
