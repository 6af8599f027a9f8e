"""Matryoshka BatchTopK: the first latents alone must reconstruct, and so must longer prefixes (2503.17547)."""

import torch

from papercore.sae.base import Loss
from papercore.sae.batch_topk import BatchTopK
from papercore.sae.sparse import weighted_sum

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)  # of the latents in the groups, the rest in the last one


class Matryoshka(BatchTopK):
    """The loss is the mean error of nested prefixes: general latents come first, unabsorbed by special ones."""

    @property
    def ends(self) -> list[int]:
        """Where each prefix ends."""
        counts = [max(1, round(share * self.n_latents)) for share in SHARES]
        return [sum(counts[: i + 1]) for i in range(len(counts))] + [self.n_latents]

    def loss(self, x: torch.Tensor, dead: torch.Tensor | None = None, target: torch.Tensor | None = None) -> Loss:
        """As in the base class, with the mean squared error of all prefixes."""
        target = x if target is None else target
        codes, written, errors = self.encode_sparse(x), self.decoder_bias, []
        begin = 0
        for end in self.ends:
            group = codes.only((codes.pairs.latent >= begin) & (codes.pairs.latent < end))
            written = written + weighted_sum(group, self.decoder)
            errors.append((target - written).square().mean())
            begin = end
        return Loss(torch.stack(errors).mean() + self.auxk(x, target - written, dead), errors[-1], codes)
