"""Tests that a model writes for itself: read as data, judged against the reference, used as a label."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from papercore.papers.self_debugging.inside import wire
from papercore.papers.self_debugging.problems import Problem, plain
from papercore.papers.self_debugging.prompts import FENCE

# What a suite's lines can be besides a test that counts.
LOST = ("unreadable", "another form", "not literal", "duplicate", "beyond n")
_CONSTRUCTORS = {"set": set, "frozenset": frozenset, "tuple": tuple, "list": list, "dict": dict}


@dataclass(frozen=True)
class Test:
    """One claim `call == expected`, as source and as plain values."""

    call: str
    expected: str
    args: tuple
    kwargs: dict[str, Any]
    value: Any

    @property
    def packed(self) -> dict:
        """As the sandbox takes it."""
        return {"args": list(self.args), "kwargs": self.kwargs, "expected": self.value}


@dataclass(frozen=True)
class Suite:
    """A problem's own tests in the order of writing, those copied from the docstring apart, and how many lines were
    lost for which reason.
    """

    tests: list[Test]
    copied: list[Test]
    lost: dict[str, int]

    @property
    def written(self) -> int:
        """Lines that began as an assert."""
        return len(self.tests) + len(self.copied) + sum(self.lost.values())


def parse(problem: Problem, answer: str, n: int, *, continued: bool = True) -> Suite:
    """The suite in an answer; `continued`: it goes on after the prompt's open `assert`.

    Kept are at most `n` lines `assert entry(literals) == literal`, once each. A line whose call stands in the docstring
    is copied, not written, and kept apart. An answer that was cut loses its last line.
    """
    text = f"assert{answer.partition(FENCE)[0]}" if continued else answer
    lines = text.splitlines()
    if answer.count(FENCE) % 2 == (0 if continued else 1) and lines:
        del lines[-1]
    tests: list[Test] = []
    copied: list[Test] = []
    lost, seen, told = dict.fromkeys(LOST, 0), set(), _bare(problem.docstring)
    for line in map(str.strip, lines):
        if not re.match(r"assert\b", line):
            continue
        found = read_test(line, problem.entry_point)
        if isinstance(found, str):
            lost[found] += 1
        elif found.call in seen:
            lost["duplicate"] += 1
        elif _bare(found.call) in told:
            copied.append(found)
        elif len(tests) == n:
            lost["beyond n"] += 1
        else:
            tests.append(found)
        seen |= set() if isinstance(found, str) else {found.call}
    return Suite(tests, copied, lost)


def _bare(text: str) -> str:
    return re.sub(r"\s", "", text).replace('"', "'")


def read_test(line: str, name: str) -> Test | str:
    """The test of the function `name` in a line, or why it is none (one of LOST)."""
    try:
        (node,) = ast.parse(line).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "unreadable"
    match node:
        case ast.Assert(
            test=ast.Compare(left=ast.Call(func=ast.Name(id=named)) as call, ops=[ast.Eq()], comparators=[right])
        ):
            if named != name:
                return "another form"
        case _:
            return "another form"
    try:
        args = tuple(literal(arg) for arg in call.args)
        kwargs = {keyword.arg: literal(keyword.value) for keyword in call.keywords}
        value = literal(right)
        if None in kwargs:
            return "another form"
        wire.encode([args, kwargs, value])
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return "not literal"
    return Test(plain(ast.unparse(call)), ast.unparse(right), args, kwargs, value)


def literal(node: ast.expr) -> Any:
    """The value of a literal, or of set(), tuple([...]) and their like over one; nothing is ever evaluated.

    Raises ValueError for anything else.
    """
    match node:
        case ast.Call(func=ast.Name(id=name), args=[], keywords=[]) if name in _CONSTRUCTORS:
            return _CONSTRUCTORS[name]()
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in _CONSTRUCTORS:
            return _CONSTRUCTORS[name](literal(inner))
    return ast.literal_eval(node)


def got(outcome: dict) -> str:
    """What a call gave, for a reader: the value's repr, or the exception, or how the program ended."""
    if "value" in outcome:
        return outcome["value"]
    named = {"cpu": "no answer in time", "wall": "no answer in time", "crashed": "the program ended early"}
    if outcome["error"] in named:
        return named[outcome["error"]]
    return f"{outcome['error']}: {outcome['message']}" if outcome["message"] else outcome["error"]


def label(rights: list[bool], *, needed: float = 1.0) -> str:
    """A suite's verdict on a program: positive where at least the share `needed` of its tests pass, else negative.

    "none" where there is no test: such a program is never called positive.
    """
    if not rights:
        return "none"
    return "positive" if sum(rights) >= needed * len(rights) else "negative"


def quality(table: pd.DataFrame) -> pd.DataFrame:
    """Per problem: tests, valid inputs, right outputs, and whether the whole suite is right.

    `table` has a row a test: unit (the problem), runs and right, both of the reference solution.
    """
    by = table.groupby("unit", sort=False)
    found = pd.DataFrame({"tests": by.size(), "valid": by["runs"].sum(), "right": by["right"].sum()})
    return found.assign(suite=found["tests"] == found["right"]).reset_index()


def moved(tests: list[Test]) -> list[Test]:
    """The tests with each expected value moved on to the next one."""
    return [
        replace(t, expected=n.expected, value=n.value) for t, n in zip(tests, [*tests[1:], *tests[:1]], strict=True)
    ]
