"""The problems: header, canonical solution and tests of each, and the examples that its docstring gives away."""

from __future__ import annotations

import ast
import doctest
import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from papercore.assets import fetch

HUMANEVAL = "humaneval"


class ProblemError(ValueError):
    """A problem cannot be used."""


@dataclass(frozen=True)
class Problem:
    """A self-contained Python task: `prompt` (header and docstring), `entry_point`, canonical body, and test code that
    defines `check(candidate)`.
    """

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str

    def __post_init__(self):
        if self.entry_point not in self._names:
            raise ProblemError(f"{self.task_id}: its prompt does not define its entry point {self.entry_point!r}")

    @cached_property
    def _body(self) -> list[ast.stmt]:
        try:
            return ast.parse(f"{self.prompt}    pass\n").body
        except SyntaxError as error:
            raise ProblemError(f"{self.task_id}: its prompt is no Python header (line {error.lineno})") from None

    @cached_property
    def _names(self) -> list[str]:
        return [node.name for node in self._body if isinstance(node, ast.FunctionDef)]

    @property
    def canonical(self) -> str:
        """The right program."""
        return self.prompt + self.canonical_solution

    @property
    def stub(self) -> str:
        """A program that returns None."""
        return f"{self.prompt}    return None\n"

    @cached_property
    def helpers(self) -> str:
        """What the prompt defines beside the entry point: imports and complete functions that tests may call."""
        kept = [node for node in self._body if getattr(node, "name", None) != self.entry_point]
        return "\n".join(ast.unparse(node) for node in kept)

    @property
    def check(self) -> str:
        """Trusted code that defines `check(candidate)`, the prompt's helpers before it."""
        return f"{self.helpers}\n{self.test}"

    @cached_property
    def parameters(self) -> list[str]:
        """Names of the entry point's parameters."""
        (entry,) = (node for node in self._body if getattr(node, "name", None) == self.entry_point)
        return [a.arg for a in entry.args.posonlyargs + entry.args.args]

    @cached_property
    def docstring(self) -> str:
        """The entry point's docstring, or an empty text."""
        (entry,) = (node for node in self._body if getattr(node, "name", None) == self.entry_point)
        return ast.get_docstring(entry) or ""

    @cached_property
    def examples(self) -> list[tuple[str, str]]:
        """(call, expected value) of the docstring's `>>>` examples, both as the source that ast would write."""
        try:
            found = doctest.DocTestParser().get_examples(self.docstring)
        except ValueError:  # prose that looks like an example
            return []
        return [(plain(example.source), plain(example.want)) for example in found]


def plain(source: str) -> str:
    """One spelling for equal expressions: `f( 1,2 )` and `f(1, 2)` are the same text; source that is none stays."""
    try:
        return ast.unparse(ast.parse(source.strip(), mode="eval"))
    except (SyntaxError, ValueError):
        return source.strip()


def read(path: Path) -> list[Problem]:
    """Problems from a file of HumanEval's format, JSON lines, gzipped or not; raises ProblemError."""
    try:
        lines = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise ProblemError(f"{path.name} is not a file of JSON lines: {error}") from None
    wanted = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
    for number, row in enumerate(rows, 1):
        if missing := [name for name in wanted if not isinstance(row.get(name), str)]:
            raise ProblemError(f"{path.name}, line {number}: {missing[0]!r} is missing or not a text")
    return [Problem(**{name: row[name] for name in wanted}) for row in rows]


def load(n: int = 164, source: str = HUMANEVAL) -> list[Problem]:
    """The first `n` problems, in the file's order: nobody picks them. `source` is the catalogued set or a file.

    Raises ProblemError where there are fewer.
    """
    found = read(fetch(source) if source == HUMANEVAL else Path(source).expanduser())
    if not 1 <= n <= len(found):
        raise ProblemError(f"n_problems = {n}: {source} has {len(found)} problems, so choose 1 to {len(found)}")
    return found[:n]
