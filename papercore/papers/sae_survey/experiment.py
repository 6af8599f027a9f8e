"""The arms of the claims: what is handed to the ledger, from SAEs, splices, probes and the frontier."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from papercore.papers.sae_survey import data, zoo
from papercore.sae import activations, functional, metrics, recovery, registry, strategies
from papercore.sae.base import SAE
from papercore.sae.controls import PCA
from papercore.sae.trainer import Recipe

OTHER = 500  # seeds of a control's second draw begin there
LABELS = (20, 50, None)  # training labels of claim C11; None: all
FLIPPED = 0.2


def position_0(read: data.Read, corpus: data.Corpus, first: bool) -> pd.DataFrame:
    """Variance of each held-out document explained by one principal component, over the mean variance of documents.

    Its mean is the share explained. first: position 0 counts, in fitting and in scoring.
    """
    tokens = activations.tokens(read.states, read.train.limit, first=first)
    pca = PCA(tokens.of(corpus.rows("train")).x, 1)
    test = tokens.of(corpus.rows("test"))
    table = metrics.per_token(pca, test.x).assign(unit=test.document.numpy())
    sums = table.groupby("unit")[["error", "variance"]].sum()
    value = (sums["variance"] - sums["error"]) / sums["variance"].mean()
    return value.rename("value").reset_index()


def roll_call(read: data.Read, corpus: data.Corpus, model, sae: SAE, p) -> pd.DataFrame:
    """Each entry of the survey's taxonomy in a short training: name, measure, before, after, improves (1 or 0).

    The measure is held-out FVU, which improves where it falls, and to below 1; for end-to-end, which begins with a
    trained SAE, the KL on held-out documents.
    """
    rows = []
    x, test = read.train.x, read.test.x[:4000]
    recipe = Recipe(steps=p.short_steps, batch=p.batch, lr=p.lr, warmup=3, seed=p.seed)

    def call(name: str, measure: str, one, score, learn) -> None:
        one.eval()
        before = score(one)
        learn(one)
        one.eval()
        rows.append((name, measure, before, score(one)))

    def held_out(one) -> float:
        return metrics.fvu(metrics.per_token(one, test))

    survey = [name for name in registry.names() if registry.TAXONOMY[name].survey]
    for name in survey:
        if name in ("layer_group", "feature_aligned", "end_to_end"):
            continue
        one = registry.make(name, x.shape[1], p.zoo_latents, p.sparsities[0], seed=p.seed)
        one.calibrate(x[:4096])
        call(name, "FVU", one, held_out, lambda one: zoo.learn(one, x, recipe, p.device))
    pooled, group = _group(model, corpus, p)
    one = registry.make("topk", x.shape[1], p.zoo_latents, p.sparsities[0], seed=p.seed)
    one.calibrate(x[:4096])
    call(f"layer_group {group}", "FVU", one, held_out, lambda one: zoo.learn(one, pooled, recipe, p.device))
    members = [registry.make("topk", x.shape[1], p.zoo_latents // 2, p.sparsities[0], seed=p.seed + i) for i in (0, 1)]
    both = strategies.FeatureAligned(members)
    both.calibrate(x[:4096])
    call("feature_aligned", "FVU", both, held_out, lambda one: zoo.learn(one, x, recipe, p.device))
    rows.append(_end_to_end(read, corpus, model, sae, p))
    table = pd.DataFrame(rows, columns=["entry", "measure", "before", "after"])
    # An FVU of 1 is what the mean token reaches: to fall from above it is no achievement.
    least = np.where(table["measure"] == "FVU", table["before"].clip(upper=1), table["before"])
    return table.assign(improves=(table["after"] < least).astype(int))


def _group(model, corpus: data.Corpus, p) -> tuple[torch.Tensor, list[int]]:
    """Tokens of the layers that are grouped with the notebook's own, each layer at its own scale, and that group."""
    rows = corpus.rows("train")[:: max(1, len(corpus.rows("train")) // 150)]
    read = model.activations([corpus.ids[i] for i in rows], p.group_layers, position="all")
    found = {layer: activations.tokens(states) for layer, states in read.items()}
    masks = [activations.keep(read[layer]) for layer in p.group_layers]
    alike = [torch.stack([m[i] for m in masks]).all(0) for i in range(len(rows))]
    same = {layer: torch.cat([s[a] for s, a in zip(read[layer], alike, strict=True)]) for layer in p.group_layers}
    groups = strategies.layer_groups(same, max(1, len(p.group_layers) // 2))
    group = next(one for one in groups if p.layer in one)
    return torch.cat([found[layer].x / activations.scale(found[layer].x) for layer in group]), group


def _end_to_end(read: data.Read, corpus: data.Corpus, model, sae: SAE, p) -> tuple[str, str, float, float]:
    """KL on held-out documents before and after a short fine-tune of a copy of the SAE on training documents."""
    one = copy.deepcopy(sae).folded(read.scale).to(model.device)
    long = [i for i in corpus.rows("train") if len(corpus.ids[i]) >= p.max_tokens // 2]
    learn, test = long[:: max(1, len(long) // 16)][:16], data.long_documents(corpus, p.max_tokens // 2, 4, p.seed)

    def kl() -> float:
        found = recovery.by_document(model, *_documents(read, corpus, test, {"sae": one}, p))
        return float(found["kl"].sum() / found["n"].sum())

    before = kl()
    texts, masks = [corpus.ids[i] for i in learn], [read.masks[i] for i in learn]
    strategies.finetune_end_to_end(one, model, texts, p.layer, masks, steps=min(16, p.short_steps))
    return "end_to_end", "KL, nats", before, kl()


def _documents(read: data.Read, corpus: data.Corpus, rows: Sequence[int], functions, p) -> tuple:
    return [corpus.ids[i] for i in rows], p.layer, functions, [read.masks[i] for i in rows]


def spliced(model, read: data.Read, corpus: data.Corpus, saes: Mapping[int, SAE], p) -> pd.DataFrame:
    """`recovery.by_document` of held-out documents: identity, ablations, PCA, each seed's SAE, noise as large as its
    error (twice). Functions of a seed are named "sae 0", "noise 0", "other noise 0".
    """
    rows = data.long_documents(corpus, p.max_tokens // 2, p.splice_documents, p.seed)
    pca, scale = PCA(read.train.x, p.k).to(model.device), read.scale
    functions = {
        **recovery.ablations(read.train.x * scale),
        f"PCA-{p.k}": lambda states: scale * pca(states / scale),
    }
    for seed, sae in saes.items():
        whole = sae.folded(scale).to(model.device)
        functions[f"sae {seed}"] = whole
        for name, number in (("noise", 0), ("other noise", OTHER)):
            functions[f"{name} {seed}"] = _as_large(whole, seed + number)
    return recovery.by_document(model, *_documents(read, corpus, rows, functions, p))


def _as_large(sae: SAE, seed: int):
    """Adds to each token a random direction with the norm of the SAE's error there."""
    draw = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def noisy(states: torch.Tensor) -> torch.Tensor:
        error = (states - sae(states)).norm(dim=1, keepdim=True)
        noise = torch.randn(states.shape, generator=draw).to(states)
        return states + error * noise / noise.norm(dim=1, keepdim=True)

    return noisy


def splice_arm(table: pd.DataFrame, seeds: Sequence[int], of: str, versus: str, column: str) -> pd.DataFrame:
    """Difference a token of two functions' ce or kl by document and seed; versus `clean` is the model left alone."""
    parts = []
    for seed in seeds:
        one, other = (
            table[table["function"].isin([name, f"{name} {seed}"])].set_index("document") for name in (of, versus)
        )
        minus = one["clean"] if versus == "clean" else other[column]
        value = (one[column] - minus) / one["n"]
        parts.append(pd.DataFrame({"unit": value.index, "value": value.to_numpy(), "seed": seed}))
    return pd.concat(parts, ignore_index=True)


def ablation_arm(table: pd.DataFrame, seeds: Sequence[int], of: str) -> pd.DataFrame:
    """CE score against zero ablation minus that against mean ablation, by document and seed."""
    ce = {name: part.set_index("document")["ce"] for name, part in table.groupby("function")}
    clean = table[table["function"] == "identity"].set_index("document")["clean"]
    parts = []
    for seed in seeds:
        said = ce.get(f"{of} {seed}", ce.get(of))
        value = recovery.score(clean, said, ce["zero"]) - recovery.score(clean, said, ce["mean"])
        parts.append(pd.DataFrame({"unit": value.index, "value": value.to_numpy(), "seed": seed}))
    return pd.concat(parts, ignore_index=True)


def features(read: data.Read, corpus: data.Corpus, saes: Mapping[str, SAE]) -> dict[str, torch.Tensor]:
    """Features of every document, (n_documents, n_features): mean codes of SAEs, dimensions, components."""
    pca = PCA(read.train.x, min(read.means.shape[1], len(read.train) - 1))
    found = {"dimension": read.means, "component": pca.encode(read.means)}
    return found | {name: zoo.document_codes(sae, read, corpus) for name, sae in saes.items()}


def probed(
    found: Mapping[str, torch.Tensor], corpus: data.Corpus, ks: Sequence[int | None], scaled: bool = False
) -> pd.DataFrame:
    """Accuracy of sparse probes: columns features, task, k (0: all features), accuracy on held-out documents.

    scaled: features are chosen by their difference of means in standard deviations.
    """
    rows = [
        (name, task, k or 0, float(zoo.right(x, corpus, task, k, scaled).mean()))
        for name, x in found.items()
        for task in data.tasks()
        for k in ks
    ]
    return pd.DataFrame(rows, columns=["features", "task", "k", "accuracy"])


def gain(table: pd.DataFrame, seeds: Sequence[int], of: str, versus: str) -> pd.DataFrame:
    """One-feature accuracy of one kind minus another's by corpus of tasks and seed; "topk" is "topk 0" for seed 0."""
    parts = []
    for seed in seeds:
        a, b = (
            table[table["features"].isin([name, f"{name} {seed}"]) & (table["k"] == 1)].set_index("task")["accuracy"]
            for name in (of, versus)
        )
        parts.append(pd.DataFrame({"unit": a.index, "value": (a - b).to_numpy(), "seed": seed}))
    return data.by_corpus(pd.concat(parts, ignore_index=True))


def accuracy(table: pd.DataFrame, seeds: Sequence[int], of: str, k: int) -> pd.DataFrame:
    """Accuracy by corpus of tasks and seed."""
    rows = [table[table["features"].isin([of, f"{of} {seed}"]) & (table["k"] == k)].assign(seed=seed) for seed in seeds]
    return data.by_corpus(pd.concat(rows, ignore_index=True).rename(columns={"task": "unit", "accuracy": "value"}))


def scarce(found: Mapping[str, torch.Tensor], corpus: data.Corpus, seeds: Sequence[int]) -> pd.DataFrame:
    """Probes on all latents and on all dimensions with few labels, and with flipped ones.

    Columns features (sae, whole), condition ("20 labels", ..., "flipped"), task, seed, accuracy. Which labels are kept
    or flipped is drawn by seed and task, the same for both kinds of features.
    """
    rows = []
    for seed in seeds:
        for number, task in enumerate(data.tasks()):
            a, y, b, z = data.labels(corpus, task)
            draw = np.random.default_rng([seed, number])
            order = draw.permutation(len(a))
            flip = np.where(draw.random(len(y)) < FLIPPED, 1 - y, y)
            conditions = {f"{n or 'all'} labels": (_balanced(y, order, n), y) for n in LABELS}
            conditions["flipped"] = (np.arange(len(a)), flip)
            for condition, (rows_in, label) in conditions.items():
                for kind, x in (("sae", found[f"topk {seed}"]), ("whole", found["dimension"])):
                    fitted = functional.sparse_probe(x[a[rows_in]], label[rows_in], None)
                    rows.append((kind, condition, task, seed, float(functional.answers(x[b], z, fitted).mean())))
    return pd.DataFrame(rows, columns=["features", "condition", "task", "seed", "accuracy"])


def _balanced(y: np.ndarray, order: np.ndarray, n: int | None) -> np.ndarray:
    """The first n of an order, half of them of either class."""
    if n is None:
        return order
    return np.concatenate([[i for i in order if y[i] == label][: n // 2] for label in (0, 1)])


def scarce_arm(table: pd.DataFrame, of: tuple[str, str], versus: tuple[str, str]) -> pd.DataFrame:
    """Accuracy of (features, condition) minus that of another, by corpus of tasks and seed."""
    a, b = (
        table[(table["features"] == f) & (table["condition"] == c)].set_index(["task", "seed"])["accuracy"]
        for f, c in (of, versus)
    )
    return data.by_corpus((a - b).rename("value").reset_index().rename(columns={"task": "unit"}))


def targeted(
    found: Mapping[str, torch.Tensor], saes: Mapping[str, SAE], corpus: data.Corpus, seeds: Sequence[int], n: int = 10
) -> dict[str, pd.DataFrame]:
    """Arms of A_tpp: own loss minus mean loss of the others, by corpus of tasks and seed; best latents, random ones."""
    concepts = {task: data.labels(corpus, task) for task in data.tasks()}
    arms: dict[str, list] = {"best": [], "random": []}
    for seed in seeds:
        codes, decoder = found[f"topk {seed}"], saes[f"topk {seed}"].decoder.detach()
        draw = torch.Generator().manual_seed(seed)
        for name, choose in (
            ("best", lambda c, y: functional.best_features(c, y, n)),
            ("random", lambda c, y, draw=draw: torch.randperm(c.shape[1], generator=draw)[:n]),
        ):
            lost = functional.tpp(found["dimension"], codes, decoder, concepts, choose)
            others = (lost.sum(1) - lost.diagonal()) / (len(lost) - 1)
            arms[name].append(pd.DataFrame({"unit": list(concepts), "value": lost.diagonal() - others, "seed": seed}))
    return {name: data.by_corpus(pd.concat(parts, ignore_index=True)) for name, parts in arms.items()}


SAME = 0.7  # cosine at which a latent counts as found again


def shared(saes: Mapping[int, SAE], x: torch.Tensor) -> pd.DataFrame:
    """Each live latent of each seed's SAE: its largest cosine with a latent of the next seed's, of its own, and of a
    dictionary of random directions; columns unit, seed, next, itself, random.
    """
    seeds, parts = list(saes), []
    for i, seed in enumerate(seeds):
        live = metrics.density(saes[seed], x) > 0
        own = saes[seed].decoder.detach()
        others = {
            "next": saes[seeds[(i + 1) % len(seeds)]].decoder.detach(),
            "itself": own,
            "random": torch.randn(own.shape, generator=torch.Generator().manual_seed(seed + OTHER)),
        }
        best = {name: metrics.best_cosines(own[live], other).double().numpy() for name, other in others.items()}
        parts.append(pd.DataFrame({"unit": live.nonzero()[:, 0].numpy(), "seed": seed, **best}))
    return pd.concat(parts, ignore_index=True)


def found_again(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Whether each latent has one of cosine SAME or more there (next, itself): unit, seed, value (1, 0)."""
    return table[["unit", "seed"]].assign(value=(table[where] >= SAME).astype(float))
