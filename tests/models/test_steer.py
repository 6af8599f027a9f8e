import pytest
import torch
from tiny_models import TEXTS, blocks

from papercore.models import ModelError, Steer

WHERE = ["last", "generated", "all"]


def direction(model, seed=0):
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))


def changed(before, after):
    """Which tokens of each text differ, one list of booleans a text."""
    return [(a != b).any(-1).tolist() for a, b in zip(before, after, strict=True)]


@pytest.mark.parametrize("mode", ["add", "blend"])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("layer", [0, 2])
def test_touches_exactly_the_positions_it_names(small, where, layer, mode):
    before = small.activations(TEXTS, layer, position="all")
    after = small.activations(TEXTS, layer, position="all", steer=Steer(layer, direction(small), 0.5, where, mode))
    expected = {
        "last": lambda n: [False] * (n - 1) + [True],
        "all": lambda n: [True] * n,
        "generated": lambda n: [False] * n,
    }[where]
    assert changed(before, after) == [expected(len(states)) for states in before]


def test_add_and_blend_are_the_formulas(model):
    layer, b, v = 2, -0.3, direction(model)
    h = model.activations(TEXTS, layer)
    added = model.activations(TEXTS, layer, steer=Steer(layer, v, b))
    assert torch.allclose(added, h + b * v, rtol=1e-5, atol=1e-5)
    blended = model.activations(TEXTS, layer, steer=Steer(layer, v, b, mode="blend"))
    scale = h.abs().mean(1, keepdim=True) / v.abs().mean()
    assert torch.allclose(blended, (1 - b) * h + b * v * scale, rtol=1e-4, atol=1e-4)


def test_steers_of_one_layer_apply_in_order_and_reach_deeper_layers(small):
    one, two = Steer(1, direction(small), 2.0), Steer(1, direction(small, 1), 0.5, mode="blend")
    h = small.activations(TEXTS, 1)
    added = h + 2.0 * direction(small)
    v = direction(small, 1)
    expected = 0.5 * added + 0.5 * v * added.abs().mean(1, keepdim=True) / v.abs().mean()
    both = small.activations(TEXTS, [1, 3], steer=[one, two])
    assert torch.allclose(both[1], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both[1], small.activations(TEXTS, 1, steer=[two, one]), rtol=1e-2)
    assert not torch.allclose(both[3], small.activations(TEXTS, 3), rtol=1e-2)


@pytest.mark.parametrize("mode", ["add", "blend"])
def test_each_text_may_have_its_own_direction(small, mode):
    each = torch.stack([direction(small, seed) for seed in range(len(TEXTS))])
    together = Steer(2, each, 0.4, "all", mode)
    apart = [Steer(2, v, 0.4, "all", mode) for v in each]
    read = small.activations(TEXTS, 3, steer=together)
    made = small.generate_ids(TEXTS[:3], max_new_tokens=4, steer=Steer(2, each[:3], 0.4, "all", mode))
    for row, (text, steer) in enumerate(zip(TEXTS, apart, strict=True)):
        assert torch.allclose(read[row], small.activations([text], 3, steer=steer)[0], rtol=1e-3, atol=1e-3)
        if row < 3:
            assert made[row].tolist() == small.generate_ids([text], max_new_tokens=4, steer=steer)[0].tolist()
    with pytest.raises(ModelError, match="there are 8 directions for 2 texts; give one each, or one"):
        small.activations(TEXTS[:2], 3, steer=together)


def test_a_submodule_before_the_steered_layer_is_read_unsteered(small):
    steer = Steer(2, direction(small), 5.0, "all")
    for site in small.sites[1:]:
        plain, steered = (small.activations(TEXTS, [2, 3], site, steer=s) for s in (None, steer))
        assert torch.equal(plain[2], steered[2]) and not torch.allclose(plain[3], steered[3], rtol=1e-2)


@pytest.mark.parametrize("mode", ["add", "blend"])
@pytest.mark.parametrize("where", WHERE)
def test_strength_zero_is_token_identical(model, where, mode):
    plain = model.generate_ids(TEXTS[:3], max_new_tokens=4)
    steers = [Steer(layer, direction(model), 0.0, where, mode) for layer in (0, 1, model.n_layers)]
    steered = model.generate_ids(TEXTS[:3], max_new_tokens=4, steer=steers)
    assert all(torch.equal(a, b) for a, b in zip(plain, steered, strict=True))


