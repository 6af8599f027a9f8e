"""Every entry of the registry: shapes, counts, invariances, refusals (dossier section 8, items 2, 3)."""

import importlib
import math

import numpy as np
import pytest
import torch

from papercore.sae import metrics, registry
from papercore.sae.base import SAEError
from papercore.sae.controls import PCA
from papercore.sae.gated import Gated
from papercore.sae.jumprelu import JumpReLU
from papercore.sae.prolu import ProLU
from papercore.sae.relu import ReLU
from papercore.sae.sparse import Codes
from papercore.sae.trainer import Recipe, train
from papercore.sae.transcoder import Crosscoder, Transcoder

SINGLE = [
    n
    for n in registry.names("base", "architecture", "control", "strategy")
    if n not in ("layer_group", "feature_aligned", "end_to_end")
]
SHORT = Recipe(steps=60, batch=512, lr=3e-3)


@pytest.fixture(scope="module")
def trained(x):
    """Each SAE after a short training, with its FVU before."""
    found = {}
    for name in SINGLE:
        sae = registry.make(name, 64, 256, 5)
        sae.calibrate(x[:4096])
        before = metrics.fvu(metrics.per_token(sae.eval(), x[:2000]))
        if name != "random_codes":
            train(sae, x, SHORT)
        found[name] = (sae, before)
    return found


def test_the_registry_holds_the_surveys_taxonomy_and_more():
    wanted = {
        "relu",
        "gated",
        "topk",
        "batch_topk",
        "prolu",
        "jumprelu",
        "switch",
        "layer_group",
        "feature_choice",
        "mutual_choice",
        "feature_aligned",
        "end_to_end",
        "p_anneal",
        "matryoshka",
        "transcoder",
        "frozen_decoder",
    }
    assert wanted <= set(registry.names())
    for where in registry.table()["code"]:
        module, _, name = where.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("name", SINGLE)
def test_codes_are_never_negative_and_decoder_rows_have_norm_one(name, trained, held_out):
    sae, _ = trained[name]
    codes = sae.encode(held_out)
    assert codes.shape == (len(held_out), 256) and (codes >= 0).all() and (codes > 0).any()
    assert torch.allclose(sae.decoder.norm(dim=1), torch.ones(256), atol=1e-4)
    assert torch.isfinite(sae.loss(held_out).total)
    assert torch.allclose(sae(held_out), sae.decode(codes), atol=1e-4)


@pytest.mark.parametrize("name", [n for n in SINGLE if n != "random_codes"])
def test_training_improves_the_reconstruction(name, trained, x):
    sae, before = trained[name]
    assert metrics.fvu(metrics.per_token(sae, x[:2000])) < before


@pytest.mark.parametrize("name", SINGLE)
def test_folding_the_scale_into_the_weights_changes_units_alone(name, trained, held_out):
    sae, _ = trained[name]
    other = sae.folded(7.0)
    assert torch.allclose(other.encode(7 * held_out), 7 * sae.encode(held_out), atol=1e-3)
    assert torch.allclose(other(7 * held_out), 7 * sae(held_out), atol=1e-3)
    assert torch.allclose(other.decoder, sae.decoder)


def test_topk_keeps_at_most_k(trained, held_out):
    assert trained["topk"][0].encode_sparse(held_out).l0.max() <= 5


def test_batch_topk_keeps_k_a_token_over_the_batch(trained, x):
    sae = trained["batch_topk"][0].train()
    assert len(sae.encode_sparse(x[:700]).pairs.row) == 5 * 700
    sae.eval()


def test_the_threshold_of_batch_topk_gives_k_on_other_data(x, held_out):
    sae = registry.make("batch_topk", 64, 256, 5)
    train(sae, x, Recipe(steps=200, batch=512, lr=3e-3))
    assert float(sae.encode_sparse(held_out).l0.float().mean()) == pytest.approx(5, rel=0.15)


def test_in_evaluation_no_token_depends_on_its_neighbours(trained, held_out):
    for name, (sae, _) in trained.items():
        together = sae.eval().encode(held_out[:50])
        alone = torch.cat([sae.encode(one[None]) for one in held_out[:50]])
        assert torch.allclose(together, alone, atol=1e-4), name


def test_mutual_choice_and_batch_topk_choose_the_same_pairs(x):
    a, b = (registry.make(name, 64, 256, 5).train() for name in ("batch_topk", "mutual_choice"))
    for sae in (a, b):
        sae.calibrate(x[:4096])
    pa, pb = a.encode_sparse(x[:900]).pairs, b.encode_sparse(x[:900]).pairs
    assert torch.equal(pa.row, pb.row) and torch.equal(pa.latent, pb.latent)


