"""Scoring: next-token logits and the log-probabilities of given continuations. Floor: models."""

from collections.abc import Sequence

import torch

from papercore.models.architecture import Transformer
from papercore.models.errors import ModelError
from papercore.models.tokens import Batch, Text, at_position, check_position, encode, in_batches

# Logits dwarf everything else: 2**26 of them are 256 MB in float32.
LOGITS_AT_ONCE = 2**26


def logits(
    model: Transformer, texts: Sequence[Text], position: str | int = "last", *, batch_tokens: int = 1024
) -> torch.Tensor:
    """Next-token logits at one position of each text, (n_texts, vocabulary) float32 on the CPU. Raises ModelError.

    position: "last", or an integer that counts the text's tokens, from the end if negative.
    """
    encoded = encode(model, texts)
    check_position(encoded, position, ("last",))
    return torch.stack(
        in_batches(model, encoded, lambda b: _head(model, b, *at_position(b, position)).cpu(), batch_tokens)
    )


def logprobs(
    model: Transformer,
    prompts: Sequence[Text],
    continuations: Sequence[Text],
    *,
    chat: bool = False,
    batch_tokens: int = 1024,
) -> list[torch.Tensor]:
    """Natural-log probability of each token of each continuation, list of (n_tokens_i,). Raises ModelError.

    Prompt and continuation are tokenised apart and their ids joined, so that no token spans the boundary; either may
    be token ids already, such as `generate_ids` gives. Perplexity is exp of minus the mean.
    """
    if len(prompts) != len(continuations):
        raise ModelError(f"there are {len(prompts)} prompts for {len(continuations)} continuations; give one each")
    before, after = encode(model, prompts, chat=chat), encode(model, continuations, special=False)
    joined = encode(model, [a + b for a, b in zip(before, after, strict=True)])

    def run(batch: Batch) -> Sequence[torch.Tensor]:
        # The token at column c is predicted at column c - 1.
        spans = [(i, len(before[row]) - 1, len(after[row])) for i, row in enumerate(batch.rows)]
        pairs = [(i, start + step) for i, start, count in spans for step in range(count)]
        row, column = torch.tensor(pairs, device=model.device).T
        scores = _head(model, batch, row, column)
        chosen = scores.gather(-1, batch.ids[row, column + 1][:, None])[:, 0]
        return (chosen - scores.logsumexp(-1)).cpu().split([count for _, _, count in spans])

    return in_batches(model, joined, run, min(batch_tokens, max(1, LOGITS_AT_ONCE // model.vocabulary)))


@torch.no_grad()
def _head(model: Transformer, batch: Batch, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """Logits at the (row, column) pairs alone, (n_pairs, vocabulary) in float32."""
    kept = []
    with model.nn.trace(**batch.inputs):
        # The head is handed the positions asked for as one long text; what an architecture does after its head,
        # such as Gemma-2's soft cap, still happens.
        model.head.input = model.head.input[row, column][None]
        kept.append(model.nn.output.logits[0].float())
    return kept[0]
