"""Tiny random models of nine architectures with a byte tokenizer, made offline, and what tests compare with."""

import torch

from papercore.models.load import quiet

TEXTS = [
    "a warm and funny film",
    "no",
    "the plot is thin but the cast is warm",
    "it is long , it is dull , and no one in it is worth the time",
    "a film",
    "the dog was the best of the cast and i laughed",
    "dull dull dull",
    "i laughed at the plot , not with it , and left before the end of the film",
]

_SHAPE = {"num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 96, "initializer_range": 0.3}
_ROTARY = _SHAPE | {"hidden_size": 32, "intermediate_size": 48, "num_key_value_heads": 2}
_HEADED = _ROTARY | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6, "tie_word_embeddings": False}
CONFIGS = {
    "llama": _ROTARY,
    "gemma": _ROTARY | {"head_dim": 8},
    "gemma2": _HEADED | {"final_logit_softcapping": 3.0},
    "gemma3_text": _HEADED | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "qwen2": _ROTARY,
    "gpt2": {"n_layer": 3, "n_head": 4, "n_embd": 32, "n_positions": 96, "initializer_range": 0.3},
    "gpt_neox": _SHAPE | {"hidden_size": 32, "intermediate_size": 48},
    # Blocks that return a tuple.
    "gpt_neo": {
        "num_layers": 3,
        "num_heads": 4,
        "hidden_size": 32,
        "max_position_embeddings": 96,
        "attention_types": [[["global", "local", "global"], 1]],
        "window_size": 6,
        "initializer_range": 0.3,
    },
    # No module for the MLP.
    "opt": _SHAPE | {"hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 32},
}
ARCHITECTURES = [name for name in CONFIGS if name != "opt"]


def make_folder(folder, architecture):
    """A tiny model and a byte tokenizer (no pad token but for Gemma's, which begin texts with one) in `folder`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    # The alphabet comes in another order in each process.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", "<pad>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    if architecture.startswith("gemma"):
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        special["pad_token"] = "<pad>"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = AutoConfig.for_model(
        architecture,
        **CONFIGS[architecture],
        vocab_size=len(vocabulary),
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2 if architecture.startswith("gemma") else None,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    # Norms that are all ones and biases that are all zero would hide mistakes.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    with quiet():
        model.save_pretrained(folder)
    return folder


def ids_of(model, text):
    """Token ids of one text, (1, n_tokens)."""
    return torch.tensor([model.tokenizer(text)["input_ids"]])


def blocks(model):
    """The plain torch modules of the blocks."""
    decoder = model.nn._module.get_decoder()
    return next(getattr(decoder, name) for name in ("layers", "h") if hasattr(decoder, name))


def relative_error(ours, reference):
    """Largest error of any token, relative to the reference token's norm."""
    return ((ours - reference).norm(dim=-1) / reference.norm(dim=-1)).max().item()