def test_feature_choice_gives_every_latent_the_same_tokens_and_none_is_dead(x):
    sae = registry.make("feature_choice", 64, 256, 5).train()
    sae.calibrate(x[:4096])
    codes = sae.encode_sparse(x[:1024])
    assert (torch.bincount(codes.pairs.latent, minlength=256) == 5 * 1024 // 256).all()
    assert (torch.bincount(codes.pairs.latent[codes.active], minlength=256) > 0).all()
    with pytest.raises(SAEError, match="less than one token"):
        sae.encode_sparse(x[:20])


def test_switch_uses_one_expert_and_balances_at_one(x):
    sae = registry.make("switch", 64, 256, 5)
    codes = sae.encode_sparse(x[:400])
    experts = (codes.pairs.latent // 64).view(400, 5)
    assert (experts == experts[:, :1]).all()
    assert torch.equal(experts[:, 0], sae.route(x[:400]).argmax(1))
    sae.router.data.zero_()
    assert float(sae.penalty(sae.encode_sparse(x[:400]), x[:400]).detach()) == pytest.approx(0.01, rel=1e-5)


def test_switch_is_a_topk_sae_of_the_chosen_expert(x):
    """An independent TopK of the expert's rows, scaled by the router, writes the same."""
    sae = registry.make("switch", 64, 256, 5)
    rows, expert = x[:200], sae.route(x[:200]).argmax(1)
    for e in expert.unique().tolist():
        own = slice(64 * e, 64 * e + 64)
        z = (rows[expert == e] - sae.decoder_bias) @ sae.encoder[own].T + sae.encoder_bias[own]
        top = z.topk(5, dim=1)
        codes = torch.zeros_like(z).scatter(1, top.indices, top.values.relu())
        wanted = codes @ sae.decoder[own] * sae.route(rows)[expert == e, e, None] + sae.decoder_bias
        assert torch.allclose(sae(rows)[expert == e], wanted, atol=1e-5)


def test_prolu_passes_its_product_unshifted_where_it_fires():
    sae = ProLU(2, 2, 1)
    sae.encoder.data = torch.eye(2)
    sae.encoder_bias.data = torch.tensor([-1.0, 1.0])
    codes = sae.encode(torch.tensor([[0.9, 0.5], [1.5, -0.5]]))
    assert torch.equal(codes, torch.tensor([[0.0, 0.5], [1.5, 0.0]]))
    loss = sae.encode(torch.tensor([[1.5, -0.5]])).sum()
    assert torch.equal(torch.autograd.grad(loss, sae.encoder_bias)[0], torch.tensor([1.0, 0.0]))


def test_gated_codes_are_a_relu_sae_where_gain_is_one_and_biases_agree(x):
    gated, relu = Gated(64, 256, 5), ReLU(64, 256, 5)
    for sae in (gated, relu):
        sae.calibrate(x[:2000])
    assert torch.allclose(gated.encode(x[:300]), relu.encode(x[:300]), atol=1e-6)
    gated.log_gain.data += math.log(2)
    gated.magnitude_bias.data *= 2
    assert torch.allclose(gated.encode(x[:300]), 2 * relu.encode(x[:300]), atol=1e-5)


def test_the_gates_own_reconstruction_leaves_the_decoder_alone(x):
    sae = Gated(64, 256, 5)
    sae.calibrate(x[:2000])
    codes = sae.encode_sparse(x[:200])
    sae.penalty(codes, x[:200]).backward()
    assert sae.decoder.grad is None and sae.decoder_bias.grad is not None and sae.encoder.grad.abs().sum() > 0


def test_jumprelu_thresholds_learn_by_the_rectangular_kernel():
    """Near it, d code / d threshold is -threshold / width, d L0 / d threshold -1 / width (2407.14435)."""
    sae = JumpReLU(1, 1, 1).train()
    sae.encoder.data.fill_(1)
    sae.bandwidth.fill_(0.4)
    for score, near in ((1.1, True), (0.9, True), (1.3, False), (0.7, False)):
        codes = sae.encode_sparse(torch.tensor([[score]]))
        assert float(codes.values.detach().sum()) == pytest.approx(score if score > 1 else 0)
        (slope,) = (
            torch.autograd.grad(codes.values.sum(), sae.log_threshold) if len(codes.values) else (torch.zeros(1),)
        )
        assert float(slope) == pytest.approx(-1 / 0.4 if near else 0)
    sae.k, sae.coefficient = 2, 3.0
    codes = sae.encode_sparse(torch.tensor([[1.1], [5.0]]))
    (slope,) = torch.autograd.grad(sae.penalty(codes, torch.zeros(2, 1)), sae.log_threshold)
    # L0 = 1, so d/dL0 = 3 * 2 * (1/2 - 1) / 2, and one of two tokens is near.
    assert float(slope) == pytest.approx(3 * 2 * (-0.5) / 2 * (-1 / 0.4) / 2)


def test_p_annealing_goes_from_one_to_a_fifth():
    sae = registry.make("p_anneal", 4, 8, 2)
    seen = []
    for share in np.linspace(0, 1, 11):
        sae.progress(share)
        seen.append(sae.p)
    assert seen[0] == 1 and seen[-1] == pytest.approx(0.2) and seen == sorted(seen, reverse=True)


def test_matryoshka_prefixes_are_nested_and_end_at_the_whole(x):
    sae = registry.make("matryoshka", 64, 256, 5)
    assert sae.ends == [8, 24, 56, 120, 256]
    sae.calibrate(x[:2000])
    loss = sae.train().loss(x[:300])
    error = x[:300] - sae.decode(loss.codes)
    assert loss.mse.item() == pytest.approx(error.square().mean().item(), rel=1e-4)
    assert loss.total.item() > loss.mse.item()


def test_a_transcoder_learns_a_linear_map_and_takes_no_bias_off_its_input(x):
    draw = torch.Generator().manual_seed(5)
    target = x @ torch.randn(64, 32, generator=draw) / 8 + 3
    found = {}
    for skip in (False, True):
        coder = Transcoder(64, 256, 5, d_out=32, skip=skip)
        before = coder.loss(x[:500], target=target[:500]).mse.item()
        train(coder, x, Recipe(steps=150, batch=512, lr=3e-3), target=target)
        found[skip] = float(coder.loss(x[:500], target=target[:500]).mse.detach())
        assert found[skip] < before and coder(x[:5]).shape == (5, 32)
    assert found[True] < found[False]
    plain = Transcoder(64, 256, 5, d_out=32)
    codes = plain.encode(x[:50])
    plain.decoder_bias.data += 100
    assert torch.equal(plain.encode(x[:50]), codes)


def test_a_crosscoder_reads_layers_side_by_side(x):
    coder = Crosscoder(32, 2, 128, 5)
    coder.calibrate(x[:4096])
    before = metrics.fvu(metrics.per_token(coder, x[:2000]))
    train(coder, x, Recipe(steps=60, batch=512, lr=3e-3))
    assert metrics.fvu(metrics.per_token(coder, x[:2000])) < before
    norms = coder.norms()
    assert norms.shape == (128, 2) and torch.allclose(norms.square().sum(1), torch.ones(128), atol=1e-4)


def test_a_frozen_decoder_stays_and_its_encoder_learns(trained):
    sae, fresh = trained["frozen_decoder"][0], registry.make("frozen_decoder", 64, 256, 5)
    assert torch.allclose(sae.decoder, fresh.decoder, atol=1e-6) and not torch.equal(sae.encoder, fresh.encoder)


def test_pca_explains_its_eigenvalues(x):
    pca = PCA(x, 10)
    table = metrics.per_token(pca, x)
    assert metrics.explained_variance(table) == pytest.approx(float(pca.explained[:10].sum()), abs=1e-3)
    assert metrics.explained_variance(metrics.per_token(PCA(x, 64), x)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("topk", (64, 256, 257), "choose k from 1 to 256"),
        ("topk", (64, 256, 0), "choose k from 1 to 256"),
        ("switch", (64, 250, 5), "experts alike"),
        ("switch", (64, 256, 65), "smaller k"),
        ("nonsense", (64, 256, 5), "no SAE is called 'nonsense'; choose relu"),
        ("layer_group", (64, 256, 5), "no SAE is called"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, settings, said):
    with pytest.raises(SAEError, match=said):
        registry.make(name, *settings)


def test_activations_of_another_width_are_refused(trained):
    with pytest.raises(SAEError, match=r"\(10, 63\) do not fit"):
        trained["topk"][0].encode(torch.zeros(10, 63))


def test_codes_as_a_matrix_and_as_pairs_are_one(trained, held_out):
    sae = trained["topk"][0]
    codes = sae.encode_sparse(held_out[:100])
    assert isinstance(codes, Codes) and torch.allclose(sae.decode(codes), sae.decode(codes.dense()), atol=1e-5)
