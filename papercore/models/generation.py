"""Generation, greedy or sampled, with steering in every forward pass. Floor: models."""

import warnings
from collections.abc import Sequence

import torch

from papercore.models.architecture import Transformer
from papercore.models.errors import ModelError
from papercore.models.steer import Steer, Steers, by_layer, places, steered
from papercore.models.tokens import Batch, Text, encode, in_batches


def generate(model: Transformer, prompts: Sequence[Text], **settings) -> list[str]:
    """The new text of each prompt; settings as in `generate_ids`."""
    return [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in generate_ids(model, prompts, **settings)]


def generate_ids(
    model: Transformer,
    prompts: Sequence[Text],
    *,
    steer: Steers = None,
    max_new_tokens: int = 24,
    temperature: float = 0.0,
    seed: int | None = None,
    chat: bool = False,
    stop: Sequence[str] = (),
    batch_tokens: int = 4096,
) -> list[torch.Tensor]:
    """The new token ids of each prompt, (n_new_i,), up to and with the end token. Raises ModelError.

    temperature 0 is greedy, above it plain sampling (no top-k, top-p or penalty) from `seed`, or from torch's own
    generator where seed is None. chat puts each prompt, or list of role/content messages, in the chat template. A text
    also ends with the token that completes one of the strings in `stop`; what follows in that token is kept.
    """
    if isinstance(stop, str) or not all(isinstance(text, str) and text for text in stop):
        raise ModelError(f"stop must be a list of non-empty strings, not {stop!r}")
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise ModelError(f"max_new_tokens must be a positive integer, not {max_new_tokens!r}")
    if not 0 <= temperature < float("inf"):
        raise ModelError(f"temperature must be 0 (greedy) or a positive number, not {temperature!r}")
    encoded = encode(model, prompts, chat=chat, extra=max_new_tokens)
    plan = by_layer(model, steer, len(encoded))
    how = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    how["max_new_tokens"] = max_new_tokens
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else [], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return in_batches(model, encoded, lambda b: _run(model, b, plan, how, stop), batch_tokens, extra=max_new_tokens)


@torch.no_grad()
def _run(
    model: Transformer, batch: Batch, plan: dict[int, list[Steer]], how: dict, stop: Sequence[str]
) -> list[torch.Tensor]:
    """The new ids of each text of the batch."""
    kept = []
    stopper = _Stop(model, stop, batch.ids.shape[1]) if stop else None
    how = how | ({"stopping_criteria": [stopper]} if stopper else {})
    with warnings.catch_warnings():
        # nnsight warns that an open loop over the steps outran the run: that is how such a loop ends.
        warnings.filterwarnings("ignore", message=".*was never reached: the loop asked for a step")
        with model.nn.generate(**how) as tracer:
            with tracer.invoke(**batch.inputs):
                if plan:
                    for step in tracer.iter[:]:
                        # With a cache of keys and values, each pass after the first sees the newest token alone.
                        mask = batch.mask if step == 0 else batch.mask[:, -1:]
                        at = places(mask, generated=step > 0)
                        for layer in sorted(plan):
                            steered(model, layer, plan, batch, at)
            # A loop over the steps never ends, so the result is read beside it.
            with tracer.invoke():
                kept.append(tracer.result)
    found = [_until_end(ids, model.ends) for ids in kept[0][:, batch.ids.shape[1] :].cpu()]
    return [ids[:end] for ids, end in zip(found, stopper.ends, strict=True)] if stopper else found


class _Stop:
    """A stopping criterion of transformers: rows whose new text holds a stop string are done, and padded from there.

    transformers' own `stop_strings` tabulates the whole vocabulary first; decoding a short tail is simpler and exact.
    """

    def __init__(self, model: Transformer, stop: Sequence[str], start: int):
        self.tokenizer, self.stop, self.start = model.tokenizer, list(stop), start
        # A token has at least one byte, so a stop string lies within so many of the last ones.
        self.tail = max(len(text.encode()) for text in stop)
        self.ends: list[int | None] = []

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor, **_) -> torch.Tensor:
        self.ends = self.ends or [None] * len(ids)
        new = ids[:, self.start :]
        for row, text in enumerate(self.tokenizer.batch_decode(new[:, -self.tail :])):
            if self.ends[row] is None and any(stop in text for stop in self.stop):
                self.ends[row] = new.shape[1]
        return torch.tensor([end is not None for end in self.ends], device=ids.device)


def _until_end(ids: torch.Tensor, ends: list[int]) -> torch.Tensor:
    """`ids` up to its first end token, that one included; what follows is padding."""
    stops = torch.isin(ids, torch.tensor(ends, dtype=ids.dtype)).nonzero()
    return ids[: int(stops[0]) + 1] if len(stops) else ids
