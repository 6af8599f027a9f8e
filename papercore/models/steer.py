"""Steering: change the residual stream at named positions while the model runs. Floor: models."""

import math
from dataclasses import dataclass

import torch

from papercore.models.architecture import Transformer
from papercore.models.errors import ModelError
from papercore.models.tokens import Batch

WHERE, MODES = ("last", "generated", "all"), ("add", "blend")


@dataclass(frozen=True, eq=False)
class Steer:
    """One change of the residual stream h at one layer, with b = strength and v = direction.

    add: h + b v, unbounded b. blend: (1 - b) h + b v mean|h| / mean|v|, b in [-1, 1] (Gaussian Concept Subspace,
    arXiv 2410.00153, its steering code). where: "last" is the last position of each forward pass (the prompt's last
    token, then each generated one), "generated" the generated tokens alone, "all" every position but padding.
    direction: (d_model,), or (n_texts, d_model), each text its own. Raises ModelError for a direction that is zero, not
    finite or of another shape, and for unknown names.
    """

    layer: int
    direction: torch.Tensor
    strength: float
    where: str = "last"
    mode: str = "add"

    def __post_init__(self) -> None:
        direction = torch.as_tensor(self.direction).detach().to("cpu", torch.float32)
        object.__setattr__(self, "direction", direction)
        if direction.ndim not in (1, 2):
            raise ModelError(f"a steering direction is (d_model,) or (n_texts, d_model), not {tuple(direction.shape)}")
        if not torch.isfinite(direction).all() or not (direction.norm(dim=-1) > 0).all():
            raise ModelError("a steering direction must be finite and not zero")
        for what, said, allowed in (("where", self.where, WHERE), ("mode", self.mode, MODES)):
            if said not in allowed:
                raise ModelError(f"unknown {what} {said!r}; choose {', '.join(allowed)}")
        if not math.isfinite(self.strength) or (self.mode == "blend" and abs(self.strength) > 1):
            raise ModelError(f"strength {self.strength!r} is out of range; it is finite, and in [-1, 1] for a blend")

    def apply(self, hidden: torch.Tensor, at: torch.Tensor, rows: list[int]) -> torch.Tensor:
        """`hidden` (n, n_tokens, d_model) of the texts `rows`, changed where `at` (n, n_tokens) is true alone."""
        stream, direction = hidden.float(), self.direction.to(hidden.device)
        direction = direction[rows][:, None] if direction.ndim == 2 else direction
        if self.mode == "blend":
            scale = stream.abs().mean(-1, keepdim=True) / direction.abs().mean(-1, keepdim=True)
            steered = (1 - self.strength) * stream + self.strength * direction * scale
        else:
            steered = stream + self.strength * direction
        return torch.where(at[..., None], steered.to(hidden.dtype), hidden)


Steers = Steer | list[Steer] | None


def by_layer(model: Transformer, steer: Steers, n_texts: int) -> dict[int, list[Steer]]:
    """The steers of each layer in the order given; raises ModelError where one does not fit model or texts."""
    plan: dict[int, list[Steer]] = {}
    for one in [steer] if isinstance(steer, Steer) else steer or []:
        if not isinstance(one, Steer):
            raise ModelError(f"steer takes a Steer or a list of them, not {type(one).__name__}")
        model.check([one.layer])
        *many, width = one.direction.shape
        if width != model.d_model:
            raise ModelError(f"the direction has {width} numbers, but {model.name!r} has {model.d_model}")
        if many not in ([], [n_texts]):
            raise ModelError(f"there are {many[0]} directions for {n_texts} texts; give one each, or one")
        plan.setdefault(one.layer, []).append(one)
    return plan


def places(mask: torch.Tensor, *, generated: bool) -> dict[str, torch.Tensor]:
    """Which positions of one forward pass each `where` names; `mask` (n, n_tokens) is false on padding."""
    # The last real token is where the count of real tokens reaches its total, whichever side is padded.
    count = mask.long().cumsum(-1)
    last = mask & (count == count[:, -1:])
    return {"all": mask, "last": last, "generated": mask if generated else torch.zeros_like(mask)}


def steered(model: Transformer, layer: int, plan: dict, batch: Batch, at: dict[str, torch.Tensor]) -> torch.Tensor:
    """Apply the plan at `layer` inside a trace; returns the residual stream the model goes on with."""
    hidden = model.residual(layer)
    for one in plan.get(layer, []):
        hidden = one.apply(hidden, at[one.where], batch.rows)
    if layer in plan:
        model.set_residual(layer, hidden)
    return hidden
