"""Answers by talk: batched, greedy, and kept under a key of model, prompt, decoding and batch shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd

from papercore.papers.self_debugging.prompts import STOP, Talk

COLUMNS = ["key", "stage", "unit", "batch", "rows", "longest", "tokens", "answer"]


class GenerationError(ValueError):
    """A model cannot answer what it was asked."""


@dataclass(frozen=True)
class Decoding:
    """Greedy, up to a number of new tokens or the end of a code block."""

    max_new_tokens: int
    stop: tuple[str, ...] = STOP


class Backend(Protocol):
    """Who answers. `continues` says whether an answer goes on from a talk's last, unfinished assistant message."""

    identity: str
    continues: bool

    def prompt(self, talk: Talk) -> Sequence[int] | str:
        """What is sent, and hashed."""

    def answer(self, prompts: list, decoding: Decoding) -> list[tuple[str, int]]:
        """Text and number of new tokens of each prompt, of one batch."""


class Local:
    """A model on this machine, through nnsight; left padding, the chat template with an open assistant message."""

    continues = True

    def __init__(self, model):
        if not model.tokenizer.chat_template:
            raise GenerationError(f"{model.name!r} has no chat template: take an instruction-tuned model")
        self.model, self.identity = model, model.identity

    def prompt(self, talk: Talk) -> list[int]:
        """Token ids of the talk, (n_tokens,)."""
        *_, last = talk
        done = talk[:-1] if last["role"] == "assistant" else talk
        text = self.model.tokenizer.apply_chat_template(done, tokenize=False, add_generation_prompt=True)
        text += last["content"] if last["role"] == "assistant" else ""
        return self.model.tokenizer(text, add_special_tokens=False)["input_ids"]

    def answer(self, prompts: list[list[int]], decoding: Decoding) -> list[tuple[str, int]]:
        """One batch, whatever its size."""
        room = sum(map(len, prompts)) + len(prompts) * (max(map(len, prompts)) + decoding.max_new_tokens)
        found = self.model.generate_ids(
            prompts, max_new_tokens=decoding.max_new_tokens, stop=list(decoding.stop), batch_tokens=room
        )
        return [(self.model.tokenizer.decode(ids, skip_special_tokens=True), len(ids)) for ids in found]


class Remote:
    """A model behind an endpoint. Servers need not go on from an open message: it is left out, and answers are free."""

    continues = False

    def __init__(self, endpoint):
        self.endpoint, self.identity = endpoint, endpoint.identity

    def prompt(self, talk: Talk) -> str:
        """The talk as JSON, an open assistant message left out."""
        return json.dumps(talk[:-1] if talk[-1]["role"] == "assistant" else talk)

    def answer(self, prompts: list[str], decoding: Decoding) -> list[tuple[str, int]]:
        """The batch's requests at once; a stop string would end an answer where its code begins, so none is sent."""
        with ThreadPoolExecutor(len(prompts)) as pool:
            ask = self.endpoint.complete
            return list(pool.map(lambda p: ask(json.loads(p), max_new_tokens=decoding.max_new_tokens), prompts))


@dataclass(frozen=True)
class Job:
    """One answer that is wanted: its place in the list, its prompt, its batch and the batch's shape, its key."""

    row: int
    prompt: Sequence[int] | str
    batch: int
    shape: tuple[int, int]
    key: str


def plan(backend: Backend, talks: Sequence[Talk], decoding: Decoding, size: int) -> list[list[Job]]:
    """Batches of at most `size` prompts of like length, longest first."""
    prompts = [backend.prompt(talk) for talk in talks]
    order = sorted(range(len(prompts)), key=lambda row: (-len(prompts[row]), row))
    batches = []
    for number, start in enumerate(range(0, len(order), size)):
        rows = order[start : start + size]
        shape = (len(rows), len(prompts[rows[0]]))
        batches.append(
            [Job(r, prompts[r], number, shape, key(backend.identity, prompts[r], decoding, shape)) for r in rows]
        )
    return batches


def key(identity: str, prompt: Sequence[int] | str, decoding: Decoding, shape: tuple[int, int]) -> str:
    """Sha256 of model, prompt, decoding and batch shape; padding changes sums in their last digits, so it is part."""
    said = [identity, prompt if isinstance(prompt, str) else list(prompt), asdict(decoding), list(shape)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


class Store:
    """Answers by key: those kept, and a parquet file, if any, that is gone on with and that each batch is added to.

    closed: nothing is added; what is not there is an error.
    """

    def __init__(self, kept: pd.DataFrame | None = None, file: Path | None = None, *, closed: bool = False):
        self.table = pd.DataFrame(columns=COLUMNS) if kept is None else kept
        self.file, self.closed = file, closed
        if file is not None and file.is_file():
            self.table = pd.concat([self.table, pd.read_parquet(file)]).drop_duplicates("key", ignore_index=True)
        self.used: set[str] = set()
        self._answers = dict(zip(self.table["key"], self.table["answer"], strict=True))

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> str:
        self.used.add(key)
        return self._answers[key]

    def add(self, rows: list[dict]) -> None:
        """Keep a batch at once, so that a run that is stopped goes on from there."""
        self._answers |= {row["key"]: row["answer"] for row in rows}
        self.table = pd.concat([self.table, pd.DataFrame(rows, columns=COLUMNS)], ignore_index=True)
        if self.file is not None:
            part = self.file.with_name(f"{self.file.name}.part")
            self.table.to_parquet(part, index=False, compression="zstd")
            part.replace(self.file)


def answers(
    backend: Backend,
    stage: str,
    asked: Sequence[tuple[str, Talk]],
    decoding: Decoding,
    *,
    size: int,
    store: Store,
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Answer of each (unit, talk), in order; batches that the store lacks are made and kept."""
    if not asked:
        return []
    units, found = [unit for unit, _ in asked], [""] * len(asked)
    batches = plan(backend, [talk for _, talk in asked], decoding, size)
    for number, batch in enumerate(batches):
        if not all(job.key in store for job in batch):
            if store.closed:
                raise GenerationError(
                    f"{stage}: no answer is recorded for {units[batch[0].row]} with this model, prompt and batch; take "
                    "source = 'live', or the recorded settings"
                )
            if progress:
                progress(f"{stage}: batch {number + 1} of {len(batches)}, {len(batch)} x {batch[0].shape[1]} tokens")
            store.add(made(backend, stage, units, batch, decoding))
        for job in batch:
            found[job.row] = store[job.key]
    return found


def made(backend: Backend, stage: str, units: Sequence[str], batch: list[Job], decoding: Decoding) -> list[dict]:
    """A batch's rows, made anew."""
    rows = []
    for job, (text, tokens) in zip(batch, backend.answer([job.prompt for job in batch], decoding), strict=True):
        row = {"key": job.key, "stage": stage, "unit": units[job.row], "batch": job.batch}
        rows.append(row | dict(zip(("rows", "longest"), job.shape, strict=True)) | {"tokens": tokens, "answer": text})
    return rows
