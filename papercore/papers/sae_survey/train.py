"""`papercore train sae_survey`: trains the shipped SAEs and writes them with their quality cards.

About an hour on two cores: reading the texts once for all layers, then a TopK SAE and a frozen-decoder control a layer.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from papercore.papers.sae_survey import data, zoo
from papercore.sae import activations, interchange, metrics, recovery, registry, trainer
from papercore.sae.base import SAE
from papercore.sae.controls import PCA

SHIPPING = yaml.safe_load((resources.files(__package__) / "shipping.yaml").read_text(encoding="utf-8"))
CHUNK = 256  # documents tokenised or read at once
REPEATS = 100  # times that one and the same prefix counts: the template's opening is the same in every chat


def documents(tokenizer, settings: dict = SHIPPING) -> tuple[list[list[int]], pd.DataFrame]:
    """Token ids of the documents, and a table of their source, role (train, test) and chat (whether templated)."""
    tables = []
    for name, spec in settings["sources"].items():
        table = data.texts(spec)
        tables.append(table[table["text"].str.strip().str.len() > 3].assign(source=name)[["text", "source"]])
    table = pd.concat(tables, ignore_index=True)
    table = table[~data.plain(table["text"]).duplicated()].sample(frac=1, random_state=settings["seed"])
    draw = np.random.default_rng(settings["seed"])
    table = table.assign(chat=draw.random(len(table)) < settings["chats"])
    ids: list[list[int]] = []
    counted, seen, enough = 0, Counter(), settings["test_documents"]
    for start in range(0, len(table), CHUNK):
        ids += _encoded(tokenizer, table.iloc[start : start + CHUNK], settings["max_tokens"])
        while enough < len(ids) and counted < settings["tokens"]:
            counted += int(data.fresh(ids[enough : enough + 1], REPEATS, seen)[0].sum())
            enough += 1
        if counted >= settings["tokens"]:
            break
    else:
        raise data.DataError(f"the texts have {counted} tokens that count, but {settings['tokens']} are asked for")
    roles = np.where(np.arange(enough) < settings["test_documents"], "test", "train")
    return ids[:enough], table.iloc[:enough].assign(role=roles)[["source", "role", "chat"]].reset_index(drop=True)


def _encoded(tokenizer, table: pd.DataFrame, max_tokens: int) -> list[list[int]]:
    """Token ids of the texts of a table, those marked chat in the model's template."""
    found: list = [None] * len(table)
    for chat in (False, True):
        rows = np.flatnonzero(table["chat"] == chat)
        texts = table["text"].iloc[rows].tolist()
        for row, one in zip(rows, data.encode(tokenizer, texts, max_tokens, chat=chat) if texts else [], strict=True):
            found[row] = list(map(int, one))
    return found


def read(model, ids: Sequence[list[int]], layers: Sequence[int], progress=None) -> dict[int, list[torch.Tensor]]:
    """The residual stream of every document at each layer, {layer: list of (n_tokens_i, d_model)}."""
    found: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for start in range(0, len(ids), CHUNK):
        part = model.activations(ids[start : start + CHUNK], list(layers), position="all", cache=False)
        for layer in layers:
            found[layer] += part[layer]
        if progress:
            progress(min(start + CHUNK, len(ids)), len(ids))
    return found


def fit(name: str, x: torch.Tensor, settings: dict = SHIPPING, device: str = "cpu", progress=None) -> SAE:
    """An SAE of the recipe, `name` topk or frozen_decoder, on scaled training tokens x (n_tokens, d_model)."""
    sae = registry.make(name, x.shape[1], settings["latents"], settings["k"], seed=settings["seed"])
    recipe = trainer.Recipe(**{key: settings[key] for key in ("steps", "batch", "lr", "warmup", "seed")})
    zoo.learn(sae, x, recipe, device, progress)
    return sae.eval()


