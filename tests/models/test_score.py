import pytest
import torch
from tiny_models import TEXTS, ids_of

from papercore.models import ModelError

CONTINUATIONS = [" and i laughed", " .", " of it", " the end", " with a dog", " at all", " film", " !"]


@torch.no_grad()
def test_logits_equal_transformers(model):
    for position in ("last", 0, -1):
        ours = model.logits(TEXTS, position)
        column = -1 if position == "last" else position
        theirs = torch.stack([model.nn._module(ids_of(model, text)).logits[0, column] for text in TEXTS])
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_logprobs_equal_log_softmax_of_transformers(model):
    ours = model.logprobs(TEXTS, CONTINUATIONS)
    for text, continuation, mine in zip(TEXTS, CONTINUATIONS, ours, strict=True):
        before = model.tokenizer(text)["input_ids"]
        after = model.tokenizer(continuation, add_special_tokens=False)["input_ids"]
        scores = model.nn._module(torch.tensor([before + after])).logits[0].log_softmax(-1)
        theirs = scores[range(len(before) - 1, len(before) + len(after) - 1), after]
        assert mine.shape == theirs.shape
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-3)


def test_batch_size_does_not_matter(small):
    together, alone = (small.logprobs(TEXTS, CONTINUATIONS, batch_tokens=budget) for budget in (10_000, 1))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(together, alone, strict=True))


def test_token_ids_are_taken_as_they_are(small):
    ids = small.generate_ids(TEXTS, max_new_tokens=3)
    scores = small.logprobs(TEXTS, ids)
    assert [len(s) for s in scores] == [len(i) for i in ids]
    best = small.logits(TEXTS).log_softmax(-1).max(-1).values
    assert torch.allclose(torch.stack([s[0] for s in scores]), best, atol=1e-4)  # greedy took the likeliest


def test_head_runs_only_where_it_is_asked(small):
    sizes = []
    head = small.nn._module.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[:-1].numel()))
    try:
        small.logits(TEXTS)
        small.logprobs(TEXTS[:1], ["abc"])
    finally:
        handle.remove()
    assert sizes == [len(TEXTS), 3]


def test_soft_cap_after_the_head_still_happens(tiny):
    assert tiny("gemma2").logits(TEXTS).abs().max() <= 3.0


@pytest.mark.parametrize(
    ("verb", "arguments", "sentence"),
    [
        ("logprobs", (["a"], ["b", "c"]), "there are 1 prompts for 2 continuations; give one each"),
        ("logprobs", (["a", "b"], ["c", ""]), "text 1 is empty"),
        ("logprobs", (["a", []], ["c", "d"]), "text 1 is empty"),
        ("logits", (["a"], "mean"), "unknown position 'mean'; choose last or an integer"),
        ("logits", (["a"], 1), "text 0 has 1 tokens, too few for position 1"),
    ],
)
def test_bad_input_gets_one_sentence(tiny, verb, arguments, sentence):
    with pytest.raises(ModelError, match=sentence):
        getattr(tiny("llama"), verb)(*arguments)
