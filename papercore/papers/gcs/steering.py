"""Steering real generations with the concept's vectors, and scoring effect against fluency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch

from papercore.models.steer import Steer
from papercore.papers.gcs.experiment import Reading, generator
from papercore.papers.gcs.subspace import Subspace
from papercore.probes.directions import mean_difference
from papercore.probes.logistic import fit_probes

PROMPT = "Here is an angry review of the movie {title}:"
# Fluency is scored behind a neutral opening, so that it measures the text and not its fit to an angry prompt.
OPENING = "Review:"
METHODS = (
    "mean_difference",
    "one_probe",
    "mean",
    "1_sigma",
    "5_sigma",
    "1_sigma_draw",
    "5_sigma_draw",
    "random",
    "random_again",
)


def directions(
    fits: dict[tuple[int, int], Subspace], reading: Reading, layers: Iterable[int], seed: int, samples: int
) -> dict[str, dict[int, torch.Tensor]]:
    """{method: {layer: (d_model,)}}, positive = the concept, from one fitting seed's texts.

    mean_difference in raw space; one_probe trained on all texts; mean = mu; k_sigma = mean of `samples` draws (the
    paper's rows); k_sigma_draw = one draw; random, random_again = two random directions. The blend scales every vector
    by its own mean absolute coordinate, so that all steer with equal size (paper's code).
    """
    out: dict[str, dict[int, torch.Tensor]] = {method: {} for method in METHODS}
    for layer in layers:
        rows = reading.rows[seed]
        x, y = reading.pool[layer][rows].double(), reading.pool_y[rows]
        space, rng = fits[layer, seed], generator(seed, 13, layer)
        out["mean_difference"][layer] = mean_difference(x[y == 1], x[y == 0])
        out["one_probe"][layer] = fit_probes(x, y, torch.arange(len(y))[None]).direction[0]
        out["mean"][layer] = space.mu
        for k in (1, 5):
            draws = space.sample(samples, rng, k)
            out[f"{k}_sigma"][layer] = draws.mean(0)
            out[f"{k}_sigma_draw"][layer] = draws[0]
        for name in ("random", "random_again"):
            out[name][layer] = torch.randn(len(space.mu), dtype=torch.double, generator=rng)
    return out


def steer_texts(
    model,
    vectors: dict[int, dict[str, dict[int, torch.Tensor]]],
    titles: Sequence[str],
    strengths: Iterable[float],
    new_tokens: int,
) -> pd.DataFrame:
    """Greedy continuations of the angry prompt: columns method, strength, seed, unit (title), text, tokens.

    vectors: {seed: {method: {layer: direction}}}; at each layer and last position h <- (1-b) h + b v mean|h| / mean|v|
    (paper's code). All methods of one seed and strength run in one batch. Method `none` is the unsteered model.
    """
    prompts = [PROMPT.format(title=title) for title in titles]
    rows = _continue(model, prompts, titles, None, new_tokens, ["none"], 0.0, 0)
    for seed, by_method in vectors.items():
        methods, layers = list(by_method), list(next(iter(by_method.values())))
        for strength in strengths:
            # One row a method and prompt: a row's own direction at each layer.
            steers = [
                Steer(
                    layer,
                    torch.stack([by_method[m][layer] for m in methods]).repeat_interleave(len(prompts), 0),
                    strength,
                    where="last",
                    mode="blend",
                )
                for layer in layers
            ]
            rows += _continue(model, prompts * len(methods), titles, steers, new_tokens, methods, strength, seed)
    return pd.DataFrame(rows, columns=["method", "strength", "seed", "unit", "text", "tokens"])


def _continue(model, prompts, titles, steers, new_tokens, methods, strength, seed) -> list[tuple]:
    made = model.generate_ids(prompts, steer=steers, max_new_tokens=new_tokens)
    texts = [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in made]
    labels = [(method, strength, seed, title) for method in methods for title in titles]
    return [(*label, text, ids) for label, text, ids in zip(labels, texts, made, strict=True)]


def score(model, texts: pd.DataFrame) -> pd.DataFrame:
    """The table with sentiment, nll and distinct_2 beside each text.

    sentiment: VADER's compound in [-1, 1] (Hutto and Gilbert 2014), a lexicon's view, not a reader's; nll: mean
    negative log-probability a token under the unsteered model, nats; distinct_2: share of distinct word pairs.
    """
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    vader = SentimentIntensityAnalyzer()
    logprobs = model.logprobs([OPENING] * len(texts), list(texts["tokens"]))
    return texts.assign(
        sentiment=[vader.polarity_scores(text)["compound"] for text in texts["text"]],
        nll=[-float(values.double().mean()) for values in logprobs],
        distinct_2=[distinct_2(text) for text in texts["text"]],
    )


def distinct_2(text: str) -> float:
    """Distinct over all word pairs of a text (Li et al. 2016); 1 for fewer than two words."""
    words = text.lower().split()
    pairs = list(pairwise(words))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def shuffled_words(model, texts: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The same texts with their words in random order, scored: what incoherence looks like to the measure."""
    rng = np.random.default_rng([seed, 14])
    mixed = [" ".join(rng.permutation(text.split())) or "." for text in texts["text"]]
    tokens = [torch.tensor(model.tokenizer(" " + text, add_special_tokens=False)["input_ids"]) for text in mixed]
    return score(model, texts.assign(text=mixed, tokens=tokens))


def arm(scores: pd.DataFrame, method: str, column: str) -> pd.DataFrame:
    """One method's column averaged over the strengths: unit (title), seed, value."""
    rows = scores[scores["method"] == method]
    return rows.groupby(["unit", "seed"], as_index=False)[column].mean().rename(columns={column: "value"})