def card(
    model,
    ids: list,
    table: pd.DataFrame,
    states: list[torch.Tensor],
    layer: int,
    x: torch.Tensor,
    limit: float,
    arms: dict,
    settings: dict,
) -> dict:
    """Quality on held-out documents, of each of the arms: structural metrics, and CE and KL of the splice.

    x (n_tokens, d_model): training tokens at the model's own scale, for the ablations. Everything without and with
    position 0; later tokens only where training never saw their whole prefix: in a chat not before the user's own words
    begin. Predictions are counted from the first replaced token on.
    """
    train, test = (np.flatnonzero(table["role"] == role) for role in ("train", "test"))
    seen: Counter = Counter()
    data.fresh([ids[i] for i in train], 1, seen)
    new = data.fresh([ids[i] for i in test], 1, seen)
    longest = [i for i in test.tolist() if len(ids[i]) >= settings["max_tokens"] // 2][: settings["spliced"]]
    found: dict = {"documents": len(test), "spliced documents": len(longest)}
    for first in (False, True):
        kept = activations.keep([states[i] for i in test], limit, first=first)
        for mask, one in zip(kept, new, strict=True):
            mask[1:] &= one[1:]
        tokens = torch.cat([states[i][mask] for i, mask in zip(test, kept, strict=True)])
        mask_of = dict(zip(test.tolist(), kept, strict=True))
        masks = [mask_of[i] for i in longest]
        functions = {**recovery.ablations(x), **arms}
        scores = recovery.doctor(recovery.by_document(model, [ids[i] for i in longest], layer, functions, masks))
        rows = {}
        for name, arm in arms.items():
            row = {"explained variance": metrics.explained_variance(metrics.per_token(arm, tokens))}
            rows[name] = (
                row | (metrics.summary(arm, tokens) if isinstance(arm, SAE) else {}) | scores.loc[name].to_dict()
            )
        found["with position 0" if first else "without position 0"] = {"tokens": len(tokens), **rows}
    return found


def main(out: Path | None = None, settings: dict = SHIPPING) -> None:
    """Train and write what ships; `out` in place of the package's own folder."""
    from rich.progress import Progress

    from papercore.models import load_model
    from papercore.study import provenance

    s, started = settings, time.monotonic()
    out = out or Path(str(resources.files("papercore.sae"))) / "shipped"
    model = load_model(s["model"], device="cpu")
    ids, table = documents(model.tokenizer, s)
    train = np.flatnonzero(table["role"] == "train")
    counted = data.fresh([ids[i] for i in train], REPEATS)
    hardware = provenance.collect("sae_survey", 0)["hardware"]
    with Progress() as bar:

        def shown(what: str):
            task = bar.add_task(what, total=None)
            return lambda done, total, *_: bar.update(task, completed=done, total=total)

        states = read(model, ids, s["layers"], shown("reading documents"))
        for layer in s["layers"]:
            own = [states[layer][i] for i in train]
            limit = activations.norm_limit(own)
            masks = [a & b for a, b in zip(activations.keep(own, limit), counted, strict=True)]
            x = torch.cat([one[mask] for one, mask in zip(own, masks, strict=True)])
            scale = activations.scale(x)
            arms = {}
            for name in ("topk", "frozen_decoder"):
                sae = fit(name, x / scale, s, progress=shown(f"block {layer}: {name}"))
                arms[name] = sae.folded(scale)
            about = {
                "model_name": s["model"],
                # As SAELens and TransformerLens count blocks, from 0.
                "hook_name": f"blocks.{layer - 1}.hook_resid_post",
                "model_identity": model.identity,
                "recipe": {key: value for key, value in s.items() if key != "sources"},
                "texts": s["sources"],
                "training": {"tokens": len(x), "documents": len(train), "scale": scale, "norm_limit": limit},
            }
            folder = interchange.save(arms["topk"], out / f"{s['model']}-{layer}", about, torch.float16)
            arms["topk"] = interchange.load(folder)  # as it will be read: from half precision
            draw = torch.randperm(len(x), generator=torch.Generator().manual_seed(s["seed"]))[:200_000]
            arms[f"PCA-{s['k']}"] = PCA(x[draw], s["k"])
            quality = card(model, ids, table, states[layer], layer, x, limit, arms, s)
            quality |= {"seconds since the start": round(time.monotonic() - started), "hardware": hardware}
            (folder / "card.json").write_text(json.dumps(quality, indent=1) + "\n", encoding="utf-8")
            weights = (folder / interchange.WEIGHTS).read_bytes()
            print(
                f"{folder.name}: size {len(weights)}, sha256 {hashlib.sha256(weights).hexdigest()}, for the catalogue"
            )
            states[layer] = []
