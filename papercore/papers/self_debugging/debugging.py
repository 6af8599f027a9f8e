"""The arms: who is told that a program is wrong, what he is told, and what becomes of the program.

A bench puts an arm's questions to the model and to the sandbox, and remembers each answer by what it follows from; so a
recorded run is the same code with the memory filled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from papercore.papers.self_debugging import generation, prompts, selftests, tracer
from papercore.papers.self_debugging.generation import Backend, Decoding, Store
from papercore.papers.self_debugging.problems import Problem
from papercore.papers.self_debugging.sandbox import Sandbox
from papercore.papers.self_debugging.selftests import Suite, Test

REVISIONS = ("wrong", "retry", "detail", "inspect")
FACTS = ["unit", "program", "what", "said"]
WORKERS = 2  # sandboxes at once


class MissingError(LookupError):
    """Something that only running a program can tell, and no program may run."""


class Facts:
    """What running programs told, by problem, program and question; as rows of FACTS, `said` in JSON."""

    def __init__(self, kept: pd.DataFrame | None = None, file: Path | None = None):
        self.file = file
        table = pd.DataFrame(columns=FACTS) if kept is None else kept
        if file is not None and file.is_file():
            table = pd.concat([table, pd.read_parquet(file)])
        self._known = {(u, p, w): said for u, p, w, said in table[FACTS].itertuples(index=False)}

    def get(self, unit: str, program: str, what: str):
        """The fact, or None."""
        said = self._known.get((unit, digest(program), what))
        return None if said is None else json.loads(said)

    def add(self, unit: str, program: str, what: str, fact) -> None:
        """Remember it."""
        self._known[unit, digest(program), what] = json.dumps(fact)

    def save(self) -> None:
        """Write the file, if there is one."""
        if self.file is not None:
            part = self.file.with_name(f"{self.file.name}.part")
            self.table.to_parquet(part, index=False, compression="zstd")
            part.replace(self.file)

    @property
    def table(self) -> pd.DataFrame:
        """Every fact."""
        return pd.DataFrame([(*key, said) for key, said in self._known.items()], columns=FACTS)


def digest(program: str) -> str:
    """A program's name: the beginning of its sha256."""
    return hashlib.sha256(program.encode()).hexdigest()[:20]


@dataclass
class Bench:
    """Problems with a model, its answers, a sandbox (None: programs may not run) and what running told."""

    problems: list[Problem]
    backend: Backend
    store: Store
    facts: Facts
    sandbox: Sandbox | None
    size: int
    decodings: dict[str, Decoding]
    progress: Callable[[str], None] | None = None
    by_id: dict[str, Problem] = field(init=False)

    def __post_init__(self):
        self.by_id = {problem.task_id: problem for problem in self.problems}

    def ask(self, stage: str, asked: Sequence[tuple[str, prompts.Talk]]) -> list[str]:
        """The model's answers."""
        how = {"size": self.size, "store": self.store, "progress": self.progress}
        return generation.answers(self.backend, stage, asked, self.decodings[stage], **how)

    def verdicts(self, programs: Sequence[tuple[str, str]]) -> list[dict]:
        """{"passed", "end", "detail"} of each (unit, program) under the problem's own tests."""

        def run(unit: str, program: str):
            problem = self.by_id[unit]
            ran = self.sandbox.check(program, problem.entry_point, problem.check)
            return {"passed": ran.passed, "end": ran.end, "detail": ran.detail}

        return self._told("verdict", [(*one, "") for one in programs], run)

    def judged(self, suites: dict[str, Suite], programs: Sequence[tuple[str, str]]) -> list[list[dict]]:
        """What each (unit, program) gives on its suite, copied tests after the own ones: right, runs, got."""
        return self.tried([(unit, program, suites[unit].tests + suites[unit].copied) for unit, program in programs])

    def tried(self, programs: Sequence[tuple[str, str, list[Test]]]) -> list[list[dict]]:
        """What each (unit, program) gives on a list of tests: right, runs, got."""
        tests = {(unit, program, _calls(given)): given for unit, program, given in programs}

        def run(unit: str, program: str, asked: str):
            given = [test.packed for test in tests[unit, program, asked]]
            ran = self.sandbox.calls(program, self.by_id[unit].entry_point, given) if given else []
            return [{"right": bool(o.get("right")), "runs": "value" in o, "got": selftests.got(o)} for o in ran]

        return self._told("tests", [(unit, program, _calls(given)) for unit, program, given in programs], run)

    def traces(self, calls: Sequence[tuple[str, str, Test]]) -> list[dict]:
        """The block states of each (unit, program) on a test's input."""
        wanted = {(unit, program, _calls([test])): test for unit, program, test in calls}

        def run(unit: str, program: str, asked: str):
            test = wanted[unit, program, asked]
            return self.sandbox.trace(program, self.by_id[unit].entry_point, {"args": test.args, "kwargs": test.kwargs})

        return self._told("trace", list(wanted), run)

    def _told(self, what: str, asked: Sequence[tuple[str, str, str]], run: Callable) -> list:
        """Each fact about (unit, program, what it was given), found out where it is not known."""

        def key(one):
            return one[0], one[1], f"{what} {digest(one[2])}" if one[2] else what

        missing = [one for one in dict.fromkeys(asked) if self.facts.get(*key(one)) is None]
        if missing and self.sandbox is None:
            raise MissingError(f"nothing is recorded of {len(missing)} programs ({what}, {missing[0][0]} first)")
        if missing:
            arguments = [one if one[2] else one[:2] for one in missing]
            with ThreadPoolExecutor(WORKERS) as pool:
                for one, fact in zip(missing, pool.map(lambda given: run(*given), arguments), strict=True):
                    self.facts.add(*key(one), fact)
            self.facts.save()
        return [self.facts.get(*key(one)) for one in asked]


