"""Training strategies beyond a rule of selection: layer groups, aligned features, end-to-end. Floor: sae."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import nn

from papercore.sae.base import SAE, Loss, SAEError
from papercore.sae.sparse import Codes, Pairs


def angular_distances(states: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """Mean angle over pi between the activations of the same tokens in two layers, (n_layers, n_layers)."""
    unit = torch.stack([x / x.norm(dim=1, keepdim=True).clamp_min(1e-12) for x in states.values()])
    cosines = torch.einsum("and,bnd->abn", unit, unit).clamp(-1, 1)
    return torch.arccos(cosines).mean(2).fill_diagonal_(0) / torch.pi


def layer_groups(states: Mapping[int, torch.Tensor], n_groups: int) -> list[list[int]]:
    """Layers clustered by angular distance, complete linkage (Ghilardi et al. 2410.21508); one SAE serves a group.

    states: layer -> activations (n_tokens, d_model) of the same tokens.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if not 1 <= n_groups <= len(states):
        raise SAEError(f"{len(states)} layers cannot form {n_groups} groups; choose from 1 to {len(states)}")
    if n_groups == len(states):
        return [[layer] for layer in states]
    tree = linkage(squareform(angular_distances(states).double().numpy(), checks=False), "complete")
    group = fcluster(tree, n_groups, "maxclust")
    found: dict[int, list[int]] = {}
    for layer, number in zip(states, group, strict=True):
        found.setdefault(number, []).append(layer)
    return sorted(found.values())


class FeatureAligned(nn.Module):
    """Several SAEs trained together, each pulled to features that the others have too (Marks et al. 2411.01220).

    What only one initialisation finds is more likely an artefact. The weight of the pull is ours: the paper's was not
    to be had.
    """

    steered = False
    betas = (0.9, 0.999)

    def __init__(self, members: Sequence[SAE], weight: float = 0.1):
        super().__init__()
        if len(members) < 2 or len({type(one) for one in members}) > 1:
            raise SAEError("alignment takes two SAEs or more, of one architecture")
        if members[0].steered:
            raise SAEError(f"nothing steers the penalties of several {type(members[0]).__name__}s; align SAEs with a k")
        self.members, self.weight = nn.ModuleList(members), weight
        self.d_model, self.k, self.coefficient = members[0].d_model, members[0].k, 1.0
        self.n_latents = sum(one.n_latents for one in members)
        self.seed = members[0].seed

    def alignment(self) -> torch.Tensor:
        """Mean over pairs of members of the mean largest cosine between their decoder rows: 1 where all agree."""
        rows = [one.decoder for one in self.members]
        pairs = [(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
        return torch.stack([(a @ b.T).amax(1).mean() for a, b in pairs]).mean()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The members' mean reconstruction."""
        return torch.stack([one(x) for one in self.members]).mean(0)

    def loss(self, x: torch.Tensor, dead: torch.Tensor | None = None, target: torch.Tensor | None = None) -> Loss:
        """Mean of the members' losses plus weight (1 - alignment); the codes of all members side by side."""
        losses, begin = [], 0
        for one in self.members:
            own = None if dead is None else dead[begin : begin + one.n_latents]
            losses.append(one.loss(x, own, target))
            begin += one.n_latents
        total = torch.stack([one.total for one in losses]).mean() + self.weight * (1 - self.alignment())
        starts = torch.tensor([0, *[one.n_latents for one in self.members]]).cumsum(0)
        row = torch.cat([one.codes.pairs.row for one in losses])
        latent = torch.cat([one.codes.pairs.latent + start for one, start in zip(losses, starts, strict=False)])
        codes = Codes(Pairs(row, latent, (len(x), self.n_latents)), torch.cat([one.codes.values for one in losses]))
        return Loss(total, torch.stack([one.mse for one in losses]).mean(), codes)

    def calibrate(self, x: torch.Tensor) -> None:
        """All members."""
        for one in self.members:
            one.calibrate(x)

    def normalise(self) -> None:
        """All members."""
        for one in self.members:
            one.normalise()

    def project(self) -> None:
        """All members."""
        for one in self.members:
            one.project()

    def progress(self, share: float) -> None:
        """All members."""
        for one in self.members:
            one.progress(share)


def finetune_end_to_end(
    sae: SAE, model, texts: Sequence, layer: int, keep: Sequence[torch.Tensor], *, steps: int = 20, lr: float = 1e-4
) -> pd.DataFrame:
    """A few steps on what the model then says: KL(clean || spliced) plus the relative squared error (2503.17272).

    texts: a batch is a sixteenth of them, in turn; keep: which tokens of each are replaced, (n_tokens_i,). The SAE must
    be for activations at the model's own scale (`SAE.folded`). Returns step, kl (nats a token) and error, squared, over
    the squared norm. Trained so from the start an SAE is Braun et al.'s (2405.12241); a last touch costs far less.
    """
    optimiser = torch.optim.Adam([p for p in sae.parameters() if p.requires_grad], lr=lr, betas=sae.betas)
    size, found = max(1, len(texts) // 16), []
    # Evaluation's rule: what is fine-tuned is what will be spliced.
    sae.eval()
    for step in range(steps):
        rows = [(step * size + i) % len(texts) for i in range(size)]
        kl, error = model.splice_loss([texts[r] for r in rows], layer, sae, keep=[keep[r] for r in rows])
        optimiser.zero_grad(set_to_none=True)
        (kl + error).backward()
        sae.project()
        optimiser.step()
        sae.normalise()
        found.append((step, float(kl.detach()), float(error.detach())))
    return pd.DataFrame(found, columns=["step", "kl", "error"])
