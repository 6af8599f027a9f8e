"""Sparse probing, absorption, TPP, SCR: known answers on data made for them."""

import numpy as np
import pytest
import torch

from papercore.probes.logistic import ProbeError
from papercore.sae import functional, synthetic
from papercore.sae.topk import TopK


def _labelled(n=400, d=20, signal=3.0, seed=0):
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 2, n)
    x = draw.normal(size=(n, d))
    x[:, 7] += signal * y
    return torch.tensor(x, dtype=torch.float32), y


def test_the_one_feature_that_knows_is_chosen_and_probed():
    x, y = _labelled()
    assert functional.best_features(x, y, 1).tolist() == [7]
    right = functional.answers(x[200:], y[200:], functional.sparse_probe(x[:200], y[:200], 1))
    assert right.mean() > 0.85
    x, y = _labelled(signal=0)
    right = functional.answers(x[200:], y[200:], functional.sparse_probe(x[:200], y[:200], 1))
    assert 0.35 < right.mean() < 0.65


def test_a_large_feature_hides_a_telling_one_unless_scaled():
    x, y = _labelled()
    x[:, 2] *= 1000
    assert functional.best_features(x, y, 1).tolist() == [2]
    assert functional.best_features(x, y, 1, scaled=True).tolist() == [7]


def test_features_that_do_not_vary_are_never_probed():
    x, y = torch.zeros(50, 6), np.arange(50) % 2
    assert (functional.answers(x, y, functional.sparse_probe(x, y, 2)) == 0.5).all()
    x[:, 3] = torch.as_tensor(y)
    assert functional.answers(x, y, functional.sparse_probe(x, y, None)).mean() == 1
    with pytest.raises(ProbeError, match="needs both classes"):
        functional.sparse_probe(x, np.zeros(50), 1)


def test_mean_codes_are_means_over_a_documents_tokens(x):
    sae = TopK(64, 256, 5)
    document = torch.arange(600) % 3
    found = functional.mean_codes(sae, x[:600], document, 4)
    assert torch.allclose(found[1], sae.encode(x[:600])[document == 1].mean(0), atol=1e-5)
    assert (found[3] == 0).all()
    means = functional.mean_tokens(x[:600], document, 4)
    assert torch.allclose(means[2], x[:600][document == 2].mean(0), atol=1e-5)


def test_silence_for_want_of_room_is_no_absorption():
    """A parent's latent that is silent on half of its tokens, child or not, has absorbed nothing."""
    world = synthetic.world(20, 32, 3, children=1, seed=1)
    codes = world.sample(20_000)[1]
    thinned = codes.clone()
    thinned[torch.rand(len(codes), generator=torch.Generator().manual_seed(0)) < 0.5, 0] = 0
    decoder = world.directions.clone()
    decoder[1] = torch.nn.functional.normalize(decoder[1] + decoder[0], dim=0)
    assert abs(functional.absorption(thinned, decoder, codes, world.directions, (0, 1))) < 0.05


def test_a_child_that_outshouts_its_parent_has_not_absorbed_it():
    """The parent's latent is silent wherever the child is, but the child's writes the child alone."""
    world = synthetic.world(20, 32, 3, children=1, seed=1)
    codes = world.sample(3000)[1]
    drowned = codes.clone()
    drowned[codes[:, 1] > 0, 0] = 0
    assert functional.absorption(drowned, world.directions, codes, world.directions, (0, 1)) == 0


def test_absorption_is_none_for_the_true_dictionary_and_whole_for_one_that_absorbs():
    world = synthetic.world(20, 32, 3, children=2, seed=1)
    codes = world.sample(3000)[1]
    parent, child = world.children[0]
    assert ((codes[:, child] > 0) <= (codes[:, parent] > 0)).all() and (codes[:, child] > 0).any()
    directions = world.directions
    assert functional.absorption(codes, directions, codes, directions, (parent, child)) == 0
    absorbed, decoder = codes.clone(), directions.clone()
    absorbed[codes[:, child] > 0, parent] = 0
    decoder[child] = torch.nn.functional.normalize(directions[child] + directions[parent], dim=0)
    assert functional.absorption(absorbed, decoder, codes, directions, (parent, child)) == 1
    with pytest.raises(ValueError, match="no token has both"):
        functional.absorption(codes[:0], directions, codes[:0], directions, (parent, child))


def _two_concepts(n=800, seed=0):
    """Documents with two independent concepts, each written by a latent of its own."""
    draw = np.random.default_rng(seed)
    labels = {"a": draw.integers(0, 2, n), "b": draw.integers(0, 2, n)}
    codes = torch.zeros(n, 6)
    codes[:, 0], codes[:, 1] = torch.as_tensor(labels["a"]), torch.as_tensor(labels["b"])
    decoder = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))[0]
    x = 4 * codes @ decoder + 0.3 * torch.randn(n, 6, generator=torch.Generator().manual_seed(1))
    return x, 4 * codes, decoder, labels


def test_tpp_takes_a_concept_and_leaves_the_other():
    x, codes, decoder, labels = _two_concepts()
    train, test = np.arange(400), np.arange(400, 800)
    concepts = {name: (train, y[train], test, y[test]) for name, y in labels.items()}

    def best(codes, y):
        return functional.best_features(codes, y, 1)

    lost = functional.tpp(x, codes, decoder, concepts, best)
    assert lost.diagonal().min() > 0.4 and abs(lost[0, 1]) < 0.05 and abs(lost[1, 0]) < 0.05
    assert not functional.tpp(x, codes, torch.zeros_like(decoder), concepts, best).any()


def test_scr_gives_back_what_a_bias_took():
    draw = np.random.default_rng(0)
    wanted, spurious = draw.integers(0, 2, 800), draw.integers(0, 2, 800)
    # The spurious concept has a latent for either class and shouts, so that the biased probe listens to it.
    codes = torch.zeros(800, 6)
    for column, (label, size) in enumerate([(wanted, 4), (1 - wanted, 4), (spurious, 28), (1 - spurious, 28)]):
        codes[:, column] = torch.as_tensor(size * label)
    decoder = torch.eye(6)
    x = codes @ decoder + torch.randn(800, 6, generator=torch.Generator().manual_seed(1))
    train, test = np.arange(400), np.arange(400, 800)
    assert functional.scr(x, codes, decoder, wanted, spurious, train, test, 2) > 0.8
    nothing = functional.scr(x, codes, torch.zeros_like(decoder), wanted, spurious, train, test, 2)
    assert nothing == pytest.approx(0)
    with pytest.raises(ProbeError, match="nothing to remove"):
        functional.scr(x, codes, decoder, wanted, wanted, train, test, 2)
