"""Explaining latents: windows by hand, the peak shown, nothing from steering at dose 0, refusals."""

import numpy as np
import pytest
import torch

from papercore.sae import explain, registry
from papercore.sae.base import SAEError


@pytest.fixture(scope="module")
def fires():
    """One latent on ten documents of four tokens: document i peaks at token i % 4 with code i; 0 and 9 are silent."""
    codes = [torch.zeros(4, 1) for _ in range(10)]
    for i in range(1, 9):
        codes[i][i % 4] = i
        codes[i][(i + 1) % 4] = i / 2
    return explain.Firing(torch.tensor([7]), codes)


def test_maxact_shows_the_strongest_first_then_weaker_ones_then_silent_ones(fires):
    table = explain.max_activating(fires, 0, top=3, each=1, negatives=5)
    top = table[table["kind"] == "top"]
    assert top["document"].tolist() == [8, 7, 6] and top["position"].tolist() == [0, 3, 2]
    assert top["code"].tolist() == [8, 7, 6]
    middle = table[table["kind"].isin(["0.9", "0.75", "0.5"])]
    assert len(middle) and middle["code"].between(1, 5).all()
    silent = table[table["kind"] == "random"]
    assert sorted(silent["document"]) == [0, 9] and (silent["code"] == 0).all()
    assert table["document"].is_unique


def test_only_the_documents_asked_for_are_shown_and_draws_repeat(fires):
    table = explain.max_activating(fires, 0, among=[0, 2, 4])
    assert table["document"].tolist() == [4, 2, 0]
    assert table.equals(explain.max_activating(fires, 0, among=[0, 2, 4]))


def test_firing_is_what_the_sae_encodes_where_a_token_counts(x):
    sae = registry.make("topk", 64, 256, 5).eval()
    sae.calibrate(x[:2000])
    states = [x[:30], x[30:37], x[37:100]]
    masks = [torch.rand(len(one), generator=torch.Generator().manual_seed(0)) < 0.7 for one in states]
    chosen = torch.tensor([3, 200, 77])
    found = explain.firing(sae, states, masks, chosen)
    for one, mask, codes in zip(states, masks, found.codes, strict=True):
        assert (codes[~mask] == 0).all()
        assert torch.allclose(codes[mask], sae.encode(one)[mask][:, chosen], atol=1e-6)


def test_latents_are_drawn_at_random_among_those_that_fire_often_enough(x):
    sae = registry.make("topk", 64, 256, 5).eval()
    sae.calibrate(x[:2000])
    drawn = explain.sample(sae, x, 10, seed=0)
    assert len(drawn.unique()) == 10 and torch.equal(drawn, explain.sample(sae, x, 10, seed=0))
    assert not torch.equal(drawn, explain.sample(sae, x, 10, seed=1))
    assert len(explain.sample(sae, x, 10, seed=0, least=0.9, most=1)) == 10  # none so dense: all that fire stand in
    with pytest.raises(SAEError, match="latents fire on these tokens, but 300 are asked for"):
        explain.sample(sae, x, 300, seed=0)


def test_a_window_begins_where_the_text_does():
    ids = list(range(40))
    assert explain.window(ids, 3) == (0, list(range(8)))
    assert explain.window(ids, 20, before=2, after=1) == (18, [18, 19, 20, 21])
    assert explain.window(ids, 39)[1][-1] == 39


def test_steering_at_dose_0_changes_nothing_and_directions_do_not_mix(tiny_model):
    model, texts = tiny_model
    directions = torch.randn(3, model.d_model, generator=torch.Generator().manual_seed(0))
    found = explain.token_change(model, texts[:4], 1, directions, [0.0, 2.0])
    assert found.shape == (2, 3, model.vocabulary)
    assert found[0].abs().max() < 1e-4 and found[1].abs().max() > 1e-2
    alone = explain.token_change(model, texts[:4], 1, directions[1:2], [2.0])
    assert torch.allclose(found[1, 1], alone[0, 0], atol=1e-4)


def test_vocab_projection_does_not_depend_on_a_rows_length(tiny_model):
    model, _ = tiny_model
    rows = torch.randn(5, model.d_model, generator=torch.Generator().manual_seed(0))
    one, other = (explain.vocab_projection(model, factor * rows) for factor in (1, 30))
    assert np.allclose(one, other, atol=1e-2)
