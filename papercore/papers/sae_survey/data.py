"""The corpus: labelled and further texts with their licences, cut, split by document, and read once."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pandas as pd
import torch
import yaml

from papercore.assets import fetch
from papercore.sae import activations
from papercore.sae.functional import mean_tokens

CORPUS = yaml.safe_load((resources.files(__package__) / "corpus.yaml").read_text(encoding="utf-8"))
NEUTRAL = 1.0  # ratings of the Hutto snippets nearer to 0 are no clear opinion (scale -4 to 4)


class DataError(ValueError):
    """The corpus cannot serve what was asked."""


@dataclass(frozen=True)
class Corpus:
    """Documents as token ids, with a table of their source, role (train or test) and label (1, 0, or -1: none)."""

    ids: list[list[int]]
    table: pd.DataFrame

    def rows(self, role: str, source: str | None = None) -> np.ndarray:
        """Numbers of the documents of a role, of one source or all."""
        wanted = self.table["role"] == role
        return np.flatnonzero(wanted if source is None else wanted & (self.table["source"] == source))

    @property
    def digest(self) -> str:
        """Sha256 of the documents and what is known of them."""
        said = json.dumps([self.ids, self.table.to_dict("list")])
        return hashlib.sha256(said.encode()).hexdigest()


@dataclass(frozen=True)
class Read:
    """The corpus as the model sees it at one layer: kept tokens, scaled, of the two roles.

    train, test: kept tokens, x divided by `scale`; of test only what no other document begins with. states: all of
    each document, unscaled. masks: which of their tokens were kept. means: mean kept token of each document.
    """

    train: activations.Tokens
    test: activations.Tokens
    scale: float
    states: list[torch.Tensor]
    masks: list[torch.Tensor]
    means: torch.Tensor


def licences() -> pd.DataFrame:
    """Every text source with its use, licence and where that was read."""
    rows = [
        (name, use, spec.get("set", "hutto-icwsm-2014"), spec["licence"], spec["read"])
        for use, sources in CORPUS.items()
        for name, spec in sources.items()
    ]
    return pd.DataFrame(rows, columns=["source", "use", "set", "licence", "read in"])


def corpus(tokenizer, documents: int, test_documents: int, max_tokens: int, seed: int) -> Corpus:
    """Documents drawn from every source, classes alike, no text twice in all of them; raises DataError."""
    ids, rows, seen = [], [], set()
    for use, sources in CORPUS.items():
        for name, spec in sources.items():
            table = texts(spec)
            table = table[~plain(table["text"]).isin(seen)]
            drawn = _draw(table, use == "tasks", documents + test_documents, name, seed)
            seen.update(plain(drawn["text"]))
            ids += encode(tokenizer, drawn["text"].tolist(), max_tokens, chat=use == "chats")
            roles = np.where(np.arange(len(drawn)) < documents, "train", "test")
            rows.append(pd.DataFrame({"source": name, "use": use, "role": roles, "label": drawn["label"]}))
    return Corpus([list(map(int, one)) for one in ids], pd.concat(rows, ignore_index=True))


def encode(tokenizer, texts: Sequence[str], max_tokens: int, *, chat: bool) -> list[list[int]]:
    """Token ids of texts, the first max_tokens of each; chat: as the user's turn of the model's template."""
    if chat:
        turns = [[{"role": "user", "content": text}] for text in texts]
        encoded = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    else:
        encoded = tokenizer(list(texts))["input_ids"]
    return [one[:max_tokens] for one in encoded]


def fresh(ids: Sequence[list[int]], repeats: int, seen: Counter | None = None) -> list[torch.Tensor]:
    """Which tokens of each document count, (n_tokens_i,): not the first, and no prefix more than `repeats` times.

    An equal prefix gives an equal activation. seen: prefixes that were met before, counted on.
    """
    seen, masks = Counter() if seen is None else seen, []
    for one in ids:
        mask = torch.zeros(len(one), dtype=torch.bool)
        for end in range(2, len(one) + 1):
            prefix = hash(tuple(one[:end]))
            seen[prefix] += 1
            mask[end - 1] = seen[prefix] <= repeats
        masks.append(mask)
    return masks


def read(model, found: Corpus, layer: int) -> Read:
    """Activations of every document after `layer` blocks; scale and norm limit come from training documents alone."""
    states = model.activations(found.ids, layer, position="all")
    train, test = found.rows("train"), found.rows("test")
    limit = activations.norm_limit([states[i] for i in train])
    tokens = activations.tokens(states, limit)
    scale = activations.scale(tokens.of(train).x)
    tokens = activations.Tokens(tokens.x / scale, tokens.document, tokens.position, limit)
    means = mean_tokens(tokens.x, tokens.document, len(states))
    return Read(tokens.of(train), _new(tokens.of(test), found), scale, states, activations.keep(states, limit), means)


def _new(test: activations.Tokens, found: Corpus) -> activations.Tokens:
    """Held-out tokens whose prefix no other document has before them: an equal prefix gives an equal activation.

    Else the chat template's opening would be held out in name only.
    """
    seen = {tuple(found.ids[i][: n + 1]) for i in found.rows("train") for n in range(len(found.ids[i]))}
    fresh = []
    for document, position in zip(test.document.tolist(), test.position.tolist(), strict=True):
        prefix = tuple(found.ids[document][: position + 1])
        fresh.append(prefix not in seen)
        seen.add(prefix)
    kept = torch.tensor(fresh)
    return activations.Tokens(test.x[kept], test.document[kept], test.position[kept], test.limit)


def long_documents(found: Corpus, at_least: int, count: int, seed: int) -> np.ndarray:
    """Numbers of `count` held-out documents of at least so many tokens, drawn at random."""
    rows = [i for i in found.rows("test") if len(found.ids[i]) >= at_least]
    if len(rows) < count:
        raise DataError(f"{len(rows)} held-out documents have {at_least} tokens or more, but {count} are needed")
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def texts(spec: dict) -> pd.DataFrame:
    """All texts of a source: text, label."""
    if "hutto" in spec:
        with tarfile.open(fetch("hutto-icwsm-2014")) as archive:
            raw = archive.extractfile(f"hutto_ICWSM_2014/{spec['hutto']}").read()
        table = pd.read_csv(io.BytesIO(raw), sep="\t", header=None, names=["id", "valence", "text"], quoting=3)
        table = table[table["valence"].abs() >= NEUTRAL]
        return table.assign(label=(table["valence"] > 0).astype(int))[["text", "label"]]
    import pyarrow as pa

    with zipfile.ZipFile(fetch("sae-probes")) as wheel:
        packed = wheel.read(f"sae_probes/data/cleaned_data/{spec['set']}.csv.zst")
    with pa.input_stream(pa.BufferReader(packed), compression="zstd") as stream:
        table = pd.read_csv(stream)
    label = (table["target"].astype(str) == spec["one"]).astype(int) if "one" in spec else -1
    return pd.DataFrame({"text": table["prompt"].astype(str), "label": label})


def plain(texts: pd.Series) -> pd.Series:
    """What makes texts the same: neither case nor white space tells them apart."""
    return texts.str.split().str.join(" ").str.casefold()


def _draw(table: pd.DataFrame, labelled: bool, count: int, name: str, seed: int) -> pd.DataFrame:
    """`count` texts in random order, each once; of a task half of either class in every stretch."""
    table = table[table["text"].str.strip().str.len() > 3]
    table = table[~plain(table["text"]).duplicated()]
    # One seed a source: leaving one out changes what others draw by the texts alone that they share.
    number = int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:4], "big")
    table = table.sample(frac=1, random_state=number)
    if not labelled:
        if len(table) < count:
            raise DataError(f"{name} has {len(table)} texts, but {count} are needed; ask for fewer documents")
        return table.head(count).reset_index(drop=True)
    halves = [table[table["label"] == label].head(count // 2) for label in (0, 1)]
    if min(map(len, halves)) < count // 2:
        short = min(map(len, halves))
        raise DataError(f"{name} has {short} texts of a class, but {count // 2} are needed; ask for fewer documents")
    both = pd.concat(halves).to_numpy().reshape(2, -1, 2).transpose(1, 0, 2).reshape(-1, 2)
    return pd.DataFrame(both, columns=["text", "label"]).astype({"label": int})


def labels(found: Corpus, task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(training documents, their labels, test documents, their labels) of a task."""
    of = {role: found.rows(role, task) for role in ("train", "test")}
    label = found.table["label"].to_numpy()
    return of["train"], label[of["train"]], of["test"], label[of["test"]]


def tasks() -> Sequence[str]:
    """Names of the labelled tasks."""
    return list(CORPUS["tasks"])


def by_corpus(arm: pd.DataFrame) -> pd.DataFrame:
    """An arm of tasks (unit, seed, value) as one of corpora: the mean over the tasks that are cut from each."""
    corpora = {task: spec["corpus"] for task, spec in CORPUS["tasks"].items()}
    return arm.assign(unit=arm["unit"].map(corpora)).groupby(["unit", "seed"], as_index=False)["value"].mean()
