"""Splicing: let the model go on with something else in place of the residual stream, and score what it says then.

Floor: models. The blocks below the splice run once, whatever the number of replacements tried.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from papercore.models.architecture import Transformer
from papercore.models.errors import ModelError
from papercore.models.score import LOGITS_AT_ONCE
from papercore.models.tokens import Batch, Text, encode, in_batches

Replacement = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Spliced:
    """Of each text and each token but the first, (n_tokens_i - 1,), in nats: ce, minus the log-probability that the
    spliced model gave it; clean, that of the model left alone; kl, KL(clean || spliced) of the two predictions.
    """

    ce: list[torch.Tensor]
    kl: list[torch.Tensor]
    clean: list[torch.Tensor]


def splice(
    model: Transformer,
    texts: Sequence[Text],
    layer: int,
    fn: Replacement | Mapping[str, Replacement],
    *,
    keep: Sequence[torch.Tensor] | None = None,
    batch_tokens: int = 1024,
) -> Spliced | dict[str, Spliced]:
    """Score `texts` with fn(residual stream at `layer`) in its place; for a dict of functions a dict of results.

    fn: (n_tokens, d_model) float32 -> the same shape, of the tokens of a batch that are replaced; none may depend on
    its neighbours. keep: which tokens of each text are replaced, (n_tokens_i,) booleans; all by default. The identity
    changes nothing, to the bit. Raises ModelError.
    """
    model.check([layer])
    several = isinstance(fn, Mapping)
    fns = dict(fn) if several else {"": fn}
    encoded = encode(model, texts)
    masks = _masks(encoded, keep)

    @torch.no_grad()
    def run(batch: Batch) -> list[dict[str, tuple[torch.Tensor, ...]]]:
        hidden, clean = _clean(model, batch, layer)
        clean = clean.log_softmax(-1)
        own = _gold(clean, batch)
        at = _at(batch, masks)
        scored = {}
        for name, one in fns.items():
            spliced = _spliced(model, batch, layer, replaced(hidden, at, one)).log_softmax(-1)
            kl = (clean.exp() * (clean - spliced)).sum(-1)[:, :-1]
            scored[name] = (_gold(spliced, batch).cpu(), kl.cpu())
        counts = (batch.lengths - 1).tolist()
        return [
            {name: (ce[i, :n], kl[i, :n], own[i, :n].cpu()) for name, (ce, kl) in scored.items()}
            for i, n in enumerate(counts)
        ]

    found = in_batches(model, encoded, run, min(batch_tokens, max(1, LOGITS_AT_ONCE // model.vocabulary)))
    results = {name: Spliced(*map(list, zip(*(one[name] for one in found), strict=True))) for name in fns}
    return results if several else results[""]


def splice_loss(
    model: Transformer,
    texts: Sequence[Text],
    layer: int,
    fn: Replacement,
    *,
    keep: Sequence[torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(KL(clean || spliced) in nats a token, squared error of fn over squared norm), one batch, both with gradient.

    Raises ModelError, also where `keep` leaves no token to replace.
    """
    model.check([layer])
    encoded = encode(model, texts)
    masks, found = _masks(encoded, keep), []
    if not any(mask.any() for mask in masks):
        raise ModelError(f"none of the {len(encoded)} texts has a token to replace; let `keep` be true somewhere")

    def run(batch: Batch) -> list[None]:
        with torch.no_grad():
            hidden, clean = _clean(model, batch, layer)
            clean = clean.log_softmax(-1)
        errors = []

        def noted(x: torch.Tensor) -> torch.Tensor:
            hat = fn(x)
            errors.append((x - hat).square().sum() / x.square().sum())
            return hat

        stream = replaced(hidden, _at(batch, masks), noted)
        spliced = _spliced(model, batch, layer, stream).log_softmax(-1)
        kl = (clean.exp() * (clean - spliced)).sum(-1)[batch.mask].mean()
        found.append((kl, errors[0]))
        return [None] * len(batch.rows)

    with _frozen(model):
        in_batches(model, encoded, run, len(encoded) * max(map(len, encoded)))
    return found[0]


@contextlib.contextmanager
def _frozen(model: Transformer) -> Iterator[None]:
    """No gradient for the model's own weights: backward would spend most of its time on them."""
    learning = [p for p in model.nn._module.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def replaced(hidden: torch.Tensor, at: torch.Tensor, fn: Replacement) -> torch.Tensor:
    """`hidden` (n, n_tokens, d_model) with fn's output where `at` (n, n_tokens) is true; raises ModelError."""
    if not at.any():
        return hidden
    x = hidden[at].float()
    new = fn(x)
    if new.shape != x.shape:
        raise ModelError(f"the splice got activations {tuple(x.shape)} and returned {tuple(new.shape)}")
    stream = hidden.clone()
    stream[at] = new.to(hidden.dtype)
    return stream


def _clean(model: Transformer, batch: Batch, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(residual stream at layer, logits in float32) of the model left alone."""
    kept = []
    with model.nn.trace(**batch.inputs):
        kept.append(model.residual(layer))
        kept.append(model.nn.output.logits)
    return kept[0], kept[1].float()


def _spliced(model: Transformer, batch: Batch, layer: int, stream: torch.Tensor) -> torch.Tensor:
    """Logits, float32, with `stream` at `layer`; the blocks below do not run where they return states alone."""
    kept = []
    skip = layer if model.bare_blocks else 0
    with model.nn.trace(**batch.inputs):
        for block in model.blocks[:skip]:
            block.skip(stream)
        if not skip:
            model.set_residual(layer, stream)
        kept.append(model.nn.output.logits)
    return kept[0].float()


def _gold(logprobs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Minus the log-probability of each next token, (n, n_tokens - 1)."""
    return -logprobs[:, :-1].gather(-1, batch.ids[:, 1:, None])[..., 0]


def _masks(encoded: list[list[int]], keep: Sequence[torch.Tensor] | None) -> list[torch.Tensor]:
    if keep is None:
        return [torch.ones(len(ids), dtype=torch.bool) for ids in encoded]
    if len(keep) != len(encoded):
        raise ModelError(f"there are {len(keep)} masks for {len(encoded)} texts; give one each")
    for row, (mask, ids) in enumerate(zip(keep, encoded, strict=True)):
        if mask.shape != (len(ids),) or mask.dtype != torch.bool:
            raise ModelError(f"the mask of text {row} must be {len(ids)} booleans, one a token")
    return list(keep)


def _at(batch: Batch, masks: list[torch.Tensor]) -> torch.Tensor:
    """The places of a padded batch that are replaced, (n, n_tokens)."""
    at = torch.zeros_like(batch.mask)
    for i, row in enumerate(batch.rows):
        at[i, : len(masks[row])] = masks[row].to(at.device)
    return at
