"""Where a transformer keeps its blocks, attention, MLP and head, whatever its architecture. Floor: models.

Layer 0 is the embeddings (the input of block 1), layer L the residual stream after L blocks: the numbers of
transformers' `hidden_states`, except that the last layer is read before the final norm.
"""

from functools import cached_property
from numbers import Integral
from typing import Any

import torch

from papercore.models.errors import ModelError

SITES = ("resid_post", "attn_out", "mlp_in", "mlp_out", "post_attention_layernorm")
# The module's name says when it runs, not what it normalises: the residual stream after attention in Llama, Qwen-2 and
# Gemma, attention's output alone in Gemma-2 and Gemma-3, the block's input in GPT-NeoX.
NORM = "post_attention_layernorm"
# What the modelling files of transformers call the two halves of a block.
SUBMODULES = {
    "attn_out": ("self_attn", "attn", "attention", "self_attention"),
    "mlp_out": ("mlp", "feed_forward", "block_sparse_moe"),
}


class Transformer:
    """A causal language model in nnsight, and its modules by the names that reading, steering and scoring use.

    The methods on layers work inside a trace, and only in the order in which the model runs.
    """

    def __init__(self, nn: Any, name: str, identity: str, dtype: str):
        self.nn, self.name, self.identity, self.dtype, self.tokenizer = nn, name, identity, dtype, nn.tokenizer
        module, text = nn._module, nn._module.config.get_text_config(decoder=True)
        self.architecture: str = module.config.model_type
        self.n_layers, self.d_model, self.vocabulary = text.num_hidden_layers, text.hidden_size, text.vocab_size
        self.context: int | None = getattr(text, "max_position_embeddings", None)
        self.device: torch.device = next(module.parameters()).device

        inside = module.get_decoder().modules()
        stacks = [m for m in inside if isinstance(m, torch.nn.ModuleList) and len(m) == self.n_layers]
        head = module.get_output_embeddings()
        if not stacks or head is None:
            raise ModelError(
                f"{name!r} ({self.architecture}) has no stack of {self.n_layers} blocks under a vocabulary head; "
                "only decoder language models can be read"
            )
        paths = {id(child): path for path, child in module.named_modules()}
        self.blocks = [nn.get(f"{paths[id(stacks[0])]}.{i}") for i in range(self.n_layers)]
        self.head = nn.get(paths[id(head)])
        self.parts: dict[str, list] = {}
        for site, names in SUBMODULES.items():
            part = next((n for n in names if all(hasattr(block, n) for block in stacks[0])), None)
            if part is not None:
                self.parts[site] = [getattr(block, part) for block in self.blocks]
        if "mlp_out" in self.parts:
            self.parts["mlp_in"] = self.parts["mlp_out"]
        if all(hasattr(block, NORM) for block in stacks[0]):
            self.parts[NORM] = [getattr(block, NORM) for block in self.blocks]

    @property
    def sites(self) -> tuple[str, ...]:
        """What of a block can be read."""
        return tuple(site for site in SITES if self.supports(site))

    def supports(self, site: str) -> bool:
        """Whether this architecture has `site`, and it means what `read.activations` says."""
        return site == "resid_post" or (site in self.parts and (site != NORM or self.norm_feeds_mlp))

    def check(self, layers: list[int], site: str = "resid_post") -> None:
        """Refuse a site the architecture lacks and layers out of range; raises ModelError."""
        if site not in SITES:
            raise ModelError(f"unknown site {site!r}; the sites are {', '.join(SITES)}")
        if site == NORM and site in self.parts and not self.norm_feeds_mlp:
            raise ModelError(
                f"in the {self.architecture} architecture {NORM} is not the normed residual stream after attention "
                "that the MLP reads; take mlp_in for that, or resid_post"
            )
        if not self.supports(site):
            raise ModelError(f"the {self.architecture} architecture has no {site}; it has {', '.join(self.sites)}")
        lowest = 0 if site == "resid_post" else 1
        allowed = f"choose from {lowest} to {self.n_layers}"
        if not layers:
            raise ModelError(f"no layer was asked for; {allowed}")
        for layer in layers:
            if isinstance(layer, bool) or not isinstance(layer, Integral) or not lowest <= layer <= self.n_layers:
                raise ModelError(f"layer {layer!r} is out of range for {site} in {self.name!r}; {allowed}")

    def residual(self, layer: int) -> torch.Tensor:
        """The residual stream at `layer`, (n, n_tokens, d_model)."""
        return self.blocks[0].input if layer == 0 else _states(self.blocks[layer - 1].output)

    def set_residual(self, layer: int, value: torch.Tensor) -> None:
        """Let the model go on with `value` at `layer`."""
        if layer == 0:
            self.blocks[0].input = value
            return
        # Some blocks return (states, weights, ...), others the states alone: indexing a lone tensor with [0] takes the
        # first text of the batch, and writing through that steers all of its positions.
        output = self.blocks[layer - 1].output
        self.blocks[layer - 1].output = (value, *output[1:]) if isinstance(output, tuple) else value

    def part(self, site: str, layer: int) -> torch.Tensor:
        """What the site's module of block `layer` returns, before any norm after it; for mlp_in, what it gets."""
        module = self.parts[site][layer - 1]
        return module.input if site == "mlp_in" else _states(module.output)

    @cached_property
    @torch.no_grad()
    def bare_blocks(self) -> bool:
        """Whether a block returns its states alone, seen in what block 1 makes of two tokens."""
        ids, kept = torch.tensor([[0, 1]], device=self.device), []
        with self.nn.trace(input_ids=ids, attention_mask=torch.ones_like(ids)) as tracer:
            kept.append(isinstance(self.blocks[0].output, torch.Tensor))
            tracer.stop()
        return kept[0]

    @cached_property
    @torch.no_grad()
    def norm_feeds_mlp(self) -> bool:
        """Whether post_attention_layernorm norms block input + attention, and the MLP reads what it returns.

        Seen in what block 1 makes of two tokens, not taken from a list of architectures.
        """
        if not {NORM, "attn_out", "mlp_in"} <= set(self.parts):
            return False
        norm, ids = self.parts[NORM][0], torch.tensor([[0, 1]], device=self.device)
        with self.nn.trace(input_ids=ids, attention_mask=torch.ones_like(ids)) as tracer:
            stream = self.residual(0).save()
            attention = self.part("attn_out", 1).save()
            normed = norm.input.save()
            said = self.part(NORM, 1).save()
            read = self.part("mlp_in", 1).save()
            tracer.stop()
        return torch.allclose(normed, stream + attention, rtol=1e-3) and torch.equal(said, read)


def _states(output: torch.Tensor | tuple) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output
