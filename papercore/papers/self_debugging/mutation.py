"""The part without a model: right programs made wrong by small changes, true tests made wrong by noise, and what labels
from such tests do at each base rate.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from papercore.papers.self_debugging.problems import Problem
from papercore.papers.self_debugging.selftests import Test, read_test

_COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
_COMPUTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv}
_JOINED = {ast.And: ast.Or, ast.Or: ast.And}


def mutants(problem: Problem, most: int) -> list[str]:
    """Up to `most` distinct programs, each the canonical one with one comparison, operator, junction or number changed.

    They are spread over the places that can be changed. Some are as right as the original: only running tells.
    """
    tree = ast.parse(problem.canonical)
    count = sum(1 for _ in _places(tree, problem.entry_point))
    found: dict[str, None] = {}
    for place in range(count):
        changed = copy.deepcopy(tree)
        for number, change in enumerate(_places(changed, problem.entry_point)):
            if number == place:
                change()
                break
        found[ast.unparse(changed) + "\n"] = None
    kept = [source for source in found if source != ast.unparse(tree) + "\n"]
    step = max(len(kept) / most, 1)
    return [kept[int(i * step)] for i in range(min(most, len(kept)))]


def _places(tree: ast.Module, entry_point: str) -> Iterator:
    """A function for each place of the entry point's body that can be changed, which changes it."""
    (entry,) = (node for node in tree.body if getattr(node, "name", None) == entry_point)
    start = 1 if ast.get_docstring(entry) is not None else 0
    for statement in entry.body[start:]:
        for node in ast.walk(statement):
            if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARED:
                yield lambda n=node: n.ops.__setitem__(0, _COMPARED[type(n.ops[0])]())
            elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
                yield lambda n=node: setattr(n, "op", _COMPUTED[type(n.op)]())
            elif isinstance(node, ast.BoolOp):
                yield lambda n=node: setattr(n, "op", _JOINED[type(n.op)]())
            elif isinstance(node, ast.Constant) and type(node.value) is int:
                yield lambda n=node: setattr(n, "value", n.value + 1)


def true_tests(problem: Problem) -> list[Test]:
    """The problem's own tests of the form `candidate(literals) == literal`, once each, named after the entry point."""
    found: dict[str, Test] = {}
    for node in ast.walk(ast.parse(problem.test)):
        if isinstance(node, ast.Assert):
            bare = ast.Assert(test=node.test, msg=None)
            test = read_test(ast.unparse(bare), "candidate")
            if isinstance(test, Test):
                found.setdefault(test.call, test)
    return list(found.values())


@dataclass(frozen=True)
class Cells:
    """Shares of problems by program and label: tp right and positive, fn right and negative, fp wrong and positive, tn
    wrong and negative; (n_draws, n_problems) each, zeros and ones.
    """

    tp: np.ndarray
    fn: np.ndarray
    fp: np.ndarray
    tn: np.ndarray
    suite_right: np.ndarray  # whether no test of the suite was made wrong


def simulate(caught: list[np.ndarray], *, base: float, noise: float, n_tests: int, draws: int, seed: int) -> Cells:
    """Labels of right and wrong programs under suites whose expected values are wrong at random.

    caught: for each problem, (n_mutants, n_true_tests) of whether a wrong program fails a test. In each draw a
    problem's program is right with probability `base`, else one of its mutants; its suite is n_tests of its true tests,
    with replacement, each expected value wrong with probability `noise`; a wrong one fails every program. The label is
    negative where any test fails.
    """
    rng = np.random.default_rng([seed, 8])
    n = len(caught)
    right = rng.random((draws, n)) < base
    bad = rng.random((draws, n, n_tests)) < noise
    fails = bad.any(axis=2)
    suite_right = ~fails
    for place, matrix in enumerate(caught):
        which = rng.integers(len(matrix), size=draws)
        tests = rng.integers(matrix.shape[1], size=(draws, n_tests))
        seen = matrix[which[:, None], tests].any(axis=1)
        fails[:, place] |= seen & ~right[:, place]
    return Cells(right & ~fails, right & fails, ~right & ~fails, ~right & fails, suite_right)


def threshold(sensitivity: float, suite: float) -> float:
    """The base rate above which false negatives outnumber true ones: p / (1 - p) = s / (1 - q).

    sensitivity s: share of wrong programs labelled negative; suite q: share of right ones labelled positive. From
    fn = p (1 - q) and tn = (1 - p) s.
    """
    if sensitivity + 1 - suite == 0:
        return 1.0
    return sensitivity / (sensitivity + 1 - suite)
