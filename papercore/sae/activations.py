"""From what a model says of texts to what an SAE is trained on: which tokens count, and at what scale. Floor: sae."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from papercore.sae.base import SAEError
from papercore.sae.trainer import check_activations

# Tokens with a norm above so many medians are attention sinks, one of which outweighs thousands of others.
OUTLIER = 4.0


@dataclass(frozen=True)
class Tokens:
    """Kept tokens of documents: x (n_tokens, d_model), document (n_tokens,) and position (n_tokens,) of each."""

    x: torch.Tensor
    document: torch.Tensor
    position: torch.Tensor
    limit: float  # norm above which a token was left out

    def __len__(self) -> int:
        return len(self.x)

    def of(self, documents: Sequence[int]) -> Tokens:
        """The tokens of some documents."""
        kept = torch.isin(self.document, torch.as_tensor(list(documents)))
        return Tokens(self.x[kept], self.document[kept], self.position[kept], self.limit)


def keep(states: Sequence[torch.Tensor], limit: float | None = None, *, first: bool = False) -> list[torch.Tensor]:
    """Which tokens count of documents (n_tokens_i, d_model): not position 0, and norm up to the limit; (n_tokens_i,).

    limit: OUTLIER medians of the norms after position 0 by default. first: position 0 counts too, whatever its norm.
    Raises SAEError for states that are not finite.
    """
    limit = norm_limit(states) if limit is None else limit
    norms = _norms(states)
    found = []
    for norm in norms:
        one = norm <= limit
        one[0] = first
        found.append(one)
    return found


def norm_limit(states: Sequence[torch.Tensor]) -> float:
    """OUTLIER medians of the norms of all tokens but the first of each document."""
    rest = [norm[1:] for norm in _norms(states) if len(norm) > 1]
    if not rest:
        raise SAEError("no document has more than one token, and position 0 is never used")
    return OUTLIER * float(torch.cat(rest).median())


def _norms(states: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Norms of the tokens of each document; a NaN would pass for an outlier, and be left out without a word."""
    norms = [one.float().norm(dim=1) for one in states]
    for row, norm in enumerate(norms):
        if bad := int((~torch.isfinite(norm)).sum()):
            raise SAEError(f"{bad} of {len(norm)} activations of document {row} are NaN or infinite; read in float32")
    return norms


def tokens(states: Sequence[torch.Tensor], limit: float | None = None, *, first: bool = False) -> Tokens:
    """The tokens of documents (n_tokens_i, d_model) that count, as `keep` says; raises SAEError where none does."""
    limit = norm_limit(states) if limit is None else limit
    masks = keep(states, limit, first=first)
    document = torch.cat([torch.full((int(mask.sum()),), i) for i, mask in enumerate(masks)])
    position = torch.cat([mask.nonzero()[:, 0] for mask in masks])
    x = torch.cat([one[mask] for one, mask in zip(states, masks, strict=True)])
    check_activations(x)
    return Tokens(x, document, position, limit)


def scale(x: torch.Tensor) -> float:
    """What to divide activations (n_tokens, d_model) by for a mean squared norm of d_model.

    Learning rates, penalties and bandwidths then mean the same in every layer; `SAE.folded` undoes it in the weights.
    """
    return float((x.square().sum(1).mean() / x.shape[1]).sqrt())
