"""Training throughput of SAEs beside SAELens, dictionary_learning and sparsify: same activations, batch and width.

`python -m benchmarks.sae_throughput [--rounds 5] [--steps 20]` prints Markdown tables and writes sae_throughput.md.
Rounds are interleaved. Each peer runs in an environment of its own: PAPERCORE_PEER_SAELENS, ..._DICTIONARY_LEARNING and
..._SPARSIFY name its python, else one is made in a temporary folder; a peer that cannot be installed is left out.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import relu

from benchmarks.reading_speed import snippets
from papercore.models import load_model
from papercore.sae import registry, trainer
from papercore.sae.activations import scale, tokens
from papercore.sae.sparse import Codes, weighted_sum

PEERS = {  # what is installed, and what of it is measured
    "SAELens": ("sae-lens==6.54.0", ["topk", "batch_topk", "matryoshka", "relu", "gated", "jumprelu"]),
    "dictionary_learning": (
        "dictionary-learning==0.1.0",
        ["topk", "batch_topk", "matryoshka", "relu", "gated", "jumprelu"],
    ),
    "sparsify": ("eai-sparsify==1.3.3", ["topk"]),
}
TORCH = "torch==2.13.0"
OURS = [
    "topk",
    "batch_topk",
    "matryoshka",
    "switch",
    "feature_choice",
    "relu",
    "p_anneal",
    "gated",
    "prolu",
    "jumprelu",
]


class Ours:
    """Our trainer's own step, one architecture at a time."""

    def __init__(self, x: torch.Tensor, m: int, k: int, batch: int):
        self.x, self.m, self.k, self.batch, self.runs = x, m, k, batch, {}

    def step(self, name: str, steps: int) -> dict:
        """Seconds and last L0 of so many further steps."""
        recipe = trainer.Recipe(batch=self.batch)
        if name not in self.runs:
            sae = registry.make(name, self.x.shape[1], self.m, self.k)
            sae.calibrate(self.x[:4096])
            sae.coefficient = trainer.FIRST_COEFFICIENT if sae.steered else 1.0
            optimiser = torch.optim.Adam(sae.parameters(), lr=1e-3, betas=sae.betas, fused=True)
            state = trainer._State(torch.zeros(self.m, dtype=torch.long), 0.0, [])
            self.runs[name] = sae.train(), optimiser, state
        sae, optimiser, state = self.runs[name]
        begin, row = time.perf_counter(), {}
        for _ in range(steps):
            rows = torch.randint(len(self.x), (self.batch,))
            row = trainer._step(sae, self.x[rows], None, optimiser, recipe, state)
        return {"seconds": time.perf_counter() - begin, "l0": row["l0"]}


class Dense:
    """TopK as one would first write it: every product dense, Adam not fused."""

    def __init__(self, x: torch.Tensor, m: int, k: int, batch: int):
        self.x, self.k, self.batch = x, k, batch
        sae = registry.make("topk", x.shape[1], m, k)
        self.p = [torch.nn.Parameter(one.detach().clone()) for one in (sae.encoder, sae.encoder_bias, sae.decoder)]
        self.optimiser = torch.optim.Adam(self.p, lr=1e-3)

    def step(self, name: str, steps: int) -> dict:
        """As above; there is one architecture."""
        begin = time.perf_counter()
        for _ in range(steps):
            x = self.x[torch.randint(len(self.x), (self.batch,))]
            top = (x @ self.p[0].T + self.p[1]).topk(self.k, dim=1)
            codes = torch.zeros(len(x), len(self.p[0])).scatter(1, top.indices, relu(top.values))
            loss = (x - codes @ self.p[2]).square().mean()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        return {"seconds": time.perf_counter() - begin, "l0": float(self.k)}


class Peer:
    """A peer in a process of its own, which waits while others compute."""

    def __init__(self, peer: str, python: str, about: dict):
        script = Path(__file__).parent / "peers" / f"of_{peer.lower()}.py"
        self.peer, command = peer, [python, str(script), json.dumps(about)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self, name: str, steps: int) -> dict:
        """As above."""
        self.process.stdin.write(json.dumps({"name": name, "steps": steps}) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):  # some libraries print while they are imported
                return json.loads(line)
        raise RuntimeError(f"{self.peer} ended while it trained {name}")


def activations() -> torch.Tensor:
    """Kept and scaled tokens of film-review snippets at block 15 of SmolLM2, (n_tokens, 576)."""
    states = load_model("smollm2-135m-instruct", device="cpu").activations(snippets(), 15, position="all")
    x = tokens(states).x
    return x / scale(x)


def peer_python(peer: str, folder: Path) -> str | None:
    """The python of an environment with a peer, made where none is named; None where it cannot be had."""
    if given := os.environ.get(f"PAPERCORE_PEER_{peer.upper()}"):
        return given
    python, pins = folder / peer / "bin" / "python", folder / "pins.txt"
    pins.write_text(f"{TORCH}\n", encoding="utf-8")
    pip = [str(python), "-m", "pip"]
    commands = [
        [sys.executable, "-m", "venv", str(folder / peer)],
        [*pip, "install", "--quiet", TORCH],
        [*pip, "install", "--quiet", "-c", str(pins), PEERS[peer][0]],
        # An old nnsight asks for it; its build is for another torch, and transformers stumbles over it.
        [*pip, "uninstall", "--quiet", "--yes", "torchvision"],
    ]
    done = all(subprocess.run(command).returncode == 0 for command in commands)
    return str(python) if done else None


