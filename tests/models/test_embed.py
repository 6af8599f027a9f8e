"""The sentence encoder: mean pooling over the text alone, norm 1, near meanings near, refusals."""

import pytest
import torch

from papercore.models import ModelError
from papercore.models.embed import Embedder


@pytest.fixture(scope="module")
def embed():
    return Embedder()


@pytest.mark.network
def test_embeddings_are_means_of_last_states_at_norm_one_whatever_the_batch(embed):
    texts = ["A cat sits on the mat.", "The stock market fell sharply today, as traders feared higher rates.", "Rain."]
    found = embed(texts)
    assert found.shape == (3, 384) and torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)
    for text, row in zip(texts, found, strict=True):
        ids = embed.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            mean = embed.module(ids).last_hidden_state[0].mean(0)
        assert torch.allclose(mean / mean.norm(), row, atol=1e-5)


@pytest.mark.network
def test_a_paraphrase_is_nearer_than_another_subject(embed):
    a, b, c = embed(["A kitten is sleeping.", "A small cat is asleep.", "Interest rates were raised by the bank."])
    assert float(a @ b) > 0.5 > float(a @ c) + 0.3


@pytest.mark.network
def test_no_texts_are_refused(embed):
    for texts in ([], "one", [1]):
        with pytest.raises(ModelError, match="non-empty list of strings"):
            embed(texts)
