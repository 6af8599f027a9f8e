"""The recorded frontier: made by `python -m papercore.papers.sae_survey.recording`, and partly made again in each run.

It is bound to corpus, model and settings by a key; for any other the notebook has to train the frontier itself.
"""

from __future__ import annotations

import hashlib
import json
import time
from importlib import resources
from importlib.metadata import version
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

from papercore.papers.sae_survey import data, zoo

TABLES = ("runs", "documents", "probing")
SUMS = ("error", "variance", "dot", "norm2_hat")
# What of a run is compared when a part is made again.
COMPARED = ["L0", "FVU", "relative bias", "probing"]


class RecordingError(ValueError):
    """What is recorded does not belong to the settings asked for."""


def key(p, corpus: data.Corpus, model_identity: str) -> str:
    """Sha256 of corpus, model, settings and torch. The code is watched otherwise: each run makes a part again."""
    names = ["layer", "steps", "batch", "lr", "zoo_latents", "sparsities", "sweep", "fitting_seeds", "seed"]
    settings = {"zoo": p.architectures, **{name: getattr(p, name) for name in names}}
    said = [corpus.digest, model_identity, settings, version("torch")]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def folder() -> Traversable:
    """Where the recording lies."""
    return resources.files(__package__) / "recorded"


def recipe() -> dict:
    """How, where and in how long it was made, and its key."""
    return json.loads((folder() / "recipe.json").read_text(encoding="utf-8"))


def load(wanted: str) -> zoo.Frontier:
    """The recorded tables; raises RecordingError where they were made with other settings."""
    if (found := recipe()["key"]) != wanted:
        raise RecordingError(
            f"the recorded frontier has the key {found[:8]}, but these settings have {wanted[:8]}: "
            "take frontier = 'live', or the recorded settings"
        )
    tables = []
    for name in TABLES:
        with (folder() / f"{name}.parquet").open("rb") as file:
            tables.append(pd.read_parquet(file))
    return zoo.Frontier(*tables)


def again(found: zoo.Frontier, read: data.Read, corpus: data.Corpus, p, count: int) -> pd.DataFrame:
    """`count` of the recorded SAEs, drawn by the seed, trained once more: metric, recorded and live, a row each."""
    drawn = found.runs.sample(count, random_state=p.seed)
    todo = [zoo.Spec(r["name"], int(r["k"]), float(r["share"]), int(r["seed"])) for _, r in drawn.iterrows()]
    live = zoo.frontier(todo, read, corpus, p).runs
    both = live.merge(found.runs, on=zoo.KEYS, suffixes=("", " recorded"))
    rows = [
        (f"{r['name']}, k {r['k']}, seed {r['seed']}", metric, r[f"{metric} recorded"], r[metric])
        for _, r in both.iterrows()
        for metric in COMPARED
    ]
    return pd.DataFrame(rows, columns=["SAE", "metric", "recorded", "live"])


def record() -> None:
    """Make the recording with the cpu profile's parameters on this machine."""
    import torch
    from rich.progress import Progress

    from papercore.models import load_model
    from papercore.study import parameters, provenance

    p = parameters.resolve("sae_survey", "cpu")
    model = load_model(p.model, device="cpu", dtype=p.dtype)
    corpus = data.corpus(model.tokenizer, p.documents, p.test_documents, p.max_tokens, p.seed)
    read = data.read(model, corpus, p.layer)
    todo = zoo.specs(p, [1000 * p.seed + i for i in range(p.fitting_seeds)])
    started = time.monotonic()
    with Progress() as bar:
        task = bar.add_task("frontier", total=len(todo))
        found = zoo.frontier(todo, read, corpus, p, lambda done, _, __: bar.update(task, completed=done))
    out = Path(str(folder()))
    out.mkdir(exist_ok=True)
    for name in TABLES:
        # Sums over a document in single precision: half the size, and seven digits are more than a claim prints.
        table = getattr(found, name).astype(dict.fromkeys(SUMS, "float32") if name == "documents" else {})
        table.to_parquet(out / f"{name}.parquet", index=False, compression="zstd")
    about = {
        "key": key(p, corpus, model.identity),
        "command": "python -m papercore.papers.sae_survey.recording",
        "saes": len(todo),
        "tokens": {"train": len(read.train), "test": len(read.test)},
        "seconds": round(time.monotonic() - started),
        "threads": torch.get_num_threads(),
        "hardware": provenance.collect("sae_survey", 0)["hardware"],
    }
    (out / "recipe.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
