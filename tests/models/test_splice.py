"""Splicing: the identity is exact, ablations are what a hook makes, refusals (sae-survey dossier section 8, item 1)."""

import pytest
import torch
from tiny_models import TEXTS, ids_of

from papercore.models import ModelError


def test_the_identity_changes_nothing(model):
    for layer in (0, 1, model.n_layers):
        found = model.splice(TEXTS, layer, lambda states: states)
        for ce, kl, clean in zip(found.ce, found.kl, found.clean, strict=True):
            assert torch.equal(ce, clean) and (kl == 0).all()


@torch.no_grad()
def test_clean_and_spliced_losses_are_those_of_transformers_with_a_hook(model):
    layer = 1
    found = model.splice(TEXTS, layer, {"zero": torch.zeros_like, "half": lambda states: states / 2})
    modules = [m for m in model.nn._module.get_decoder().modules() if isinstance(m, torch.nn.ModuleList)]
    block = next(m for m in modules if len(m) == model.n_layers)[layer - 1]
    for factor, name in ((0.0, "zero"), (0.5, "half")):

        def hook(module, args, output, factor=factor):
            return (factor * output[0], *output[1:]) if isinstance(output, tuple) else factor * output

        for i, text in enumerate(TEXTS):
            ids = ids_of(model, text)
            clean = model.nn._module(ids).logits[0].float().log_softmax(-1)
            handle = block.register_forward_hook(hook)
            try:
                spliced = model.nn._module(ids).logits[0].float().log_softmax(-1)
            finally:
                handle.remove()
            gold = ids[0, 1:, None]
            assert torch.allclose(found[name].clean[i], -clean[:-1].gather(1, gold)[:, 0], atol=1e-3)
            assert torch.allclose(found[name].ce[i], -spliced[:-1].gather(1, gold)[:, 0], atol=1e-3)
            kl = (clean.exp() * (clean - spliced)).sum(-1)[:-1]
            assert torch.allclose(found[name].kl[i], kl, atol=1e-3)


def test_only_kept_tokens_are_replaced_and_batches_do_not_matter(small):
    counts = [len(small.tokenizer(text)["input_ids"]) for text in TEXTS]
    keep = [torch.arange(n) >= 2 for n in counts]
    seen = []

    def zero(states):
        seen.append(len(states))
        return torch.zeros_like(states)

    together = small.splice(TEXTS, 1, zero, keep=keep)
    assert sum(seen) == sum(int(mask.sum()) for mask in keep)
    alone = small.splice(TEXTS, 1, zero, keep=keep, batch_tokens=1)
    for a, b, clean in zip(together.ce, alone.ce, together.clean, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
        assert torch.allclose(a[:2], clean[:2], atol=1e-4)  # predicted before anything is replaced
    nothing = small.splice(TEXTS, 1, zero, keep=[torch.zeros(n, dtype=torch.bool) for n in counts])
    assert all(torch.equal(ce, clean) for ce, clean in zip(nothing.ce, nothing.clean, strict=True))


def test_the_loss_is_the_mean_kl_and_has_a_gradient(small):
    gain = torch.tensor(0.9, requires_grad=True)
    kl, error = small.splice_loss(TEXTS[:1], 1, lambda states: gain * states)
    # The loss counts the last token's prediction too: one more token after the text makes `splice` count it as well.
    ids = small.tokenizer(TEXTS[0])["input_ids"]
    keep = [torch.tensor([True] * len(ids) + [False])]
    found = small.splice([[*ids, ids[0]]], 1, lambda states: 0.9 * states, keep=keep)
    assert float(kl.detach()) == pytest.approx(float(found.kl[0].mean()), rel=1e-3)
    assert float(error.detach()) == pytest.approx(0.01, rel=1e-4)
    slopes = [torch.autograd.grad(one, gain, retain_graph=True)[0] for one in (kl, error)]
    assert all(float(slope) < 0 for slope in slopes)


def test_what_cannot_be_spliced_is_refused(small):
    with pytest.raises(ModelError, match=r"layer 99 is out of range"):
        small.splice(TEXTS, 99, torch.zeros_like)
    with pytest.raises(ModelError, match=r"got activations .* and returned"):
        small.splice(TEXTS, 1, lambda states: states[:, :-1])
    with pytest.raises(ModelError, match="give one each"):
        small.splice(TEXTS, 1, torch.zeros_like, keep=[torch.ones(3, dtype=torch.bool)])
    with pytest.raises(ModelError, match="the mask of text 0"):
        small.splice(TEXTS, 1, torch.zeros_like, keep=[torch.ones(1, dtype=torch.bool)] * len(TEXTS))
    assert small.splice([[5]], 1, torch.zeros_like).ce[0].shape == (0,)  # nothing to predict, nothing lost
