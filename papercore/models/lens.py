"""The logit lens: what the model would say if its residual stream ended like this. Floor: models."""

import torch

from papercore.models.architecture import Transformer
from papercore.models.errors import ModelError

AT_ONCE = 256  # states a pass, as tokens of one text; their logits are what takes memory


def lens(model: Transformer, states: torch.Tensor) -> torch.Tensor:
    """Logits of the final norm and vocabulary head on `states` (n, d_model), (n, vocabulary) float32 on the CPU.

    Of the residual stream at n_layers they are the model's own logits; of an earlier layer's they are the logit lens
    (nostalgebraist 2020). What an architecture does after its head, such as a soft cap, still happens. With
    gradient where states have one. Raises ModelError for states of another shape or none.
    """
    if states.ndim != 2 or states.shape[1] != model.d_model or not len(states):
        raise ModelError(f"the lens takes states (n, {model.d_model}), n > 0, not {tuple(states.shape)}")
    with torch.set_grad_enabled(states.requires_grad and torch.is_grad_enabled()):
        return torch.cat([_said(model, part) for part in states.split(min(AT_ONCE, model.context or AT_ONCE))])


def _said(model: Transformer, states: torch.Tensor) -> torch.Tensor:
    stream = states.to(model.device, getattr(torch, model.dtype))[None]
    skipped, kept = model.blocks if model.bare_blocks else [], []
    with model.nn.trace(input_ids=torch.full((1, len(states)), model.pad, device=model.device)):
        for block in skipped:
            block.skip(stream)
        if not skipped:
            model.set_residual(model.n_layers, stream)
        kept.append(model.nn.output.logits)
    return kept[0][0].float().cpu()