def _calls(tests: list[Test]) -> str:
    """What tests say, as text: a fact about other tests is another fact."""
    return "\n".join(f"{test.call} == {test.expected}" for test in tests) or "nothing"


@dataclass
class Arm:
    """One arm's programs by problem, and what happened in its last round.

    programs: source, or None where the model gave none. asked: problems whose program was sent back. silent: those
    where the answer held no program, so that the old one stayed.
    """

    name: str
    programs: dict[str, str | None]
    asked: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


def write_code(bench: Bench) -> dict[str, str | None]:
    """The first program of each problem."""
    texts = bench.ask("code", [(p.task_id, prompts.code(p)) for p in bench.problems])
    return {p.task_id: _program(bench, p, text) for p, text in zip(bench.problems, texts, strict=True)}


def write_tests(bench: Bench, n: int) -> dict[str, Suite]:
    """The suite of each problem, written without seeing a program."""
    texts = bench.ask("tests", [(p.task_id, prompts.tests(p, n)) for p in bench.problems])
    how = {"continued": bench.backend.continues}
    return {p.task_id: selftests.parse(p, text, n, **how) for p, text in zip(bench.problems, texts, strict=True)}


def _program(bench: Bench, problem: Problem, text: str, *, free: bool = False) -> str | None:
    return prompts.program(problem, text, continued=bench.backend.continues and not free)


def passed(bench: Bench, programs: dict[str, str | None]) -> dict[str, bool]:
    """Whether each problem's program passes the problem's tests; one without a program does not."""
    there = [(unit, program) for unit, program in programs.items() if program is not None]
    told = dict(zip((unit for unit, _ in there), bench.verdicts(there), strict=True))
    return {unit: unit in told and told[unit]["passed"] for unit in programs}


def own_results(bench: Bench, suites: dict[str, Suite], programs: dict[str, str | None]) -> dict[str, list[dict]]:
    """What each program gives on its problem's own tests, copied ones left out; [] without program or test."""
    there = [(unit, program) for unit, program in programs.items() if program is not None]
    told = dict(zip((unit for unit, _ in there), bench.judged(suites, there), strict=True))
    return {unit: told.get(unit, [])[: len(suites[unit].tests)] for unit in programs}


def labels(results: dict[str, list[dict]], *, needed: float = 1.0) -> dict[str, str]:
    """positive, negative or none (no own test) of each problem."""
    return {unit: selftests.label([one["right"] for one in found], needed=needed) for unit, found in results.items()}


