"""Reading speed, side by side in one process: four ways to the residual stream at block 15 of SmolLM2.

`python -m benchmarks.reading_speed [--texts 250] [--runs 5]` prints a Markdown table and writes reading_speed.md beside
this file. The runs are interleaved, so that a busy moment meets all four; float32, nothing cached.
"""

import argparse
import platform
import statistics
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from papercore.assets import fetch
from papercore.models import Model, load_model
from papercore.models.tokens import Batch, at_position, encode, in_batches

LAYER = 15
# The default of `Model.activations`: on CPUs larger batches overflow the caches and are slower.
BATCH_TOKENS = 1024


class Stop(Exception):
    """Ends a plain forward pass early."""


def snippets() -> list[str]:
    """Film-review snippets (Hutto and Gilbert 2014) of 8 to 25 words, rated at least 1.5 from neutral, each once."""
    with tarfile.open(fetch("hutto-icwsm-2014")) as archive:
        raw = archive.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt").read().decode()
    rows = [line.split("\t") for line in raw.splitlines()]
    chosen = [text for _, valence, text in rows if 8 <= len(text.split()) <= 25 and abs(float(valence)) >= 1.5]
    return list(dict.fromkeys(chosen))


@torch.no_grad()
def one_prompt_traces(model: Model, texts: list[str]) -> torch.Tensor:
    """nnsight as its quick start shows it: one prompt a trace, the whole model runs."""
    states = []
    for text in texts:
        with model.nn.trace(text):
            states.append(model.nn.model.layers[LAYER - 1].output[:, -1])
    return torch.cat(states)


@torch.no_grad()
def batched_traces_with_head(model: Model, texts: list[str]) -> torch.Tensor:
    """nnsight with 32 prompts a trace, in the order they come; the whole model runs."""
    states = []
    for start in range(0, len(texts), 32):
        with model.nn.trace(texts[start : start + 32]):
            # nnsight pads decoders left, so the last position is every prompt's own.
            states.append(model.nn.model.layers[LAYER - 1].output[:, -1])
    return torch.cat(states)


def plain_hooks(plain: torch.nn.Module) -> Callable[[Model, list[str]], torch.Tensor]:
    """Plain torch: the same batches as ours, a forward hook that stops the pass, on a model nnsight never saw."""

    @torch.no_grad()
    def read(model: Model, texts: list[str]) -> torch.Tensor:
        seen = []

        def hook(module, inputs, output):
            seen.append(output)
            raise Stop

        def run(batch: Batch) -> torch.Tensor:
            try:
                plain(**batch.inputs)
            except Stop:
                return seen.pop()[at_position(batch, "last")]

        handle = plain.model.layers[LAYER - 1].register_forward_hook(hook)
        try:
            return torch.stack(in_batches(model, encode(model, texts), run, BATCH_TOKENS))
        finally:
            handle.remove()

    return read


def papercore(model: Model, texts: list[str]) -> torch.Tensor:
    """`Model.activations`."""
    return model.activations(texts, LAYER, batch_tokens=BATCH_TOKENS, cache=False)


def measure(n_texts: int, runs: int) -> str:
    """The table, as Markdown."""
    from transformers import AutoModelForCausalLM

    model = load_model("smollm2-135m-instruct", device="cpu")
    folder = model.nn._module.name_or_path
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    texts = snippets()[:n_texts]
    tokens = sum(map(len, encode(model, texts)))
    ways = {
        "nnsight, one prompt a trace": one_prompt_traces,
        "nnsight, 32 prompts a trace, with the head": batched_traces_with_head,
        "plain forward hooks, our batches, early stop": plain_hooks(plain),
        "papercore `activations`": papercore,
    }
    reference = plain_hooks(plain)(model, texts)
    error = dict.fromkeys(ways, 0.0)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(model, texts[:8])
    for run in range(runs):
        # Each run begins with another way, so that none always follows the same neighbour.
        for name in [*ways][run % len(ways) :] + [*ways][: run % len(ways)]:
            start = time.perf_counter()
            states = ways[name](model, texts)
            seconds[name].append(time.perf_counter() - start)
            error[name] = max(error[name], ((states - reference).norm(dim=1) / reference.norm(dim=1)).max().item())
    base = statistics.median(seconds["plain forward hooks, our batches, early stop"])
    lines = [
        f"{n_texts} film-review snippets, {tokens} tokens, SmolLM2-135M-Instruct to block {LAYER}, float32, "
        f"{torch.get_num_threads()} threads on {platform.machine()}, torch {torch.__version__}; "
        f"median of {runs} interleaved runs.",
        "",
        "| way | tokens/s | slowest to fastest | time against plain hooks | largest relative difference |",
        "|---|---|---|---|---|",
    ]
    for name, taken in seconds.items():
        speed = [f"{tokens / s:,.0f}" for s in (statistics.median(taken), max(taken), min(taken))]
        ratio = statistics.median(taken) / base
        lines.append(f"| {name} | {speed[0]} | {speed[1]} to {speed[2]} | {ratio:.2f} | {error[name]:.1e} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=250)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    table = measure(arguments.texts, arguments.runs)
    print(table)
    Path(__file__).with_suffix(".md").write_text("# Reading speed\n\n" + table, encoding="utf-8")


if __name__ == "__main__":
    main()
