import json
import shutil

import pytest
import torch
from tiny_models import TEXTS, ids_of

from papercore.models import ModelError


@torch.no_grad()
def test_batches_equal_transformers_one_by_one(model):
    ours = model.generate_ids(TEXTS, max_new_tokens=6)
    for text, ids in zip(TEXTS, ours, strict=True):
        prompt = ids_of(model, text)
        alone = model.nn._module.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False, pad_token_id=model.pad
        )
        assert ids.tolist() == alone[0, prompt.shape[1] :].tolist()


def test_text_is_the_decoded_new_ids(small):
    ids = small.generate_ids(TEXTS, max_new_tokens=5)
    assert small.generate(TEXTS, max_new_tokens=5) == [small.tokenizer.decode(i, skip_special_tokens=True) for i in ids]


def test_stops_at_the_end_token_of_each_text(tiny):
    model = tiny("llama")
    plain = model.generate_ids(TEXTS, max_new_tokens=8)
    ends, model.ends = model.ends, [plain[0][2].item()]
    config = model.nn._module.generation_config
    config.eos_token_id = model.ends
    try:
        stopped = model.generate_ids(TEXTS, max_new_tokens=8)
        for full, cut in zip(plain, stopped, strict=True):
            expected = full.tolist()
            if model.ends[0] in expected:
                expected = expected[: expected.index(model.ends[0]) + 1]
            assert cut.tolist() == expected
        assert len(stopped[0]) <= 3
    finally:
        model.ends = config.eos_token_id = ends


def test_sampling_repeats_by_seed_and_leaves_torch_alone(small):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    a, again, b = (small.generate_ids(TEXTS[:3], temperature=1.0, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(x, y) for x, y in zip(a, again, strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_sampling_follows_the_temperature(tiny):
    model = tiny("llama")
    probabilities = (model.logits(["a film"])[0] / 2).softmax(-1)
    drawn = torch.stack(model.generate_ids(["a film"] * 4000, max_new_tokens=1, temperature=2.0, seed=0))[:, 0]
    share = torch.bincount(drawn, minlength=len(probabilities)) / 4000
    assert (share - probabilities).abs().max() < 0.03


def test_settings_of_the_checkpoint_stay_out(folders, tiny, tmp_path, capfd):
    from papercore.models import load_model

    copy = shutil.copytree(folders("llama"), tmp_path / "copy")
    own = {"do_sample": True, "top_k": 1, "top_p": 0.1, "repetition_penalty": 9.0, "temperature": 0.1}
    (copy / "generation_config.json").write_text(json.dumps(own | {"eos_token_id": [1]}))
    model = load_model(copy, device="cpu")
    assert model.ends == [1]
    for settings in ({}, {"temperature": 1.0, "seed": 0}):
        ours, plain = (m.generate(TEXTS[:3], max_new_tokens=3, **settings) for m in (model, tiny("llama")))
        assert ours == plain
    assert capfd.readouterr() == ("", "")


@pytest.mark.network
def test_chat_goes_through_the_template(smollm2):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    given = smollm2.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    how = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": smollm2.pad}
    new = smollm2.nn._module.generate(**given, **how)[0, given["input_ids"].shape[1] :]
    expected = [smollm2.tokenizer.decode(new, skip_special_tokens=True)]
    assert smollm2.generate([messages[0]["content"]], chat=True) == expected
    assert smollm2.generate([messages], chat=True) == expected


def test_nothing_is_printed(tiny, capfd, recwarn):
    model = tiny("gpt2")
    model.generate(TEXTS, max_new_tokens=2)
    model.generate(TEXTS, max_new_tokens=2, temperature=1.0, seed=0)
    model.activations(TEXTS, 1)
    assert capfd.readouterr() == ("", "") and not recwarn.list


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a positive integer, not 0"),
        ({"temperature": -1.0}, r"temperature must be 0 \(greedy\) or a positive number, not -1.0"),
        ({"chat": True}, "has no chat template; use chat=False"),
        ({"prompts": [""]}, "text 0 is empty"),
        ({"max_new_tokens": 95}, "text 0 needs 101 tokens, but .* reads at most 96"),
    ],
)
def test_bad_input_gets_one_sentence(tiny, arguments, sentence):
    with pytest.raises(ModelError, match=sentence):
        tiny("llama").generate(**{"prompts": ["a film"]} | arguments)


def test_a_text_ends_with_the_token_that_completes_a_stop_string(tiny):
    model = tiny("llama")
    plain = model.generate_ids(TEXTS, max_new_tokens=8)
    texts = [[model.tokenizer.decode(ids[: n + 1]) for n in range(len(ids))] for ids in plain]
    stop = texts[0][2][-3:]
    stopped = model.generate_ids(TEXTS, max_new_tokens=8, stop=[stop, "never said by anybody"])
    assert len(stopped[0]) <= 3
    for full, cut, grown in zip(plain, stopped, texts, strict=True):
        end = next((n + 1 for n, text in enumerate(grown) if stop in text), len(full))
        assert cut.tolist() == full[:end].tolist()
    assert [i.tolist() for i in model.generate_ids(TEXTS, max_new_tokens=8, stop=["never said by anybody"])] == [
        i.tolist() for i in plain
    ]


@pytest.mark.parametrize("stop", ["text", [""], [3]])
def test_stop_strings_of_the_wrong_kind_are_refused(tiny, stop):
    with pytest.raises(ModelError, match="stop must be a list of non-empty strings"):
        tiny("llama").generate_ids(TEXTS, max_new_tokens=2, stop=stop)
