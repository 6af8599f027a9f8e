"""`Model`: one object over nnsight, with the same verbs for every architecture. Floor: models."""

from typing import Any

from papercore.models import generation, read, score
from papercore.models import lens as lenses
from papercore.models import splice as splicing
from papercore.models.architecture import Transformer


class Model(Transformer):
    """A causal language model; `load_model` makes one.

    Layer 0 is the embeddings, layer L the residual stream after L blocks, up to n_layers. `nn` is the bare nnsight
    model for a trace by hand, `sites` what of a block can be read, `identity` the sha256 of weights (or the seed of
    random ones), configuration and dtype.
    """

    activations = read.activations
    generate = generation.generate
    generate_ids = generation.generate_ids
    lens = lenses.lens
    logits = score.logits
    logprobs = score.logprobs
    splice = splicing.splice
    splice_loss = splicing.splice_loss

    def __init__(self, nn: Any, name: str, identity: str, dtype: str):
        from transformers import GenerationConfig

        super().__init__(nn, name, identity, dtype)
        ends = nn._module.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self.ends: list[int] = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        # Padding is masked everywhere, so any token will do where a tokenizer has none, or one the model does not know.
        pad = self.tokenizer.pad_token_id
        self.pad: int = pad if pad is not None and pad < self.vocabulary else 0
        # A checkpoint's own penalties, top-k and the like would slip into every comparison.
        nn._module.generation_config = GenerationConfig(eos_token_id=self.ends or None, pad_token_id=self.pad)

    def __repr__(self) -> str:
        shape = f"{self.architecture}, {self.n_layers} layers, d_model {self.d_model}"
        return f"Model({self.name!r}: {shape}, {self.dtype} on {self.device})"
