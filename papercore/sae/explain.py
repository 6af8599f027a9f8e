"""What a latent means, asked from both sides: the texts that make it fire, the tokens that it makes. Floor: sae.

Input side: MaxAct, windows of text around the strongest firings. Output side: VocabProj, the decoder row read through
the vocabulary head, and TokenChange, what steering along it does. Latents are drawn at random (`sample`): a gallery
picked by hand shows what its maker hoped for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from papercore.models import Model, Steer
from papercore.sae import metrics
from papercore.sae.base import SAE, SAEError

QUANTILES = (0.9, 0.75, 0.5)  # of the peaks, beside the top
TOGETHER = 64  # documents encoded at once


@dataclass(frozen=True)
class Firing:
    """Chosen latents on documents: latents (n,); codes, a list of (n_tokens_i, n), 0 where a token is masked."""

    latents: torch.Tensor
    codes: list[torch.Tensor]


def sample(
    sae: SAE, x: torch.Tensor, count: int, seed: int, *, least: float = 1e-4, most: float = 0.05
) -> torch.Tensor:
    """`count` latents drawn at random among those that fire on a share of x (n_tokens, d_model) in [least, most].

    Rarer ones have too few texts to be explained by, denser ones no text of their own; all that fire stand in where too
    few are left. Raises SAEError where too few fire at all.
    """
    density = metrics.density(sae, x)
    able = ((density >= least) & (density <= most)).nonzero()[:, 0]
    able = able if len(able) >= count else (density > 0).nonzero()[:, 0]
    if len(able) < count:
        raise SAEError(f"{len(able)} latents fire on these tokens, but {count} are asked for")
    return able[torch.randperm(len(able), generator=torch.Generator().manual_seed(seed))[:count]].sort().values


@torch.no_grad()
def firing(sae: SAE, states: Sequence[torch.Tensor], masks: Sequence[torch.Tensor], latents: torch.Tensor) -> Firing:
    """Codes of some latents on documents, from states (n_tokens_i, d_model) and which of their tokens count."""
    place = torch.full((sae.n_latents,), -1)
    place[latents] = torch.arange(len(latents))
    codes = [torch.zeros(len(one), len(latents)) for one in states]
    for start in range(0, len(states), TOGETHER):
        rows = [i for i in range(start, min(start + TOGETHER, len(states))) if masks[i].any()]
        if not rows:
            continue
        found = sae.encode_sparse(torch.cat([states[i][masks[i]] for i in rows]))
        column = place[found.pairs.latent]
        wanted = column >= 0
        dense = torch.zeros(found.pairs.shape[0], len(latents))
        dense[found.pairs.row[wanted], column[wanted]] = found.values[wanted]
        for i, part in zip(rows, dense.split([int(masks[i].sum()) for i in rows]), strict=True):
            codes[i][masks[i]] = part
    return Firing(latents, codes)


def max_activating(
    fires: Firing, column: int, *, top: int = 10, each: int = 2, negatives: int = 5, seed: int = 0, among=None
) -> pd.DataFrame:
    """MaxAct of one latent: document, position and code of its peak in each document shown, and why it is shown.

    kind: "top"; "0.9", "0.75", "0.5", `each` documents around that quantile of the peaks; "random", a document in which
    the latent never fires, at a random token. among: numbers of the documents to choose from. A document is shown once.
    """
    among = np.arange(len(fires.codes)) if among is None else np.asarray(among)
    peaks = np.array([float(fires.codes[i][:, column].max()) for i in among])
    order = among[np.argsort(-peaks, kind="stable")]
    firing_ = order[: int((peaks > 0).sum())]
    chosen = [("top", i) for i in firing_[:top]]
    for quantile in QUANTILES:
        middle = top + int((1 - quantile) * max(0, len(firing_) - top))
        chosen += [(f"{quantile:g}", i) for i in firing_[middle : middle + each] if i not in {n for _, n in chosen}]
    draw = np.random.default_rng([seed, int(fires.latents[column])])
    silent = draw.permutation(np.sort(order[len(firing_) :]))[:negatives]
    rows = []
    for kind, i in chosen:
        position = int(fires.codes[i][:, column].argmax())
        rows.append((kind, int(i), position, float(fires.codes[i][position, column])))
    rows += [("random", int(i), int(draw.integers(len(fires.codes[i]))), 0.0) for i in silent]
    return pd.DataFrame(rows, columns=["kind", "document", "position", "code"])


def window(ids: Sequence[int], position: int, before: int = 12, after: int = 4) -> tuple[int, list[int]]:
    """(start, ids) of the tokens around a position."""
    start = max(0, position - before)
    return start, list(ids[start : position + after + 1])


def vocab_projection(model: Model, directions: torch.Tensor) -> torch.Tensor:
    """VocabProj: the vocabulary head on the final norm of decoder rows (n, d_model), (n, vocabulary), in logits.

    Which tokens a latent writes, if nothing came after it; the larger, the more. A row's length does not matter.
    """
    return model.lens(directions.detach())


def first_order(model: Model, at: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Slope of the logits when a state `at` (d_model,) at the end of the residual stream moves along directions
    (n, d_model), (n, vocabulary) a unit: logits(at + a v) - logits(at) is a times it, to first order.
    """
    states = at.detach().expand(len(directions), -1).clone().requires_grad_()
    said = model.lens(states)
    # Forward mode by two backward passes: the gradient for `weight` of its product with the Jacobian is a row of it.
    weight = torch.zeros_like(said, requires_grad=True)
    (pulled,) = torch.autograd.grad(said, states, weight, create_graph=True)
    (slope,) = torch.autograd.grad(pulled, weight, directions.to(pulled))
    return slope.detach()


@torch.no_grad()
def token_change(
    model: Model, prompts: Sequence, layer: int, directions: torch.Tensor, strengths: Sequence[float]
) -> torch.Tensor:
    """TokenChange: log-probability of each token after a prompt with h + b v at its last position, minus that without,
    mean over prompts; (n_strengths, n, vocabulary), in nats. directions (n, d_model), strengths b.
    """
    last, n = model.n_layers, len(prompts)
    clean = model.lens(model.activations(prompts, last)).log_softmax(-1).mean(0)
    found = torch.empty(len(strengths), len(directions), model.vocabulary)
    for i, strength in enumerate(strengths):
        # Each direction on a copy of the prompts of its own, all of them in one reading.
        own = directions.repeat_interleave(n, dim=0)
        states = model.activations(list(prompts) * len(directions), last, steer=Steer(layer, own, float(strength)))
        for j, part in enumerate(states.split(n)):
            found[i, j] = model.lens(part).log_softmax(-1).mean(0) - clean
    return found
