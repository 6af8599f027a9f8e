"""dictionary_learning, see serve.py; its trainers at the library's defaults, but for what all sides share."""

import torch
from dictionary_learning.trainers import batch_top_k, gdm, jumprelu, matryoshka_batch_top_k, standard, top_k
from serve import serve


def make(name: str, d: int, m: int, k: int):
    """A trainer and its `update`."""
    kinds = {
        "topk": (top_k.TopKTrainer, {"k": k, "lr": 1e-3}),
        "batch_topk": (batch_top_k.BatchTopKTrainer, {"k": k, "lr": 1e-3}),
        "matryoshka": (
            matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer,
            {"k": k, "lr": 1e-3, "group_fractions": [1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32]},
        ),
        "relu": (standard.StandardTrainer, {"lr": 1e-3}),
        "gated": (gdm.GatedSAETrainer, {"lr": 1e-3}),
        "jumprelu": (jumprelu.JumpReluTrainer, {"lr": 1e-3, "target_l0": float(k)}),
    }
    kind, own = kinds[name]
    one = kind(steps=10**6, activation_dim=d, dict_size=m, layer=15, lm_name="smollm2", device="cpu", **own)
    count = iter(range(10**9))

    def l0(x: torch.Tensor) -> float:
        # In training the TopK family takes exactly k, whatever its threshold says meanwhile.
        return float(k) if hasattr(one, "effective_l0") else float((one.ae.encode(x) > 0).sum()) / len(x)

    return lambda x: one.update(next(count), x), l0


serve(make)
