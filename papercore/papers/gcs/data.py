"""The texts: human-rated snippets, the concept grid from templates and terms, and the reader's own CSV."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from papercore.assets import fetch

WORDS = (8, 25)
VALENCE = 1.5


class DataError(ValueError):
    """Too few texts, an empty one, or a class without any."""


@dataclass(frozen=True)
class Sentiment:
    """Labelled texts split into training pools and texts that no probe ever trains on.

    pool: table with text, label (1 = the concept) and share (which fitting seed it is for); held_out: text, label. As
    many of each label everywhere, no text twice.
    """

    pool: pd.DataFrame
    held_out: pd.DataFrame

    @property
    def shares(self) -> int:
        """Number of disjoint training pools; 1 where all fitting seeds have to share one."""
        return int(self.pool["share"].max()) + 1

    def share(self, number: int) -> np.ndarray:
        """Rows of the pool for the fitting seed of that number."""
        return np.flatnonzero(self.pool["share"] == number % self.shares)


def movie_snippets() -> pd.DataFrame:
    """Movie-review snippets with their mean valence (-4..4) from about 20 raters (Hutto and Gilbert 2014).

    Columns text and label: 1 for valence >= 1.5, 0 for <= -1.5; 8 to 25 words; duplicates removed.
    """
    with tarfile.open(fetch("hutto-icwsm-2014")) as archive:
        raw = archive.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt").read()
    table = pd.read_csv(
        io.BytesIO(raw), sep="\t", header=None, names=["id", "valence", "text"], quoting=3, encoding="utf-8"
    )
    words = table["text"].str.split().str.len()
    table = table[words.between(*WORDS) & (table["valence"].abs() >= VALENCE)]
    table = table.assign(label=(table["valence"] > 0).astype(int)).drop_duplicates("text")
    return table[["text", "label"]].reset_index(drop=True)


def own_texts(path: str) -> pd.DataFrame:
    """The reader's CSV with columns text and label (1, 0); raises DataError in one sentence."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(
            f"texts_csv = {path!r}: no such file; give a CSV with the columns text and label (1 = concept, 0 = not)"
        )
    table = pd.read_csv(file)
    if not {"text", "label"} <= set(table) or not table["label"].isin([0, 1]).all():
        raise DataError(f"{path}: columns text and label (1 or 0) are needed; it has {', '.join(map(str, table))}")
    empty = table["text"].isna() | (table["text"].astype(str).str.strip() == "")
    if empty.any():
        raise DataError(f"{path}: row {int(empty.idxmax()) + 2} has an empty text")
    return table[["text", "label"]].drop_duplicates("text").reset_index(drop=True)


def split(table: pd.DataFrame, pool: int, held_out: int, seed: int, shares: int = 1) -> Sentiment:
    """`pool` training texts of each label for each of `shares` fitting seeds, and `held_out` test texts of each label.

    All disjoint, drawn by the seed. Where the texts do not suffice for disjoint pools, the fitting seeds share one;
    where not even for that, DataError.
    """
    rng = np.random.default_rng(seed)
    few = table["label"].value_counts().reindex([1, 0], fill_value=0)
    if few.min() < pool + held_out:
        raise DataError(
            f"label {few.idxmin()} has {few.min()} distinct texts, but pool {pool} + held out {held_out} = "
            f"{pool + held_out} are asked for; lower pool_per_class or held_out_per_class"
        )
    shares = shares if few.min() >= shares * pool + held_out else 1
    pools, tests = [], []
    for label in (1, 0):
        rows = table[table["label"] == label]
        order = rows.iloc[rng.permutation(len(rows))]
        tests.append(order[:held_out])
        pools.append(order[held_out : held_out + shares * pool].assign(share=np.arange(shares * pool) // pool))
    return Sentiment(pd.concat(pools, ignore_index=True), pd.concat(tests, ignore_index=True))


def concept_grid(templates: int, terms: int, seed: int) -> pd.DataFrame:
    """The 4 x 4 grid as a table: category, concept ("others" for the category's other things), term, text, test.

    `terms` of each concept's 20, of which every third tests (`test` True): no term both trains and tests.
    """
    spec = _grid()
    rng = np.random.default_rng(seed)
    rows = []
    for category in (name for name in spec if name != "lexical_controls"):
        block = spec[category]
        if not 1 <= templates <= len(block["templates"]) or not 3 <= terms <= len(block["others"]):
            raise DataError(
                f"the grid has {len(block['templates'])} templates and {len(block['others'])} terms a concept; "
                f"templates = {templates} and terms = {terms} do not fit (terms: at least 3)"
            )
        for concept, words in {**block["concepts"], "others": block["others"]}.items():
            for i, which in enumerate(rng.permutation(len(words))[:terms]):
                for template in block["templates"][:templates]:
                    rows.append((category, concept, words[which], template.format(term=words[which]), i % 3 == 2))
    return pd.DataFrame(rows, columns=["category", "concept", "term", "text", "test"])


def lexical_controls() -> pd.DataFrame:
    """Texts that have the concept's word but not the concept: columns concept, text."""
    rows = [(concept, text) for concept, texts in _grid()["lexical_controls"].items() for text in texts]
    return pd.DataFrame(rows, columns=["concept", "text"])


def movie_titles() -> list[str]:
    """Film titles of the grid, for the steering prompts."""
    films = _grid()["films"]
    return [*films["others"], *(title for titles in films["concepts"].values() for title in titles)]


def _grid() -> dict:
    return yaml.safe_load((resources.files(__package__) / "grid.yaml").read_text(encoding="utf-8"))
