"""SAELens, see serve.py; its trainers at the library's defaults, but for what all sides share."""

import contextlib
import sys

from serve import serve

with contextlib.redirect_stdout(sys.stderr):
    from sae_lens import saes
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer


def make(name: str, d: int, m: int, k: int):
    """A trainer that is fed batch by batch."""
    configs = {
        "relu": (saes.StandardTrainingSAE, saes.StandardTrainingSAEConfig, {"l1_coefficient": 1.0}),
        "topk": (saes.TopKTrainingSAE, saes.TopKTrainingSAEConfig, {"k": k}),
        "batch_topk": (saes.BatchTopKTrainingSAE, saes.BatchTopKTrainingSAEConfig, {"k": k}),
        "jumprelu": (saes.JumpReLUTrainingSAE, saes.JumpReLUTrainingSAEConfig, {"l0_coefficient": 1.0}),
        "gated": (saes.GatedTrainingSAE, saes.GatedTrainingSAEConfig, {"l1_coefficient": 1.0}),
        "matryoshka": (
            saes.MatryoshkaBatchTopKTrainingSAE,
            saes.MatryoshkaBatchTopKTrainingSAEConfig,
            {"k": k, "matryoshka_widths": [m // n for n in (32, 8, 4, 2, 1)]},
        ),
    }
    kind, config, own = configs[name]
    sae = kind(config(d_in=d, d_sae=m, device="cpu", dtype="float32", **own))
    cfg = SAETrainerConfig(total_training_samples=10**9, train_batch_size_samples=1024, lr=1e-3, lr_end=1e-4)
    trainer, last = SAETrainer(cfg, sae, iter(())), {}

    def step(x):
        last["codes"] = trainer.step(x).feature_acts
        trainer.n_training_steps += 1

    return step, lambda x: float((last["codes"] > 0).sum()) / len(last["codes"])


serve(make)