def parts(x: torch.Tensor, m: int, k: int) -> str:
    """Milliseconds of the parts of a TopK step, sparse as ours and dense, as a table."""
    sae = registry.make("topk", x.shape[1], m, k).train()
    codes = sae.encode_sparse(x)
    values, weight = codes.values.detach().requires_grad_(), sae.decoder
    pairs, gradient = codes.pairs, torch.randn_like(x)
    dense = codes.dense().detach()
    adam = {fused: torch.optim.Adam([weight], fused=fused) for fused in (True, False)}
    weight.grad = torch.randn_like(weight)

    def backward():
        pairs.__dict__.pop("by_latent", None)  # a new batch has to sort anew
        torch.autograd.grad(weighted_sum(Codes(pairs, values), weight), (values, weight), gradient)

    rows = {
        "encode": (lambda: sae.products(x), lambda: x @ sae.encoder.detach().T),
        "choose pairs": (lambda: sae.active(sae_scores), lambda: sae_scores.topk(k, dim=1)),
        "decode": (
            lambda: weighted_sum(Codes(pairs, values.detach()), weight.detach()),
            lambda: dense @ weight.detach(),
        ),
        "decode and its gradients": (
            backward,
            lambda: (dense @ weight.detach(), gradient @ weight.detach().T, dense.T @ gradient),
        ),
        "Adam, decoder": (adam[True].step, adam[False].step),
    }
    sae_scores = sae.products(x)
    lines = ["| part of a TopK step | ours, ms | dense, ms |", "|---|---|---|"]
    for name, both in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{milliseconds(one):.1f}" for one in both) + " |")
    return "\n".join(lines)


def milliseconds(f, n: int = 15) -> float:
    """Median time of a call."""
    f()
    taken = []
    for _ in range(n):
        begin = time.perf_counter()
        f()
        taken.append(time.perf_counter() - begin)
    return 1000 * statistics.median(taken)


def measure(a: argparse.Namespace) -> str:
    """Both tables, as Markdown."""
    torch.manual_seed(0)
    x = activations()[:, : a.d].contiguous()
    with tempfile.TemporaryDirectory() as name:
        save_file({"x": x}, Path(name) / "x.safetensors")
        about = {"path": f"{name}/x.safetensors", "d": a.d, "m": a.m, "k": a.k, "batch": a.batch}
        pythons = {peer: peer_python(peer, Path(name)) for peer in PEERS}
        peers = {peer: Peer(peer, python, about) for peer, python in pythons.items() if python}
        sides = {"ours": Ours(x, a.m, a.k, a.batch), "dense": Dense(x, a.m, a.k, a.batch), **peers}
        jobs = [("ours", n) for n in OURS] + [("dense", "topk")] + [(peer, n) for peer in peers for n in PEERS[peer][1]]
        for side, one in jobs:
            sides[side].step(one, a.warm)  # a penalised SAE is measured near its own sparsity
        speed: dict = {job: [] for job in jobs}
        l0: dict = {}
        for round_ in range(a.rounds):
            for side, one in jobs[round_ % len(jobs) :] + jobs[: round_ % len(jobs)]:
                said = sides[side].step(one, a.steps)
                speed[side, one].append(a.steps * a.batch / said["seconds"])
                l0[side, one] = said["l0"]
        for peer in peers.values():
            peer.process.stdin.close()
            peer.process.wait()
    missing = [f"{PEERS[peer][0]} could not be installed" for peer in PEERS if peer not in peers]
    lines = [
        f"{len(x)} tokens of SmolLM2 at block 15, d {a.d}, m {a.m}, k {a.k}, batch {a.batch}, float32, "
        f"{torch.get_num_threads()} threads on {platform.machine()}, torch {torch.__version__}, "
        f"{', '.join([PEERS[peer][0] for peer in peers] + missing)}; median (range) of {a.rounds} interleaved rounds "
        f"of {a.steps} steps, and of the ratios within a round. L0 is that of the last batch: the peers' penalised "
        "SAEs are at their default coefficients; their steps are dense, so L0 does not change their time.",
        "",
        "| architecture | tokens/s | L0 | "
        + " | ".join(f"{peer}, tokens/s | L0 | ours / its" for peer in peers)
        + " |",
        "|" + "---|" * (3 + 3 * len(peers)),
    ]
    for one in OURS:
        ours = speed["ours", one]
        row = [one, spread(ours), f"{l0['ours', one]:.0f}"]
        for peer in peers:
            theirs = speed.get((peer, one))
            if theirs is None:
                row += ["", "", ""]
                continue
            ratios = [p / q for p, q in zip(ours, theirs, strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            row += [spread(theirs), f"{l0[peer, one]:.0f}", ratio]
        lines.append(f"| {' | '.join(row)} |")
    lines.append(f"| TopK written densely | {spread(speed['dense', 'topk'])} | {a.k} |" + " |" * 3 * len(peers))
    return "\n".join([*lines, "", parts(x[: a.batch], a.m, a.k), ""])


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (
        ("d", 576),
        ("m", 2304),
        ("k", 32),
        ("batch", 1024),
        ("steps", 20),
        ("rounds", 5),
        ("warm", 100),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    table = measure(parser.parse_args())
    print(table)
    Path(__file__).with_suffix(".md").write_text(f"# Training throughput of SAEs\n\n{table}", encoding="utf-8")


if __name__ == "__main__":
    main()
