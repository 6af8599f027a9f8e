"""SAELens' own training step, in its own environment: answers requests (a line of JSON each) on standard input.

`{"name": "topk", "steps": 20}` runs so many steps of that SAE, made on first use, and answers seconds and mean L0.
The first argument is a JSON object: path of the activations, d, m, k, batch.
"""

import contextlib
import json
import os
import sys
import time

import torch
from safetensors.torch import load_file

with contextlib.redirect_stdout(sys.stderr):
    from sae_lens import saes
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer


def trainer(name: str, x: torch.Tensor, about: dict) -> SAETrainer:
    """A trainer at the library's defaults, but for what both sides share."""
    base = {"d_in": about["d"], "d_sae": about["m"], "device": "cpu", "dtype": "float32"}
    k = about["k"]
    configs = {
        "relu": (saes.StandardTrainingSAE, saes.StandardTrainingSAEConfig, {"l1_coefficient": 1.0}),
        "topk": (saes.TopKTrainingSAE, saes.TopKTrainingSAEConfig, {"k": k}),
        "batch_topk": (saes.BatchTopKTrainingSAE, saes.BatchTopKTrainingSAEConfig, {"k": k}),
        "jumprelu": (saes.JumpReLUTrainingSAE, saes.JumpReLUTrainingSAEConfig, {"l0_coefficient": 1.0}),
        "gated": (saes.GatedTrainingSAE, saes.GatedTrainingSAEConfig, {"l1_coefficient": 1.0}),
        "matryoshka": (
            saes.MatryoshkaBatchTopKTrainingSAE,
            saes.MatryoshkaBatchTopKTrainingSAEConfig,
            {"k": k, "matryoshka_widths": [about["m"] // n for n in (32, 8, 4, 2, 1)]},
        ),
    }
    kind, config, own = configs[name]
    torch.manual_seed(0)

    def batches():
        while True:
            yield x[torch.randint(len(x), (about["batch"],))]

    cfg = SAETrainerConfig(total_training_samples=10**9, train_batch_size_samples=about["batch"], lr=1e-3, lr_end=1e-4)
    return SAETrainer(cfg, kind(config(**base, **own)), batches())


def main() -> None:
    """Answer until standard input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints
    about = json.loads(sys.argv[1])
    x = load_file(about["path"])["x"]
    trainers: dict[str, SAETrainer] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked["name"]
        if name not in trainers:
            trainers[name] = trainer(name, x, about)
        one, l0 = trainers[name], 0.0
        begin = time.perf_counter()
        for _ in range(asked["steps"]):
            step = one.step(next(one.data_provider))
            one.n_training_steps += 1
            l0 = float((step.feature_acts > 0).sum()) / about["batch"]
        seconds = time.perf_counter() - begin
        out.write(json.dumps({"seconds": seconds, "l0": l0}) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