def by_plain_hooks(model, prompt, steers, n):
    """Greedy decoding of our own with plain torch hooks: one prompt, no padding, no cache of keys. New ids, a list."""
    ids = torch.tensor([model.tokenizer(prompt)["input_ids"]])
    length = ids.shape[1]

    def hook_for(steer):
        def hook(module, inputs, output):
            h = output[0] if isinstance(output, tuple) else output
            start = {"all": 0, "generated": length, "last": length - 1}[steer.where]
            v, b = steer.direction, steer.strength
            if steer.mode == "add":
                new = h[:, start:] + b * v
            else:
                new = (1 - b) * h[:, start:] + b * v * h[:, start:].abs().mean(-1, keepdim=True) / v.abs().mean()
            h = torch.cat([h[:, :start], new], 1)
            return (h, *output[1:]) if isinstance(output, tuple) else h

        return blocks(model)[steer.layer - 1].register_forward_hook(hook)

    handles = [hook_for(steer) for steer in steers]
    try:
        with torch.no_grad():
            for _ in range(n):
                scores = model.nn._module(ids, use_cache=False).logits[0, -1]
                ids = torch.cat([ids, scores.argmax()[None, None]], 1)
                if ids[0, -1].item() in model.ends:
                    break
    finally:
        for handle in handles:
            handle.remove()
    return ids[0, length:].tolist()


@pytest.mark.parametrize("mode", ["add", "blend"])
@pytest.mark.parametrize("where", WHERE)
def test_steered_generation_equals_plain_hooks(model, where, mode):
    scale = model.activations(TEXTS, 2).abs().mean() if mode == "add" else 1.0
    steer = Steer(2, direction(model, 3) * scale, 1.5 if mode == "add" else 0.4, where, mode)
    ours = [ids.tolist() for ids in model.generate_ids(TEXTS[:3], steer=steer, max_new_tokens=4)]
    assert ours == [by_plain_hooks(model, text, [steer], 4) for text in TEXTS[:3]]


def test_steers_of_several_layers_in_generation_equal_plain_hooks(small):
    steers = [
        Steer(3, direction(small, 4), 0.3, "generated", "blend"),
        Steer(1, direction(small, 5), 2.0, "all"),
        Steer(1, direction(small, 6), -0.2, "last", "blend"),
    ]
    ours = [ids.tolist() for ids in small.generate_ids(TEXTS[:3], steer=steers, max_new_tokens=4)]
    assert ours == [by_plain_hooks(small, text, steers, 4) for text in TEXTS[:3]]
    assert ours != [ids.tolist() for ids in small.generate_ids(TEXTS[:3], steer=steers[1:2], max_new_tokens=4)]


@pytest.mark.parametrize("where", WHERE)
def test_generation_steers_exactly_the_positions_it_names(model, where):
    """Watched by a plain hook on the next block, through the prompt and two steps, in a left-padded batch."""
    seen = []
    handle = blocks(model)[2].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    prompts = TEXTS[:3]
    lengths = sorted((len(model.tokenizer(text)["input_ids"]) for text in prompts), reverse=True)
    try:
        model.generate_ids(prompts, max_new_tokens=2)
        # So weak that the tokens stay the same, strong enough to be seen.
        model.generate_ids(prompts, max_new_tokens=2, steer=Steer(2, direction(model), 1e-3, where))
    finally:
        handle.remove()
    assert [tuple(hidden.shape[:2]) for hidden in seen] == [(3, lengths[0]), (3, 1)] * 2
    prefill, step = ((a != b).any(-1) for a, b in zip(seen[:2], seen[2:], strict=True))
    for row, length in zip(prefill, lengths, strict=True):
        pads = len(row) - length
        named = {"last": [False] * (length - 1) + [True], "all": [True] * length, "generated": [False] * length}
        assert row.tolist() == [False] * pads + named[where]
    assert step.all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"direction": torch.zeros(4)}, "a steering direction must be finite and not zero"),
        ({"direction": torch.tensor([1.0, float("nan")])}, "a steering direction must be finite"),
        ({"direction": torch.tensor([[1.0, 2.0], [0.0, 0.0]])}, "a steering direction must be finite and not zero"),
        ({"direction": torch.ones(1, 2, 2)}, r"is \(d_model,\) or \(n_texts, d_model\), not \(1, 2, 2\)"),
        ({"where": "first"}, "unknown where 'first'; choose last, generated, all"),
        ({"mode": "mix"}, "unknown mode 'mix'; choose add, blend"),
        (
            {"mode": "blend", "strength": 1.01},
            r"strength 1.01 is out of range; it is finite, and in \[-1, 1\] for a blend",
        ),
        ({"strength": float("inf")}, "strength inf is out of range; it is finite"),
    ],
)
def test_bad_steering_gets_one_sentence(arguments, sentence):
    with pytest.raises(ModelError, match=sentence):
        Steer(**{"layer": 1, "direction": torch.ones(4), "strength": 1.0} | arguments)
