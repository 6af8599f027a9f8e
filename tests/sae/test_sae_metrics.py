"""Metrics against arithmetic done by hand, and the definitions that differ (dossier section 8, items 4 and 14)."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from papercore.sae import metrics, recovery, registry
from papercore.sae.activations import keep, scale, tokens
from papercore.sae.base import SAEError
from papercore.sae.controls import PCA
from papercore.sae.gated import Gated
from papercore.sae.jumprelu import JumpReLU
from papercore.sae.relu import ReLU
from papercore.sae.topk import TopK
from papercore.sae.trainer import Recipe, train


def test_a_perfect_and_an_empty_reconstruction(x):
    x = x[x.norm(dim=1) > 0]  # a token on which nothing fires has no direction
    same = metrics.per_token(lambda part: part, x)
    assert metrics.fvu(same) == 0 and metrics.cosine(same) == pytest.approx(1, abs=1e-6)
    assert metrics.bias(same) == pytest.approx(1, abs=1e-6) and metrics.l2_ratio(same) == pytest.approx(1, abs=1e-6)
    mean = metrics.per_token(lambda part: x.mean(0).expand_as(part), x)
    assert metrics.fvu(mean) == pytest.approx(1, abs=1e-6)


def test_half_the_vector_by_hand():
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
    table = metrics.per_token(lambda part: part / 2, x)
    assert metrics.fvu(table) == pytest.approx(0.25)
    assert metrics.bias(table) == pytest.approx(0.5) and metrics.l2_ratio(table) == pytest.approx(0.5)
    assert metrics.variance_ratio(lambda part: part / 2, x) == pytest.approx(0.25)


def test_variance_ratio_is_not_explained_variance_on_an_l1_sae(x, held_out):
    sae = ReLU(64, 256, 5)
    train(sae, x, Recipe(steps=200, batch=512, lr=3e-3))
    explained = metrics.explained_variance(metrics.per_token(sae, held_out))
    assert abs(metrics.variance_ratio(sae, held_out) - explained) > 0.05
    # Where the error is uncorrelated with what is written, both are one.
    pca = PCA(held_out, 20)
    explained = metrics.explained_variance(metrics.per_token(pca, held_out))
    assert metrics.variance_ratio(pca, held_out) == pytest.approx(explained, abs=1e-4)


def test_noise_raises_the_variance_ratio_and_lowers_explained_variance(held_out):
    noise = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(1))
    found = [lambda part, s=s: part + s * noise[: len(part)] for s in (0.0, 1.0)]
    ratios = [metrics.variance_ratio(one, held_out) for one in found]
    explained = [metrics.explained_variance(metrics.per_token(one, held_out, len(held_out))) for one in found]
    assert ratios[1] > ratios[0] + 0.5 and explained[1] < explained[0] - 0.5


def test_density_and_l0_count_the_same_firings(x):
    sae = TopK(64, 256, 5)
    l0 = metrics.per_token(sae, x[:3000])["l0"].mean()
    assert float(metrics.density(sae, x[:3000]).sum()) == pytest.approx(l0, rel=1e-5)


def test_mmcs_finds_a_dictionary_again_whatever_its_order():
    rows = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    assert metrics.mmcs(rows, 3 * rows[torch.randperm(20)]) == pytest.approx(1, abs=1e-6)
    assert metrics.mmcs(rows, -rows) < 0.99
    assert float(metrics.best_cosines(rows, -rows, signed=False).mean()) == pytest.approx(1, abs=1e-6)
    with pytest.raises(SAEError, match="8 and 9 dimensions"):
        metrics.mmcs(rows, torch.ones(2, 9))


def test_position_0_and_outliers_are_left_out_of_the_tokens():
    draw = torch.Generator().manual_seed(0)
    states = [torch.randn(9, 4, generator=draw) for _ in range(5)]
    for one in states:
        one[0] = 1000.0
    states[2][4] *= 100
    found = tokens(states)
    assert len(found) == 5 * 8 - 1 and (found.position > 0).all()
    assert not ((found.document == 2) & (found.position == 4)).any()
    assert [int(mask.sum()) for mask in keep(states)] == [8, 8, 7, 8, 8]
    assert found.of([2]).document.unique().tolist() == [2]
    first = tokens(states, first=True)
    assert len(first) == len(found) + 5
    assert scale(first.x) > 50 * scale(found.x)
    assert float((found.x / scale(found.x)).square().sum(1).mean()) == pytest.approx(4, rel=1e-5)
    with pytest.raises(SAEError, match="position 0 is never used"):
        tokens([torch.ones(1, 4)])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_no_outliers(bad):
    states = [torch.ones(5, 4), torch.ones(5, 4)]
    states[1][3, 2] = bad
    for read in (tokens, keep, lambda states: tokens(states, 10.0)):
        with pytest.raises(SAEError, match="1 of 5 activations of document 1 are NaN or infinite"):
            read(states)


def test_scores_of_recovery_by_hand():
    assert recovery.score(2.0, 2.0, 10.0) == 1 and recovery.score(2.0, 10.0, 10.0) == 0
    assert recovery.score(2.0, 3.0, 10.0) == pytest.approx(0.875)
    rows = [(0, name, ce, 4.0, kl, 2) for name, ce, kl in (("sae", 5, 1), ("zero", 20, 16), ("mean", 12, 8))]
    table = recovery.doctor(pd.DataFrame(rows, columns=["document", "function", "ce", "clean", "kl", "n"]))
    assert table.loc["sae", "CE"] == 2.5 and table.loc["sae", "CE score (mean)"] == pytest.approx(7 / 8)
    assert table.loc["sae", "CE score (zero)"] == pytest.approx(15 / 16)
    assert table.loc["sae", "KL score (mean)"] == pytest.approx(7 / 8)
    assert table.loc["zero", "CE score (zero)"] == 0 and table.loc["mean", "CE score (mean)"] == 0


VECTORS = Path(__file__).parent / "data" / "dictionary_learning_codes.json"


@pytest.mark.parametrize("name", ["topk", "gated", "jumprelu"])
def test_codes_are_those_of_dictionary_learning_on_the_same_weights(name):
    """Weights, inputs and codes stored from the peer's own classes (item 4)."""
    said = json.loads(VECTORS.read_text())[name]
    weights = {key: torch.tensor(value) for key, value in said["weights"].items()}
    x, wanted = torch.tensor(said["x"]), torch.tensor(said["codes"])
    d, m = x.shape[1], wanted.shape[1]
    sae = {"topk": TopK, "gated": Gated, "jumprelu": JumpReLU}[name](d, m, said["k"]).eval()
    for parameter in sae.parameters():
        parameter.requires_grad_(False)
    sae.encoder.copy_(weights["encoder"])
    sae.decoder.copy_(weights["decoder"])
    sae.decoder_bias.copy_(weights["decoder_bias"])
    sae.encoder_bias.copy_(weights["encoder_bias"])
    if name == "gated":
        sae.log_gain.copy_(weights["log_gain"])
        sae.magnitude_bias.copy_(weights["magnitude_bias"])
    if name == "jumprelu":
        sae.centred = False  # the peer takes no bias off its input by default
        sae.log_threshold.copy_(weights["threshold"].log())
    assert torch.allclose(sae.encode(x), wanted, atol=1e-5) and (wanted > 0).any()
    assert torch.allclose(sae(x), torch.tensor(said["x_hat"]), atol=1e-5)


def test_every_entry_has_a_summary(x):
    sae = registry.make("batch_topk", 64, 256, 5)
    train(sae, x, Recipe(steps=20, batch=256))
    found = metrics.summary(sae, x[:1000])
    assert found["FVU"] == pytest.approx(1 - found["explained variance"]) and 0 <= found["dead"] <= 1
