"""From texts to padded batches of token ids, and back to one result a text. Floor: models.

Special tokens are the tokenizer's own defaults: where a tokenizer puts a beginning-of-text token, that token is
position 0, is read, and is part of a mean.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from papercore.models.architecture import Transformer
from papercore.models.errors import ModelError

Text = str | list[dict] | Sequence[int]


@dataclass(frozen=True)
class Batch:
    """Padded texts: their numbers, lengths (n,), ids (n, longest) and the mask of what is not padding."""

    rows: list[int]
    lengths: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The model's keyword arguments."""
        return {"input_ids": self.ids, "attention_mask": self.mask.long()}


def encode(
    model: Transformer, texts: Sequence[Text], *, chat: bool = False, special: bool = True, extra: int = 0
) -> list:
    """Token ids of each text, list of lists, with room for `extra` more; raises ModelError.

    A text is a string, or token ids taken as they are, or with `chat` a string or list of role/content messages that
    goes through the model's chat template.
    """
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Sequence) or not texts:
        raise ModelError(f"texts must be a non-empty list of strings, not {type(texts).__name__} {str(texts)[:40]!r}")
    if chat and not model.tokenizer.chat_template:
        raise ModelError(f"{model.name!r} has no chat template; use chat=False")
    for row, text in enumerate(texts):
        if not len(text) or (isinstance(text, str) and not text.strip()):
            raise ModelError(f"text {row} is empty; give every text at least one character")
    if chat:
        talks = [[{"role": "user", "content": text}] if isinstance(text, str) else text for text in texts]
        texts = model.tokenizer.apply_chat_template(talks, tokenize=False, add_generation_prompt=True)
    strings = [text for text in texts if isinstance(text, str)]
    # A chat template writes the special tokens itself.
    how = {"add_special_tokens": special and not chat, "verbose": False}
    ids = iter(model.tokenizer(strings, **how)["input_ids"] if strings else [])
    encoded = [next(ids) if isinstance(text, str) else [int(token) for token in text] for text in texts]
    room = model.context or float("inf")
    for row, tokens in enumerate(encoded):
        if len(tokens) + extra > room:
            raise ModelError(f"text {row} needs {len(tokens) + extra} tokens, but {model.name!r} reads at most {room}")
    return encoded


def in_batches(
    model: Transformer, encoded: list[list[int]], run: Callable[[Batch], Iterable], budget: int, extra: int = 0
) -> list[Any]:
    """What `run` gives for each text, in their order; it is handed batches of texts of like length, longest first.

    A batch has at most `budget` padded tokens, and one text at least. Right padding is invisible to a causal model and
    suits absolute and rotary positions alike; texts that will grow by `extra` tokens are padded left.
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise ModelError(f"batch_tokens must be a positive integer, not {budget!r}")
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]), reverse=True)
    found: list[Any] = [None] * len(encoded)
    while order:
        longest = len(encoded[order[0]])
        size = max(1, budget // (longest + extra))
        rows, order = order[:size], order[size:]
        lengths = torch.tensor([len(encoded[row]) for row in rows])
        column = torch.arange(longest)
        mask = column < lengths[:, None] if not extra else column >= longest - lengths[:, None]
        ids = torch.full(mask.shape, model.pad)
        ids[mask] = torch.tensor([token for row in rows for token in encoded[row]])
        batch = Batch(rows, lengths.to(model.device), ids.to(model.device), mask.to(model.device))
        for row, result in zip(rows, run(batch), strict=True):
            found[row] = result
    return found


def check_position(encoded: list[list[int]], position: str | int, names: tuple[str, ...]) -> None:
    """Refuse an unknown position and one that a text is too short for; raises ModelError."""
    if position in names:
        return
    if isinstance(position, bool) or not isinstance(position, int):
        raise ModelError(f"unknown position {position!r}; choose {', '.join(names)} or an integer")
    for row, ids in enumerate(encoded):
        if not -len(ids) <= position < len(ids):
            raise ModelError(f"text {row} has {len(ids)} tokens, too few for position {position}")


def at_position(batch: Batch, position: str | int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of "last" or an integer position in right-padded texts, (n,) each."""
    position = -1 if position == "last" else position
    columns = batch.lengths + position if position < 0 else torch.full_like(batch.lengths, position)
    return torch.arange(len(columns), device=columns.device), columns
