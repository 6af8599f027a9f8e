"""The taxonomy: every architecture and strategy of the survey, each with the code that is it. Floor: sae."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from papercore.sae import strategies
from papercore.sae.base import SAE, SAEError
from papercore.sae.batch_topk import BatchTopK
from papercore.sae.controls import FrozenDecoder, RandomCodes
from papercore.sae.feature_choice import FeatureChoice
from papercore.sae.gated import Gated
from papercore.sae.jumprelu import JumpReLU
from papercore.sae.matryoshka import Matryoshka
from papercore.sae.mutual_choice import MutualChoice
from papercore.sae.p_anneal import PAnneal
from papercore.sae.prolu import ProLU
from papercore.sae.relu import ReLU
from papercore.sae.switch import Switch
from papercore.sae.topk import TopK
from papercore.sae.transcoder import Crosscoder, Transcoder


@dataclass(frozen=True)
class Entry:
    """One entry: family (base, architecture, strategy, relative, control), its code, what it changes, its source.

    survey: whether the survey's taxonomy lists it, as far as is known.
    """

    family: str
    code: Callable
    idea: str
    source: str
    survey: bool = False


TAXONOMY: dict[str, Entry] = {
    "relu": Entry("base", ReLU, "L1 penalty on ReLU codes", "2309.08600", True),
    "gated": Entry("architecture", Gated, "one path decides, one measures", "2404.16014", True),
    "topk": Entry("architecture", TopK, "k largest of each token", "2406.04093", True),
    "batch_topk": Entry("architecture", BatchTopK, "k n largest of a batch", "2412.06410", True),
    "prolu": Entry("architecture", ProLU, "bias moves the threshold only", "Taggart 2024", True),
    "jumprelu": Entry("architecture", JumpReLU, "learned thresholds, L0 penalty", "2407.14435", True),
    "switch": Entry("architecture", Switch, "a router picks one small SAE", "2410.08201", True),
    "layer_group": Entry("strategy", strategies.layer_groups, "one SAE for like layers", "2410.21508", True),
    "feature_choice": Entry("strategy", FeatureChoice, "each latent keeps its best tokens", "2411.02124", True),
    "mutual_choice": Entry("strategy", MutualChoice, "one budget for tokens and latents", "2411.02124", True),
    "feature_aligned": Entry("strategy", strategies.FeatureAligned, "several SAEs must agree", "2411.01220", True),
    "end_to_end": Entry("strategy", strategies.finetune_end_to_end, "loss on what the model says", "2405.12241", True),
    "p_anneal": Entry("strategy", PAnneal, "penalty from L1 to L0.2", "2408.00113"),
    "matryoshka": Entry("architecture", Matryoshka, "nested prefixes reconstruct", "2503.17547"),
    "transcoder": Entry("relative", Transcoder, "module input to module output", "2406.11944"),
    "crosscoder": Entry("relative", Crosscoder, "one code for several layers", "Lindsey et al. 2024"),
    "frozen_decoder": Entry("control", FrozenDecoder, "decoder stays random", "2602.14111"),
    "random_codes": Entry("control", RandomCodes, "nothing is trained", "2602.14111"),
}


def names(*families: str) -> list[str]:
    """The entries of some families, or all."""
    return [name for name, entry in TAXONOMY.items() if not families or entry.family in families]


def make(name: str, d_model: int, n_latents: int, k: int, *, seed: int = 0) -> SAE:
    """The SAE called `name`, untrained; raises SAEError for one unknown or one that is not made of one width alone."""
    entry = TAXONOMY.get(name)
    alone = [one for one in names() if isinstance(TAXONOMY[one].code, type) and issubclass(TAXONOMY[one].code, SAE)]
    alone = [one for one in alone if TAXONOMY[one].family != "relative"]
    if entry is None or name not in alone:
        raise SAEError(f"no SAE is called {name!r}; choose {', '.join(alone)}")
    return entry.code(d_model, n_latents, k, seed=seed)


def table() -> pd.DataFrame:
    """The taxonomy as a table; `code` says where the code stands."""
    rows = [
        (name, e.family, e.idea, e.source, f"{e.code.__module__}.{e.code.__qualname__}", "yes" if e.survey else "no")
        for name, e in TAXONOMY.items()
    ]
    return pd.DataFrame(rows, columns=["name", "family", "idea", "source", "code", "in the survey"])
