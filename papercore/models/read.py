"""Reading activations: batched by length, stopped after the deepest layer, cached by content. Floor: models."""

from collections.abc import Sequence

import torch

from papercore.models import store
from papercore.models.architecture import Transformer
from papercore.models.errors import ModelError
from papercore.models.steer import Steers, by_layer, places, steered
from papercore.models.tokens import Batch, Text, at_position, check_position, encode, in_batches

POSITIONS = ("last", "mean", "all")


def activations(
    model: Transformer,
    texts: Sequence[Text],
    layers: int | Sequence[int],
    site: str = "resid_post",
    position: str | int = "last",
    *,
    batch_tokens: int = 1024,
    cache: bool = True,
    steer: Steers = None,
) -> torch.Tensor | list[torch.Tensor] | dict[int, torch.Tensor | list[torch.Tensor]]:
    """Activations of each text, (n_texts, d_model) float32 on the CPU; for a list of layers a dict of them.

    site: resid_post at layers 0 to n_layers (the last one before the final norm); at layers 1 to n_layers attn_out and
    mlp_out, what those modules of block L return, mlp_in, what its MLP reads, and post_attention_layernorm, which is
    refused where it is not the normed residual stream after attention. position: "last" and "mean" are over the text's
    own tokens, special tokens included; an integer counts them, from the end if negative; "all" gives a list of
    (n_tokens_i, d_model). batch_tokens: padded tokens a batch (larger ones overflow a CPU's caches and are slower).
    steer: read with it in place; a text is one forward pass, of which "generated" is nothing. Raises ModelError.
    """
    wanted = list(layers) if hasattr(layers, "__iter__") else [layers]
    model.check(wanted, site)
    encoded = encode(model, texts)
    check_position(encoded, position, POSITIONS)
    plan = by_layer(model, steer, len(encoded))

    counts = [len(ids) if position == "all" else 1 for ids in encoded]
    # Steered readings are not kept: a sweep of strengths would fill the cache with states nobody asks for again.
    cache = cache and not plan
    keys = {layer: store.key(model, encoded, layer, site, position) for layer in wanted} if cache else {}
    states = {layer: store.load(key, (sum(counts), model.d_model)) for layer, key in keys.items()}
    missing = [layer for layer in wanted if states.get(layer) is None]
    if missing:
        taken = in_batches(model, encoded, lambda b: _read(model, b, missing, site, position, plan), batch_tokens)
        for layer in missing:
            states[layer] = torch.cat([one[layer] for one in taken])
            _refuse_non_finite(model, states[layer], counts, layer)
        if cache:
            store.save({keys[layer]: states[layer] for layer in missing})
    found = {layer: list(states[layer].split(counts)) if position == "all" else states[layer] for layer in wanted}
    return found if hasattr(layers, "__iter__") else found[layers]


@torch.no_grad()
def _read(
    model: Transformer, batch: Batch, layers: list[int], site: str, position: str | int, plan: dict
) -> list[dict[int, torch.Tensor]]:
    """Layer -> states, (1 or n_tokens, d_model), of each text of the batch."""
    taken = {}
    at = places(batch.mask, generated=False)
    with model.nn.trace(**batch.inputs) as tracer:
        for layer in range(max(layers) + 1):
            # Only what is needed is touched, and in the order of the pass: attention and MLP before their block's end.
            if site != "resid_post" and layer in layers:
                taken[layer] = _take(model.part(site, layer), batch, position)
            if layer in plan or (site == "resid_post" and layer in layers):
                hidden = steered(model, layer, plan, batch, at)
                if site == "resid_post" and layer in layers:
                    taken[layer] = _take(hidden, batch, position)
        # What lies deeper, the vocabulary head above all, never runs.
        tracer.stop()
    return [{layer: states[i] for layer, states in taken.items()} for i in range(len(batch.rows))]


def _take(hidden: torch.Tensor, batch: Batch, position: str | int) -> Sequence[torch.Tensor]:
    """The states of each text at `position`, (1 or n_tokens, d_model) float32 on the CPU."""
    if position == "all":
        return hidden[batch.mask].float().cpu().split(batch.lengths.tolist())
    if position == "mean":
        total = hidden.float().masked_fill(~batch.mask[..., None], 0).sum(1)
        return (total / batch.lengths[:, None]).cpu().split(1)
    return hidden[at_position(batch, position)].float().cpu().split(1)


def _refuse_non_finite(model: Transformer, states: torch.Tensor, counts: list[int], layer: int) -> None:
    if not torch.isfinite(states).all():
        bad = next(row for row, part in enumerate(states.split(counts)) if not torch.isfinite(part).all())
        raise ModelError(
            f"text {bad} has activations at layer {layer} that are not finite; "
            f"load {model.name!r} with dtype='float32' instead of {model.dtype!r}, or check its weights and steering"
        )
