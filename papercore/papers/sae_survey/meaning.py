"""Explaining latents from both sides, steering along them, removing a bias: the arms of C5, C6 and C10."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from papercore.assets import catalogue
from papercore.papers.sae_survey import data, train
from papercore.sae import activations, explain, functional, interchange, metrics
from papercore.sae.base import SAE

# Beginnings that ask for nothing in particular; what a feature adds shows at their last token.
PROMPTS = (
    "I think that",
    "The first thing I noticed was",
    "Yesterday we talked about",
    "It is well known that",
    "My friend told me about",
    "In the middle of the",
    "There was a",
    "What I like most is",
)
TOKENS = 10  # an explanation names so many
DOSES = (0.25, 0.5, 1.0)  # of the median norm of the residual stream
AGAIN = {"tokens": 15_000, "test_documents": 200}  # of the shipped SAE's recipe begun again
MANY = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # latents held in C10; 5, 50 and 500 are those of the survey's appendix D


@dataclass(frozen=True)
class Explained:
    """Latents of one SAE, explained: latents (n,), their directions (n, d_model) at norm 1, firing on all documents.

    written: ids of the TOKENS largest of VocabProj, (n, TOKENS). before, other: sets of ids at the peaks of a latent's
    top windows in two halves of the training documents. after: ids that follow those peaks, at most TOKENS of them. A
    token counts only where no document before has the same prefix, so that no text is held out in name only.
    """

    latents: torch.Tensor
    directions: torch.Tensor
    fires: explain.Firing
    written: torch.Tensor
    before: list[set[int]]
    other: list[set[int]]
    after: list[list[int]]


def explained(model, read: data.Read, corpus: data.Corpus, sae: SAE, count: int, seed: int) -> Explained:
    """`count` latents, drawn at random, of an SAE for scaled activations."""
    latents = explain.sample(sae, read.train.x, count, seed)
    fires = _firing(read, corpus, sae, latents)
    directions = sae.decoder.detach()[latents]
    written = explain.vocab_projection(model, directions).topk(TOKENS, dim=1).indices
    train = corpus.rows("train")
    found: dict[str, list] = {"before": [], "other": [], "after": []}
    for column in range(len(latents)):
        first, second = (explain.max_activating(fires, column, among=train[half::2]) for half in (0, 1))
        found["before"].append(_at(corpus, first, 0))
        found["other"].append(_at(corpus, second, 0))
        both = pd.concat([first, second])
        ids = pd.Series(_follow(corpus, both[both["kind"] == "top"])).value_counts().index[:TOKENS]
        found["after"].append(list(map(int, ids)))
    return Explained(latents, directions, fires, written, **found)


def _firing(read: data.Read, corpus: data.Corpus, sae: SAE, latents: torch.Tensor) -> explain.Firing:
    masks = [a & b for a, b in zip(read.masks, data.fresh(corpus.ids, 1), strict=True)]
    return explain.firing(sae.folded(read.scale), read.states, masks, latents)


def _at(corpus: data.Corpus, windows: pd.DataFrame, shift: int) -> set[int]:
    top = windows[windows["kind"] == "top"]
    return {corpus.ids[d][p + shift] for d, p in zip(top["document"], top["position"], strict=True)}


def _follow(corpus: data.Corpus, top: pd.DataFrame) -> list[int]:
    places = zip(top["document"], top["position"], strict=True)
    return [corpus.ids[d][p + 1] for d, p in places if p + 1 < len(corpus.ids[d])]


def agreement(tokenizer, seen: Mapping[int, Explained], one: str, other: str) -> pd.DataFrame:
    """Whether two explanations of a latent name a token in common, whatever its case and spaces.

    one, other: written (the output side), before, other (the input side). Columns unit, seed, own, another: whether the
    one shares a token with the next latent's other, what common tokens alone would give. Latents with an empty
    explanation are left out.
    """

    def words(ids) -> set[str]:
        said = {tokenizer.decode([int(i)]).strip().casefold() for i in ids} - {""}
        return {word for word in said if "\ufffd" not in word}  # part of a character: all of these look alike

    rows = []
    for seed, each in seen.items():
        pairs = [(words(a), words(b)) for a, b in zip(getattr(each, one), getattr(each, other), strict=True)]
        full = [i for i, (a, b) in enumerate(pairs) if a and b]
        for place, i in enumerate(full):
            following = pairs[full[(place + 1) % len(full)]][1]
            own, another = (float(bool(pairs[i][0] & words)) for words in (pairs[i][1], following))
            rows.append((f"{seed}/{int(each.latents[i])}", seed, own, another))
    return pd.DataFrame(rows, columns=["unit", "seed", "own", "another"])


def steered(model, read: data.Read, seen: Mapping[int, Explained], layer: int) -> pd.DataFrame:
    """What steering changes, in nats a token: columns seed, unit (the latent), direction (own, random, another latent),
    dose, written (mean change of the tokens that VocabProj names), after (of those that follow the latent's peaks).

    A dose is a share of the median norm of the kept tokens; random directions have the same norm as the latent's.
    Another latent is the next one: what any direction of the dictionary would do to the same tokens.
    """
    size = float(read.train.x.norm(dim=1).median()) * read.scale
    rows = []
    for seed, each in seen.items():
        noise = torch.randn(each.directions.shape, generator=torch.Generator().manual_seed(seed))
        along = {
            name: explain.token_change(model, PROMPTS, layer, directions, [dose * size for dose in DOSES])
            for name, directions in (("own", each.directions), ("random", noise / noise.norm(dim=1, keepdim=True)))
        }
        along["another latent"] = along["own"].roll(-1, dims=1)
        for name, changes in along.items():
            for dose, change in zip(DOSES, changes, strict=True):
                for i, row in enumerate(change):
                    after = float(row[each.after[i]].mean()) if each.after[i] else np.nan
                    unit = f"{seed}/{int(each.latents[i])}"
                    rows.append((seed, unit, name, dose, float(row[each.written[i]].mean()), after))
    return pd.DataFrame(rows, columns=["seed", "unit", "direction", "dose", "written", "after"])


def steering_arm(table: pd.DataFrame, of: str, versus: str, column: str) -> pd.DataFrame:
    """Slope of the change of a latent's tokens over the dose along one direction minus that along another.

    Least squares through the origin, which dose 0 is by definition; nats a median norm: unit, seed, value. Latents
    whose peaks nothing follows are left out.
    """
    rows = table[table[column].notna()]
    rows = rows.assign(xy=rows["dose"] * rows[column], xx=rows["dose"] ** 2)
    sums = rows.groupby(["direction", "unit", "seed"])[["xy", "xx"]].sum()
    slope = sums["xy"] / sums["xx"]
    return (slope[of] - slope[versus]).rename("value").reset_index()


def named_first(model, read: data.Read, seen: Mapping[int, Explained]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Whether a small step along a latent at the end of the stream raises the token that VocabProj names first; and a
    token at random. The states are those of the neutral beginnings, and most of them must agree: unit, seed, value.
    """
    states = model.activations(PROMPTS, model.n_layers)
    first, random = [], []
    for seed, each in seen.items():
        draw = torch.Generator().manual_seed(seed)
        any_token = torch.randint(model.vocabulary, (len(each.latents),), generator=draw)
        slopes = torch.stack([explain.first_order(model, state, each.directions) for state in states])
        for found, tokens in ((first, each.written[:, 0]), (random, any_token)):
            raised = (slopes[:, torch.arange(len(tokens)), tokens] > 0).float().mean(0) > 0.5
            units = [f"{seed}/{int(latent)}" for latent in each.latents]
            found.append(pd.DataFrame({"unit": units, "seed": seed, "value": raised.double().numpy()}))
    return pd.concat(first, ignore_index=True), pd.concat(random, ignore_index=True)


def detection(
    embed, tokenizer, corpus: data.Corpus, seen: Mapping[int, Explained], *, top: int = 4, others: int = 10
) -> pd.DataFrame:
    """Embedding-detection score: can a latent's training windows pick its held-out windows out of others?

    The explanation is the mean embedding of its top training windows; a held-out window is taken where its cosine is
    above the middle between the cosines of the training windows that fire, each with the mean of the others, and of
    those that do not. Columns unit, seed, own (balanced accuracy with the latent's explanation), another (with the next
    latent's).
    """
    train, test = corpus.rows("train"), corpus.rows("test")
    rows = []
    for seed, each in seen.items():
        parts = []
        for column in range(len(each.latents)):
            known = explain.max_activating(each.fires, column, negatives=others, seed=seed, among=train)
            new = explain.max_activating(each.fires, column, top=top, negatives=others, seed=seed, among=test)
            parts.append((known[known["kind"].isin(["top", "random"])], new[new["kind"].isin(["top", "random"])]))
        texts = [_text(tokenizer, corpus, d, p) for a, b in parts for d, p in _places(pd.concat([a, b]))]
        vectors, begin, ready = embed(texts), 0, []
        for a, b in parts:
            own = vectors[begin : begin + len(a) + len(b)]
            ready.append((own[: len(a)], np.array(a["kind"] == "top"), own[len(a) :], np.array(b["kind"] == "top")))
            begin += len(own)
        for i in range(len(ready)):
            unit, other = f"{seed}/{int(each.latents[i])}", ready[(i + 1) % len(ready)]
            rows.append((unit, seed, _picked(ready[i], ready[i]), _picked(other, ready[i])))
    return pd.DataFrame(rows, columns=["unit", "seed", "own", "another"])


def drawn_apart(one: pd.DataFrame, other: pd.DataFrame, column: str) -> pd.DataFrame:
    """Score of the i-th latent drawn in `one` minus that of the i-th drawn in `other`, by seed: unit, seed, value."""
    parts = [table.assign(unit=table.groupby("seed").cumcount()).set_index(["seed", "unit"]) for table in (one, other)]
    return (parts[0][column] - parts[1][column]).rename("value").reset_index()


def _places(table: pd.DataFrame):
    return zip(table["document"], table["position"], strict=True)


def _text(tokenizer, corpus: data.Corpus, document: int, position: int) -> str:
    return tokenizer.decode(explain.window(corpus.ids[document], position)[1]) or " "


def _picked(of, on) -> float:
    """Balanced accuracy of the explanation from `of` on the held-out windows of `on`; a half where nothing fires."""
    known, fires, _, _ = of
    _, _, new, truth = on
    if not truth.any() or truth.all() or fires.sum() < 2 or fires.all():
        return 0.5
    top, explanation = known[fires], known[fires].mean(0)
    without = (len(top) * explanation - top) / (len(top) - 1)
    middle = ((top * without).sum(1).mean() + (known[~fires] @ explanation).mean()) / 2
    taken = (new @ explanation > middle).numpy()
    return float((taken[truth].mean() + (~taken[~truth]).mean()) / 2)


def bias_removed(
    read: data.Read, corpus: data.Corpus, codes: Mapping[int, torch.Tensor], saes: Mapping[int, SAE]
) -> pd.DataFrame:
    """C10: is a film's or product's review positive, by a probe that saw praise of films and blame of products alone?

    Columns seed, unit (held-out document), latents (best, as active), n (0: the biased probe; -1: one that saw all) and
    right. The latents held are those that differ most between films and products; or as many others with mean codes as
    large as theirs, one for one.
    """
    source = corpus.table["source"].to_numpy()
    both = np.isin(source, ["film_sentiment", "product_sentiment"])
    wanted, spurious = corpus.table["label"].to_numpy() == 1, source == "film_sentiment"
    train, test = (np.flatnonzero(both & (corpus.table["role"] == role).to_numpy()) for role in ("train", "test"))
    rows = []
    for seed, sae in saes.items():
        most = max(n for n in MANY if 2 * n <= sae.n_latents)
        order = {
            "best": functional.best_features(codes[seed][train], spurious[train], most),
        }
        order["as active"] = _as_active(codes[seed][train].mean(0), order["best"])
        for kind, latents in order.items():
            sets = [latents[:n] for n in MANY if n <= most]
            found = functional.debiased(
                read.means, codes[seed], sae.decoder.detach(), wanted, spurious, train, test, sets
            )
            for name, right in found.items():
                n = -1 if name == "oracle" else int(name)
                rows.append(pd.DataFrame({"seed": seed, "unit": test, "latents": kind, "n": n, "right": right}))
    return pd.concat(rows, ignore_index=True)


def _as_active(mean: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """For each of the latents, in turn, the one outside them whose mean code (n_latents,) is nearest, each once."""
    free = torch.ones(len(mean), dtype=torch.bool)
    free[latents] = False
    found = []
    for latent in latents.tolist():
        distance = (mean - mean[latent]).abs()
        distance[~free] = float("inf")
        found.append(int(distance.argmin()))
        free[found[-1]] = False
    return torch.tensor(found)


def bias_arm(table: pd.DataFrame, latents: str, n: int, versus: int) -> pd.DataFrame:
    """Whether the probe is right with n latents held minus with `versus` held, by document and seed."""
    one, other = (
        table[(table["latents"] == latents) & (table["n"] == each)].set_index(["unit", "seed"])["right"]
        for each in (n, versus)
    )
    return (one - other).rename("value").reset_index()


SHIPPED = "smollm2-135m-instruct", "smollm2-135m-sae-{layer}"  # the model, and how its SAEs are catalogued


def kept(p, model, read: data.Read, trained: SAE) -> tuple[str, SAE]:
    """The SAE to look at: what it is, and itself for scaled activations.

    p.sae "shipped": the one that ships for model and layer; where none does, `trained`, one of this run's.
    """
    name = SHIPPED[1].format(layer=p.layer)
    if p.sae == "shipped" and (p.model != SHIPPED[0] or name not in catalogue()):
        return f"one of this run's: none ships for block {p.layer} of {p.model}", trained
    name = name if p.sae == "shipped" else p.sae
    return name, interchange.find(name, d_model=model.d_model).folded(1 / read.scale)


def quality() -> pd.DataFrame:
    """The cards of all SAEs that ship: an SAE and arm a row, without and with position 0."""
    shown = ["explained variance", "L0", "dead", "CE score (mean)", "CE score (zero)"]
    rows = {
        (name, where, arm.replace("_", " ")): {column: scores.get(column) for column in shown}
        for name, asset in catalogue().items()
        if asset.kind == "sae"
        for where, part in interchange.card(name).items()
        if where.endswith("position 0")
        for arm, scores in part.items()
        if isinstance(scores, dict)
    }
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)


def recipe(model, read: data.Read, sae: SAE, p) -> pd.DataFrame:
    """The shipped SAE's recipe begun again: the first of its own training documents, few steps; and `sae`, for scaled
    activations; both on the first of its held-out documents, where their prefixes are new: a row each of structural
    metrics.
    """
    settings = {**train.SHIPPING, "tokens": AGAIN["tokens"], "steps": p.steps}
    ids, table = train.documents(model.tokenizer, settings)
    rows = {"train": np.flatnonzero(table["role"] == "train"), "test": np.arange(AGAIN["test_documents"])}
    seen: Counter = Counter()
    x = {}
    for role, chosen in rows.items():
        own = [ids[i] for i in chosen]
        new = data.fresh(own, train.REPEATS if role == "train" else 1, seen)
        states = model.activations(own, p.layer, position="all")
        masks = [a & b for a, b in zip(activations.keep(states, read.train.limit), new, strict=True)]
        x[role] = torch.cat([state[mask] for state, mask in zip(states, masks, strict=True)]) / read.scale
    again = train.fit("topk", x["train"], settings, p.device)
    both = {"as shipped": sae, f"its recipe, {len(x['train'])} tokens, {p.steps} steps": again}
    return pd.DataFrame({name: metrics.summary(one, x["test"]) for name, one in both.items()}).T


def cards(model, read: data.Read, corpus: data.Corpus, sae: SAE, latents: Sequence[int]) -> list[dict]:
    """What a feature card shows of each latent of an SAE for scaled activations: see `plots.card`."""
    chosen = torch.as_tensor(latents)
    fires = _firing(read, corpus, sae, chosen)
    logits = explain.vocab_projection(model, sae.decoder.detach()[chosen])
    logits = logits - logits.mean(1, keepdim=True)
    decode, found = model.tokenizer.decode, []
    for column, latent in enumerate(chosen.tolist()):
        codes = torch.cat([one[:, column] for one in fires.codes])
        windows = explain.max_activating(fires, column, top=6)
        shown = []
        for row in windows.itertuples():
            start, ids = explain.window(corpus.ids[row.document], row.position)
            strengths = fires.codes[row.document][start : start + len(ids), column].tolist()
            shown.append((row.kind, [decode([i]) for i in ids], strengths))
        ups, downs = (logits[column].topk(8, largest=largest) for largest in (True, False))
        found.append(
            {
                "latent": latent,
                "density": float((codes > 0).float().mean()),
                "codes": codes[codes > 0].numpy(),
                "windows": shown,
                "up": [(decode([int(i)]), float(v)) for v, i in zip(*ups, strict=True)],
                "down": [(decode([int(i)]), float(v)) for v, i in zip(*downs, strict=True)],
            }
        )
    return found