def debug(bench: Bench, suites: dict[str, Suite], first: dict[str, str | None], names: Sequence[str], rounds: int):
    """Every arm after `rounds` rounds, {name: Arm}; `none` is the first programs.

    In each round an arm sends programs back, and the answers take their place. The tests of a suite are run again on
    what came out, and what passes them is never sent back by label and detail; oracle asks the problem's own tests
    instead. One question that several arms ask is asked once: "wrong" is the same words whoever found the fault.
    """
    arms = {name: Arm(name, dict(first)) for name in dict.fromkeys(["none", *names])}
    order = {problem.task_id: place for place, problem in enumerate(bench.problems)}
    for _ in range(rounds):
        wanted = {name: _wanted(bench, suites, arm) for name, arm in arms.items()}
        everything = {question: talk for found in wanted.values() for question, talk in found.items()}
        answers: dict[Question, str | None] = {}
        for stage in REVISIONS:
            asked = sorted((q for q in everything if q.stage == stage), key=lambda q: (order[q.unit], q.program))
            texts = bench.ask(stage, [(q.unit, everything[q]) for q in asked])
            for q, text in zip(asked, texts, strict=True):
                answers[q] = _program(bench, bench.by_id[q.unit], text, free=stage == "inspect")
        for name, arm in arms.items():
            arm.asked = [q.unit for q in wanted[name]]
            arm.silent = [q.unit for q in wanted[name] if answers[q] is None]
            arm.programs |= {q.unit: answers[q] for q in wanted[name] if answers[q] is not None}
    return arms


@dataclass(frozen=True)
class Question:
    """One program that is sent back in one of the ways of REVISIONS."""

    stage: str
    unit: str
    program: str


def _wanted(bench: Bench, suites: dict[str, Suite], arm: Arm) -> dict[Question, prompts.Talk]:
    """Whom the arm sends back, and what he is told."""
    there = {unit: program for unit, program in arm.programs.items() if program is not None}
    found: dict[Question, prompts.Talk] = {}
    if arm.name in ("told_wrong", "oracle"):
        right = passed(bench, there) if arm.name == "oracle" else {}
        for unit, program in there.items():
            if not right.get(unit):
                found[Question("wrong", unit, program)] = prompts.wrong(bench.by_id[unit], program)
    if arm.name == "retry":
        for unit, program in there.items():
            found[Question("retry", unit, program)] = prompts.retry(bench.by_id[unit], program)
    if arm.name in ("label", "detail"):
        results = own_results(bench, suites, there)
        for unit, label in labels(results).items():
            if label == "negative" and arm.name == "label":
                found[Question("wrong", unit, there[unit])] = prompts.wrong(bench.by_id[unit], there[unit])
            if label == "negative" and arm.name == "detail":
                first = next(n for n, one in enumerate(results[unit]) if not one["right"])
                test, got = suites[unit].tests[first], results[unit][first]["got"]
                talk = prompts.detail(bench.by_id[unit], there[unit], test.call, test.expected, got)
                found[Question("detail", unit, there[unit])] = talk
    if arm.name == "in_execution":
        for unit, (call, trace) in watched(bench, suites, there).items():
            talk = prompts.inspect(bench.by_id[unit], there[unit], call, trace)
            found[Question("inspect", unit, there[unit])] = talk
    return found


def watched(bench: Bench, suites: dict[str, Suite], programs: dict[str, str]) -> dict[str, tuple[str, str]]:
    """(call, block trace as text) of each problem whose program runs on the input of one of its own tests; the first.

    Expected values play no part: which input is first depends on whether the program runs on it, and on nothing else.
    """
    results, tests = own_results(bench, suites, programs), {}
    for unit, found in results.items():
        runs = [test for test, one in zip(suites[unit].tests, found, strict=True) if one["runs"]]
        if runs:
            tests[unit] = runs[0]
    calls = [(unit, programs[unit], test) for unit, test in tests.items()]
    traced = dict(zip(tests, bench.traces(calls), strict=True))
    seen = {unit: found for unit, found in traced.items() if found.get("events")}
    name = {unit: bench.by_id[unit].entry_point for unit in seen}
    return {unit: (tests[unit].call, tracer.render(programs[unit], name[unit], found)) for unit, found in seen.items()}
