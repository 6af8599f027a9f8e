import pytest
import torch
from tiny_models import TEXTS, blocks, ids_of, relative_error

from papercore.models import ModelError, Steer

TOLERANCE = 1e-4  # of the token's norm


@torch.no_grad()
def by_transformers(model, texts, side):
    """transformers' own hidden states, one padded batch: layer -> list of (n_tokens_i, d_model)."""
    rows = [model.tokenizer(text)["input_ids"] for text in texts]
    longest = max(map(len, rows))
    pads = [longest - len(row) for row in rows]
    left = side == "left"
    ids = torch.tensor([[0] * pad * left + row + [0] * pad * (not left) for row, pad in zip(rows, pads, strict=True)])
    mask = torch.tensor(
        [[0] * pad * left + [1] * len(row) + [0] * pad * (not left) for row, pad in zip(rows, pads, strict=True)]
    )
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    given = {"attention_mask": mask, "position_ids": positions, "output_hidden_states": True}
    states = model.nn._module(ids, **given).hidden_states
    return {layer: [h[m.bool()] for h, m in zip(hidden, mask, strict=True)] for layer, hidden in enumerate(states)}


def final_norm(model):
    decoder = model.nn._module.get_decoder()
    return next(getattr(decoder, name) for name in ("norm", "ln_f", "final_layer_norm") if hasattr(decoder, name))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("size", [1, 8])
@torch.no_grad()
def test_equals_hidden_states_of_transformers(model, side, size, monkeypatch):
    monkeypatch.setattr(model.tokenizer, "padding_side", side)
    longest = max(len(model.tokenizer(text)["input_ids"]) for text in TEXTS)
    reference = by_transformers(model, TEXTS, side)
    layers = range(model.n_layers + 1)
    budget = 1 if size == 1 else size * longest
    ours = model.activations(TEXTS, layers, position="all", batch_tokens=budget, cache=False)
    ours[model.n_layers] = [final_norm(model)(states) for states in ours[model.n_layers]]
    for layer in layers:
        for mine, theirs in zip(ours[layer], reference[layer], strict=True):
            assert mine.shape == theirs.shape
            assert relative_error(mine, theirs) <= TOLERANCE


def test_positions_pick_from_all_tokens(small):
    everything = small.activations(TEXTS, 2, position="all")
    for position, pick in {
        "last": lambda h: h[-1],
        "mean": lambda h: h.mean(0),
        0: lambda h: h[0],
        -1: lambda h: h[-1],
    }.items():
        picked = small.activations(TEXTS, 2, position=position)
        assert picked.shape == (len(TEXTS), small.d_model) and picked.dtype == torch.float32
        assert torch.allclose(picked, torch.stack([pick(h) for h in everything]), atol=1e-5)


@pytest.mark.parametrize("site", ["attn_out", "mlp_out"])
@torch.no_grad()
def test_submodules_equal_plain_hooks(model, site):
    names = {"attn_out": ("self_attn", "attn", "attention"), "mlp_out": ("mlp",)}[site]
    seen = {}
    hooks = []
    for layer, block in enumerate(blocks(model), start=1):
        name = next(name for name in names if hasattr(block, name))
        part = getattr(block, name)

        def keep(module, inputs, output, layer=layer):
            seen[layer] = (output[0] if isinstance(output, tuple) else output)[0]

        hooks.append(part.register_forward_hook(keep))
    try:
        for text in TEXTS[:3]:
            seen.clear()
            ours = model.activations([text, TEXTS[3]], [1, model.n_layers], site, position="all", cache=False)
            seen.clear()
            model.nn._module(ids_of(model, text))
            for layer, states in ours.items():
                assert relative_error(states[0], seen[layer]) <= TOLERANCE
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def test_mlp_in_equals_what_a_plain_hook_sees(small):
    seen = []
    hook = blocks(small)[1].mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    try:
        for text in TEXTS[:3]:
            (ours,) = small.activations([text], 2, "mlp_in", position="all", cache=False)
            seen.clear()
            small.nn._module(ids_of(small, text))
            assert relative_error(ours, seen[0]) <= TOLERANCE
    finally:
        hook.remove()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma"])
