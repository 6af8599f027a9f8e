"""Repeatable, resumable, refusing: the trainer (dossier section 8, items 5 and 12; section 9)."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from papercore.sae import metrics, registry
from papercore.sae.base import SAEError
from papercore.sae.trainer import Recipe, train
from papercore.sae.transcoder import Transcoder

SHORT = Recipe(steps=40, batch=256, lr=3e-3)


def _weights(name, x, recipe=SHORT, seed=0, **rest):
    sae = registry.make(name, 64, 256, 5, seed=seed)
    train(sae, x, recipe, **rest)
    return sae


@pytest.mark.parametrize("name", ["topk", "batch_topk", "gated", "jumprelu", "switch"])
def test_one_seed_twice_is_equal_to_the_bit(name, x):
    a, b = (_weights(name, x).state_dict() for _ in range(2))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_two_seeds_differ(x):
    a, b = _weights("topk", x), _weights("topk", x, seed=1)
    assert metrics.mmcs(a.decoder.detach(), b.decoder.detach()) < 0.999
    c = _weights("topk", x, Recipe(**{**SHORT.__dict__, "seed": 1}))
    assert not torch.equal(a.decoder, c.decoder)


@pytest.mark.parametrize("name", ["relu", "batch_topk", "jumprelu"])
def test_an_interrupted_training_ends_at_the_same_weights(name, x, tmp_path):
    whole = _weights(name, x).state_dict()

    def stop(step, steps, row):
        if step == 25:
            raise KeyboardInterrupt

    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        _weights(name, x, checkpoint=path, every=10, progress=stop)
    seen = []
    sae = registry.make(name, 64, 256, 5)
    history = train(sae, x, SHORT, checkpoint=path, every=10, progress=lambda step, *_: seen.append(step))
    assert seen[0] == 21 and list(history["step"]) == list(range(40))
    assert all(torch.equal(whole[key], value) for key, value in sae.state_dict().items())


def test_a_checkpoint_of_another_run_is_not_gone_on_with(x, tmp_path):
    path = tmp_path / "run.safetensors"
    _weights("topk", x, checkpoint=path)
    seen = []
    _weights("topk", x, seed=3, checkpoint=path, progress=lambda step, *_: seen.append(step))
    assert seen[0] == 1
    path.write_bytes(b"cut")
    seen.clear()
    _weights("topk", x, checkpoint=path, progress=lambda step, *_: seen.append(step))
    assert seen[0] == 1
    for skip, target in ((False, x), (False, -x), (True, -x)):
        seen.clear()
        other = Transcoder(64, 256, 5, skip=skip)
        train(other, x, SHORT, target=target, checkpoint=path, progress=lambda step, *_: seen.append(step))
        assert seen[0] == 1
    tensors = load_file(path)
    save_file(tensors, path)  # without its identity
    seen.clear()
    _weights("topk", x, checkpoint=path, progress=lambda step, *_: seen.append(step))
    assert seen[0] == 1


@pytest.mark.parametrize("name", ["relu", "gated", "p_anneal", "jumprelu"])
def test_the_penalty_is_steered_until_l0_is_near_k(name, x, held_out):
    sae = registry.make(name, 64, 256, 5)
    history = train(sae, x, Recipe(steps=300, batch=512, lr=3e-3))
    assert float(history["l0"].tail(20).mean()) == pytest.approx(5, rel=0.25)
    assert metrics.summary(sae, held_out)["L0"] == pytest.approx(5, rel=0.3)


def test_topk_recovers_a_known_dictionary_and_a_frozen_decoder_does_not(world, held_out):
    """256 directions in 64 dimensions, about five active: MMCS at least 0.9, and at most 0.6 (item 5)."""
    states = world.sample(60_000)[0]
    states /= states.square().sum(1).mean().div(64).sqrt()
    found = {}
    for name in ("topk", "frozen_decoder"):
        sae = registry.make(name, 64, 256, 5)
        train(sae, states, Recipe(steps=600, batch=1024, lr=3e-3))
        found[name] = metrics.mmcs(world.directions, sae.decoder.detach())
    assert found["topk"] >= 0.9 and found["frozen_decoder"] <= 0.6


def test_dead_latents_are_counted_on_the_runs_own_scale_and_woken(x):
    """Latents that start pointing away from the data die; AuxK brings most of them back."""
    dead = {}
    for scale in (1, 10**6):  # so late that the criterion never fires
        sae = registry.make("topk", 64, 256, 5)
        sae.encoder_bias.data[:128] = -3
        history = train(sae, x, Recipe(steps=150, batch=512, lr=3e-2, dead_after=scale))
        fired = metrics.density(sae, x)[:128] > 0
        dead[scale] = (float((~fired).float().mean()), float(history["dead"].max()))
    assert dead[10**6][1] == 0 and dead[1][1] > 0.3
    assert dead[1][0] < dead[10**6][0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[:0], "hold no tokens"),
        (lambda x: x[:, :60], "60 numbers a token, but the SAE takes 64"),
        (lambda x: x.clone().index_fill_(0, torch.tensor([3]), float("nan")), "1 of 20000 activations are NaN"),
    ],
)
def test_activations_that_cannot_be_trained_on_are_refused(x, change, said):
    with pytest.raises(SAEError, match=said):
        train(registry.make("topk", 64, 256, 5), change(x), SHORT)


def test_few_tokens_for_so_many_latents_are_warned_of(x):
    with pytest.warns(UserWarning, match="1000 tokens for 256 latents"):
        train(registry.make("topk", 64, 256, 5), x[:1000], Recipe(steps=1, batch=100))
