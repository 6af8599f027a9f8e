"""The frontier: every SAE of the zoo trained on the same tokens and measured on the same held-out documents."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from papercore.papers.sae_survey import data
from papercore.sae import functional, metrics, registry
from papercore.sae.base import SAE
from papercore.sae.trainer import Recipe, train

KEYS = ["name", "k", "share", "seed"]


@dataclass(frozen=True)
class Spec:
    """One SAE of the frontier; share: of the training documents that it sees."""

    name: str
    k: int
    share: float
    seed: int


@dataclass(frozen=True)
class Frontier:
    """Measured SAEs, each table with the columns name, k, share, seed.

    runs: a row an SAE, with the structural metrics on held-out tokens, seconds and probing (accuracy with one latent,
    mean over tasks). documents: a row an SAE and held-out document; error and variance summed over its tokens, dot and
    norm2_hat likewise. probing: a row an SAE and task, with the accuracy of 1 and of 5 latents.
    """

    runs: pd.DataFrame
    documents: pd.DataFrame
    probing: pd.DataFrame

    def of(self, name: str, share: float = 1.0) -> pd.DataFrame:
        """The runs of one architecture."""
        return self.runs[(self.runs["name"] == name) & (self.runs["share"] == share)]


SHARES = (1 / 16, 1 / 4, 1.0)  # of the training documents, for claim C8


def specs(p, seeds: Iterable[int]) -> list[Spec]:
    """All SAEs that the frontier's claims need, in a fixed order."""
    found = [Spec(name, k, 1.0, s) for s in seeds for name in p.architectures for k in p.sparsities]
    found += [Spec("topk", k, 1.0, s) for s in seeds for k in p.sweep if k not in p.sparsities]
    found += [Spec("topk", p.sparsities[len(p.sparsities) // 2], share, s) for s in seeds for share in SHARES[:-1]]
    return found


def fit(name: str, x: torch.Tensor, n_latents: int, k: int, p, seed: int) -> SAE:
    """A trained SAE; its initialisation and its batches both come from the seed."""
    sae = registry.make(name, x.shape[1], n_latents, k, seed=seed)
    if name == "random_codes":
        # As centred as the others: else what all tokens have in common decides which latents fire.
        sae.calibrate(x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:4096]])
    else:
        recipe = Recipe(steps=p.steps, batch=p.batch, lr=p.lr, warmup=min(20, p.steps // 5 + 1), seed=seed)
        learn(sae, x, recipe, p.device)
    return sae.eval()


def learn(sae, x: torch.Tensor, recipe: Recipe, device: str, progress=None) -> None:
    """`train` on a device (auto: CUDA where there is one), the SAE back on the CPU after it.

    Without the warning of few tokens: C8 asks what they cost, and the smoke profile has no more.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    sae.to(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* tokens for .* latents are few")
        train(sae, x, recipe, progress=progress)
    sae.to("cpu")


def part_of(read: data.Read, share: float, seed: int) -> torch.Tensor:
    """Training tokens of a random share of the training documents."""
    if share == 1:
        return read.train.x
    documents = read.train.document.unique()
    order = documents[torch.randperm(len(documents), generator=torch.Generator().manual_seed(seed))]
    return read.train.of(order[: max(1, round(share * len(order)))].tolist()).x


def measured(spec: Spec, sae: SAE, read: data.Read, corpus: data.Corpus) -> Frontier:
    """Every table's rows of one SAE."""
    who = {"name": spec.name, "k": spec.k, "share": spec.share, "seed": spec.seed}
    table = metrics.per_token(sae, read.test.x).assign(document=read.test.document.numpy())
    documents = table.groupby("document")[["error", "variance", "dot", "norm2_hat"]].sum().reset_index()
    codes = document_codes(sae, read, corpus)
    rows = []
    for task in data.tasks():
        found = {k: float(right(codes, corpus, task, k).mean()) for k in (1, 5)}
        rows.append({**who, "task": task, "k1": found[1], "k5": found[5]})
    probing = pd.DataFrame(rows)
    run = {**who, **metrics.summary(sae, read.test.x), "probing": float(probing["k1"].mean())}
    return Frontier(pd.DataFrame([run]), documents.assign(**who), probing)


def document_codes(sae: SAE, read: data.Read, corpus: data.Corpus) -> torch.Tensor:
    """Mean codes of the tasks' documents, (n_documents, n_latents), zeros for the others."""
    rows = np.flatnonzero(corpus.table["use"] == "tasks")
    x = torch.cat([read.states[i][read.masks[i]] for i in rows]) / read.scale
    document = torch.cat([torch.full((int(read.masks[i].sum()),), int(i)) for i in rows])
    return functional.mean_codes(sae, x, document, len(corpus.ids))


def right(features: torch.Tensor, corpus: data.Corpus, task: str, k: int | None, scaled: bool = False) -> np.ndarray:
    """Whether a probe on k of the features (n_documents, n_features), or all, is right on each test document."""
    a, y, b, z = data.labels(corpus, task)
    return functional.answers(features[b], z, functional.sparse_probe(features[a], y, k, scaled=scaled))


def frontier(
    todo: list[Spec], read: data.Read, corpus: data.Corpus, p, progress: Callable[[int, int, Spec], None] | None = None
) -> Frontier:
    """Train and measure every SAE of the list."""
    parts = []
    for number, spec in enumerate(todo):
        started = time.monotonic()
        sae = fit(spec.name, part_of(read, spec.share, spec.seed), p.zoo_latents, spec.k, p, spec.seed)
        seconds = time.monotonic() - started
        one = measured(spec, sae, read, corpus)
        one.runs["seconds"] = seconds
        parts.append(one)
        if progress:
            progress(number + 1, len(todo), spec)
    tables = ([getattr(one, name) for one in parts] for name in ("runs", "documents", "probing"))
    return Frontier(*(pd.concat(each, ignore_index=True) for each in tables))
