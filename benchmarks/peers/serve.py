"""A peer's own training step, in an environment of its own: answers requests, a line of JSON each, on standard input.

`{"name": "topk", "steps": 20}` runs so many steps of that SAE, made on first use, and answers seconds and L0. The first
argument is a JSON object: path of the activations, d, m, k, batch.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import torch
from safetensors.torch import load_file

# From (name, d, m, k): a function that trains on one batch, and one that gives the mean L0 of a batch.
Make = Callable[[str, int, int, int], tuple[Callable[[torch.Tensor], object], Callable[[torch.Tensor], float]]]


def serve(make: Make) -> None:
    """Answer until standard input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints
    about = json.loads(sys.argv[1])
    x = load_file(about["path"])["x"]
    made: dict = {}
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked["name"]
        if name not in made:
            torch.manual_seed(0)
            made[name] = make(name, about["d"], about["m"], about["k"])
        step, l0 = made[name]
        begin = time.perf_counter()
        for _ in range(asked["steps"]):
            step(x[torch.randint(len(x), (about["batch"],))])
        seconds = time.perf_counter() - begin
        out.write(json.dumps({"seconds": seconds, "l0": l0(x[: about["batch"]])}) + "\n")
        out.flush()
