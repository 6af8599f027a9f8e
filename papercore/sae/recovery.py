"""How much of what the model says survives a reconstruction: the splice doctor and the CE and KL scores. Floor: sae."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch

from papercore.models import Model


def score(clean, spliced, ablated):
    """(ablated - spliced) / (ablated - clean): 1 where nothing is lost, 0 where as much as by ablation.

    Means or sums of CE over the same tokens; for KL, clean is 0. Which ablation is meant must stand beside the number:
    zero ablation is so destructive that almost anything recovers most of it.
    """
    return (ablated - spliced) / (ablated - clean)


def by_document(
    model: Model,
    texts: Sequence,
    layer: int,
    functions: Mapping[str, Callable[[torch.Tensor], torch.Tensor]],
    keep: Sequence[torch.Tensor],
) -> pd.DataFrame:
    """A row a document and function: document, function, ce, clean and kl summed over its n predicted tokens, in nats.

    keep: which tokens of each text are replaced, (n_tokens_i,); predictions are counted from the first of them on,
    since what comes before cannot change.
    """
    rows = []
    for name, found in model.splice(texts, layer, dict(functions), keep=keep).items():
        for i, (ce, kl, clean) in enumerate(zip(found.ce, found.kl, found.clean, strict=True)):
            first = int(keep[i].nonzero()[0]) if keep[i].any() else len(ce)
            part = slice(first, None)
            n = len(ce[part])
            rows.append((i, name, float(ce[part].sum()), float(clean[part].sum()), float(kl[part].sum()), n))
    return pd.DataFrame(rows, columns=["document", "function", "ce", "clean", "kl", "n"])


def doctor(table: pd.DataFrame) -> pd.DataFrame:
    """The splice doctor's table, a row a function of `by_document` with functions `zero` and `mean` among them: CE and
    KL in nats a token, and the scores against either ablation. The identity must read 1, an ablation 0 against itself.
    """
    total = table.groupby("function", sort=False)[["ce", "clean", "kl", "n"]].sum()
    found = pd.DataFrame({"CE": total["ce"] / total["n"], "KL": total["kl"] / total["n"]})
    clean = float(total["clean"].iloc[0] / total["n"].iloc[0])
    for ablation in ("zero", "mean"):
        found[f"CE score ({ablation})"] = score(clean, found["CE"], found.loc[ablation, "CE"])
        found[f"KL score ({ablation})"] = score(0, found["KL"], found.loc[ablation, "KL"])
    return found


def ablations(x: torch.Tensor) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """The two usual ablations, from training activations x (n_tokens, d_model): zero and mean; and the identity."""
    mean = x.mean(0)
    return {
        "identity": lambda states: states,
        "zero": torch.zeros_like,
        "mean": lambda states: mean.to(states).expand_as(states),
    }