@torch.no_grad()
def test_post_attention_layernorm_is_the_normed_stream_after_attention(tiny, architecture):
    model, text, layer = tiny(architecture), TEXTS[2], 2
    (normed,) = model.activations([text], layer, "post_attention_layernorm", position="all")
    (before,) = model.activations([text], layer - 1, position="all")
    (attention,) = model.activations([text], layer, "attn_out", position="all")
    norm = blocks(model)[layer - 1].post_attention_layernorm
    assert relative_error(normed, norm(before + attention)) <= TOLERANCE
    assert torch.equal(normed, model.activations([text], layer, "mlp_in", position="all")[0])


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3_text", "gpt_neox"])
def test_post_attention_layernorm_that_means_something_else_is_refused(tiny, architecture):
    model = tiny(architecture)
    assert hasattr(blocks(model)[0], "post_attention_layernorm") and not model.supports("post_attention_layernorm")
    sentence = f"in the {architecture} architecture post_attention_layernorm is not the normed residual stream"
    with pytest.raises(ModelError, match=sentence):
        model.activations(TEXTS, 1, "post_attention_layernorm")


def test_site_that_is_absent_is_refused_by_name(tiny):
    opt = tiny("opt")
    assert opt.sites == ("resid_post", "attn_out") and not opt.supports("mlp_out")
    with pytest.raises(ModelError, match="opt architecture has no mlp_out; it has resid_post, attn_out"):
        opt.activations(TEXTS, 1, "mlp_out")
    assert opt.activations(TEXTS, 1, "attn_out").shape == (len(TEXTS), 32)


def test_nothing_deeper_than_asked_runs(small):
    module = small.nn._module
    ran = []
    hooks = [
        module.get_output_embeddings().register_forward_pre_hook(lambda *_: ran.append("head")),
        blocks(small)[2].register_forward_pre_hook(lambda *_: ran.append("block 3")),
        blocks(small)[1].register_forward_pre_hook(lambda *_: ran.append("block 2")),
    ]
    try:
        small.activations(TEXTS, 2, batch_tokens=10_000, cache=False)
        assert ran == ["block 2"]
        small.activations(TEXTS, 3, "attn_out", batch_tokens=10_000, cache=False)
        assert "head" not in ran
    finally:
        for hook in hooks:
            hook.remove()


def test_order_of_texts_and_layers_is_kept(small):
    one = small.activations(TEXTS, 1)
    assert torch.allclose(small.activations(TEXTS[::-1], 1), one.flip(0), atol=1e-5)
    found = small.activations(TEXTS, [3, 1])
    assert list(found) == [3, 1] and torch.equal(found[1], one)


def test_half_precision_gives_float32(folders):
    from papercore.models import load_model

    half = load_model(folders("llama"), device="cpu", dtype="bfloat16")
    states = half.activations(TEXTS, 2)
    assert states.dtype == torch.float32 and half.nn._module.dtype == torch.bfloat16


def test_weights_that_are_not_finite_are_reported(folders):
    from papercore.models import load_model

    broken = load_model(folders("llama"), device="cpu")
    letter = broken.tokenizer("g")["input_ids"][0]
    broken.nn._module.get_input_embeddings().weight.data[letter] = float("nan")
    with pytest.raises(ModelError, match=r"text 1 has activations at layer 1 that are not finite; load .* dtype"):
        broken.activations(["a film", "the dog"], 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"layers": 4}, "layer 4 is out of range for resid_post in .*; choose from 0 to 3"),
        ({"layers": [1, -1]}, "layer -1 is out of range"),
        ({"layers": 1.5}, "layer 1.5 is out of range"),
        ({"layers": []}, "no layer was asked for; choose from 0 to 3"),
        ({"layers": 0, "site": "attn_out"}, "layer 0 is out of range for attn_out in .*; choose from 1 to 3"),
        ({"site": "resid_pre"}, "unknown site 'resid_pre'; the sites are resid_post, attn_out, mlp_in, mlp_out"),
        ({"position": "first"}, "unknown position 'first'; choose last, mean, all or an integer"),
        ({"position": 2}, "text 1 has 2 tokens, too few for position 2"),
        ({"position": -3}, "text 1 has 2 tokens, too few for position -3"),
        ({"texts": ["a", " "]}, "text 1 is empty"),
        ({"texts": []}, "texts must be a non-empty list of strings, not list"),
        ({"texts": "a film"}, "texts must be a non-empty list of strings, not str 'a film'"),
        ({"texts": ["a film " * 20]}, "text 0 needs 140 tokens, but .* reads at most 96"),
        ({"batch_tokens": 0}, "batch_tokens must be a positive integer, not 0"),
        ({"steer": "up"}, "steer takes a Steer or a list of them, not str"),
        ({"steer": Steer(9, torch.ones(32), 1.0)}, "layer 9 is out of range"),
        ({"steer": Steer(1, torch.ones(31), 1.0)}, "the direction has 31 numbers, but .* has 32"),
    ],
)
def test_bad_input_gets_one_sentence(tiny, arguments, sentence):
    with pytest.raises(ModelError, match=sentence) as raised:
        tiny("llama").activations(**{"texts": TEXTS[:2], "layers": 1} | arguments)
    assert "\n" not in str(raised.value)
