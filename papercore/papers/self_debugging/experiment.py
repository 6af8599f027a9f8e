"""What the notebook calls: the answers, what running them told, and each claim's samples.

Samples are zeros and ones by problem (pass@1 of one greedy program), unless said otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources

import numpy as np
import pandas as pd

from papercore.papers.self_debugging import debugging, generation, mutation, selftests
from papercore.papers.self_debugging.debugging import Arm, Bench, Facts
from papercore.papers.self_debugging.generation import Decoding, Store
from papercore.papers.self_debugging.problems import HUMANEVAL, load
from papercore.papers.self_debugging.sandbox import Isolation, Sandbox, SandboxError, isolation
from papercore.papers.self_debugging.selftests import Suite

COMPETITIVE, BASIC = "GPT-4o, LiveCodeBench", "GPT-4o, HumanEval"
N_PAPER = 10  # tests of the paper's suites


@dataclass
class Opened:
    """What a run works with: the bench, and why programs do not run in it (empty: they do)."""

    bench: Bench
    isolation: Isolation
    reason: str
    warning: str = ""


def decodings(p) -> dict[str, Decoding]:
    """How long each stage's answers may get; in-execution answers hold an explanation with code in it, so no stop."""
    short = {stage: Decoding(p.code_tokens) for stage in ("code", "wrong", "retry", "detail")}
    return short | {"tests": Decoding(p.test_tokens), "inspect": Decoding(p.inspect_tokens, ())}


def backend(p) -> generation.Backend:
    """The model, here or at an endpoint."""
    if p.endpoint:
        from papercore.models.endpoint import Endpoint

        return generation.Remote(Endpoint(p.endpoint, p.endpoint_model))
    from papercore.models import load_model

    return generation.Local(load_model(p.model, device=p.device, dtype=p.dtype))


def sandbox(p) -> tuple[Sandbox | None, str, str]:
    """The sandbox, or None and why not; and the warning that goes with it."""
    if not p.allow_code_execution:
        return None, "allow_code_execution is False", ""
    try:
        made = Sandbox(allow_unsandboxed=p.allow_unsandboxed)
    except SandboxError as error:
        return None, f"no isolation: {error}", ""
    warning = "" if made.level == "full" else f"programs of a model ran at isolation {made.level}: {isolation().why}"
    return made, "", warning


def open_bench(p, *, store: Store | None = None, facts: Facts | None = None, progress=None) -> Opened:
    """Sandbox, problems, model and memory; whatever cannot work is said before anything is generated."""
    box, reason, warning = sandbox(p)
    if box is None and p.source == "live":
        raise SandboxError(f"source = 'live' needs to run programs, and {reason}")
    problems = load(p.n_problems, p.problems_file or HUMANEVAL)
    if p.source == "recorded":
        store, facts = store or Store(recorded("generations"), closed=True), facts or Facts(recorded("facts"))
    bench = Bench(problems, backend(p), store or Store(), facts or Facts(), box, p.batch, decodings(p), progress)
    return Opened(bench, isolation(), reason, warning)


def recorded(name: str) -> pd.DataFrame:
    """A table of the recording: generations, facts."""
    with (resources.files(__package__) / "recorded" / f"{name}.parquet").open("rb") as file:
        return pd.read_parquet(file)


def recipe() -> dict:
    """How, where and in how long the recording was made."""
    return json.loads((resources.files(__package__) / "recorded" / "recipe.json").read_text(encoding="utf-8"))


@dataclass
class Run:
    """One run's programs, suites and verdicts; every table has a row a problem, in the problems' order."""

    bench: Bench
    seed: int
    n_mutants: int
    first: dict[str, str | None]
    suites: dict[str, Suite]
    arms: dict[str, Arm]
    cache: dict = field(default_factory=dict)

    @property
    def units(self) -> list[str]:
        """Names of the problems."""
        return [problem.task_id for problem in self.bench.problems]

    @cached_property
    def passes(self) -> pd.DataFrame:
        """Whether each arm's last program passes, and those of the arms that follow from them."""
        found = pd.DataFrame({name: debugging.passed(self.bench, arm.programs) for name, arm in self.arms.items()})
        found = found.loc[self.units].astype(float)
        return found

    @cached_property
    def results(self) -> dict[str, list[dict]]:
        """What each first program gives on its own tests."""
        return debugging.own_results(self.bench, self.suites, self.first)

    @cached_property
    def labels(self) -> pd.Series:
        """positive, negative or none of each first program; one that is not there is none."""
        return pd.Series(debugging.labels(self.results)).loc[self.units]

    @cached_property
    def sent_back(self) -> np.ndarray:
        """Whether label feedback sent the first program back, (n_problems,)."""
        return np.array([self.labels[u] == "negative" for u in self.units])

    @cached_property
    def majority(self) -> np.ndarray:
        """Whether more than half of its own tests failed, (n_problems,)."""
        found = debugging.labels(self.results, needed=0.5)
        return np.array([found[u] == "negative" for u in self.units])

    @cached_property
    def reference(self) -> pd.DataFrame:
        """A row a written test, run on the reference: unit, copied, runs, right, got, call, expected."""
        pairs = [(problem.task_id, problem.canonical) for problem in self.bench.problems]
        rows = []
        for unit, told in zip(self.units, self.bench.judged(self.suites, pairs), strict=True):
            own = len(self.suites[unit].tests)
            tests = self.suites[unit].tests + self.suites[unit].copied
            for n, (test, one) in enumerate(zip(tests, told, strict=True)):
                rows.append({"unit": unit, "copied": n >= own, **one, "call": test.call, "expected": test.expected})
        return pd.DataFrame(rows, columns=["unit", "copied", "runs", "right", "got", "call", "expected"])

    @cached_property
    def quality(self) -> pd.DataFrame:
        """Problems with own tests: how many, how many with a valid input, how many right, and whether all are."""
        return selftests.quality(self.reference[~self.reference["copied"]])

    @cached_property
    def mutants(self) -> dict[str, list[str]]:
        """Wrong programs of each problem: mutants of the reference that fail the problem's tests."""
        pairs = [(p.task_id, m) for p in self.bench.problems for m in mutation.mutants(p, self.n_mutants)]
        found: dict[str, list[str]] = {unit: [] for unit in self.units}
        for (unit, program), told in zip(pairs, self.bench.verdicts(pairs), strict=True):
            if not told["passed"]:
                found[unit].append(program)
        return found

    @cached_property
    def caught(self) -> list[np.ndarray]:
        """For each problem with wrong mutants and true tests, (n_mutants, n_tests): whether a mutant fails a test."""
        asked = []
        for problem in self.bench.problems:
            if tests := mutation.true_tests(problem):
                asked += [(problem.task_id, program, tests) for program in self.mutants[problem.task_id]]
        by_unit: dict[str, list] = {}
        for (unit, _, _), told in zip(asked, self.bench.tried(asked), strict=True):
            by_unit.setdefault(unit, []).append([not one["right"] for one in told])
        return [np.array(rows) for rows in by_unit.values()]


def run(opened: Opened, p) -> Run:
    """Programs, suites and every arm, from the recording or made now."""
    bench = opened.bench
    first = debugging.write_code(bench)
    suites = debugging.write_tests(bench, p.n_tests)
    arms = debugging.debug(bench, suites, first, p.arms, p.rounds)
    return Run(bench, p.seed, p.mutants, first, suites, arms)


def column(r: Run, values) -> pd.DataFrame:
    """Values in the problems' order as an arm's samples."""
    return pd.DataFrame({"unit": r.units, "value": np.asarray(values, dtype=float)})


# --- the arms -----------------------------------------------------------------------------------------------------


def replaced(r: Run, chosen: np.ndarray, arm: str) -> np.ndarray:
    """Passes when the chosen problems have the arm's program and the others the first one, (n_problems,)."""
    return np.where(chosen, r.passes[arm], r.passes["none"])


def chance(r: Run, among: np.ndarray, size: int, arm: str) -> np.ndarray:
    """Mean passes over all choices of `size` of the problems in `among`, which then have the arm's program."""
    share = size / among.sum() if among.any() else 0.0
    gain = r.passes[arm] - r.passes["none"]
    return np.asarray(r.passes["none"] + np.where(among, share * gain, 0.0))


def one_choice(r: Run, among: np.ndarray, size: int, arm: str) -> np.ndarray:
    """Passes for one such choice, drawn by the run's seed."""
    rng = np.random.default_rng([r.seed, 81])
    chosen = np.zeros(len(among), dtype=bool)
    chosen[rng.choice(np.flatnonzero(among), size, replace=False)] = True
    return replaced(r, chosen, arm)


def there(r: Run) -> np.ndarray:
    """Whether the model wrote a first program, (n_problems,)."""
    return np.array([r.first[unit] is not None for unit in r.units])


def claim_arms(r: Run) -> dict[str, dict[str, pd.DataFrame]]:
    """Samples of C1, C2, C3, C4, C7, C8 and of the questions about own tests, by claim."""
    of = {name: column(r, r.passes[name]) for name in r.passes}
    second = column(r, replaced(r, r.sent_back, "retry"))
    wrong_ones = int((there(r) & (r.passes["none"] == 0)).sum())
    negative = int(r.sent_back.sum())
    loss = {name: column(r, r.passes["none"] - r.passes[name]) for name in ("label", "detail")}
    second_loss = column(r, r.passes["none"] - second["value"].to_numpy())
    label_choice = column(r, chance(r, there(r), negative, "told_wrong"))
    majority = column(r, replaced(r, r.majority, "told_wrong"))
    return {
        "C1": {
            "oracle": of["oracle"],
            "none": of["none"],
            "control": column(r, chance(r, there(r), wrong_ones, "told_wrong")),
        },
        "C2_label": {"label_loss": loss["label"], "control": second_loss},
        "C2_detail": {"detail_loss": loss["detail"], "control": second_loss},
        "C3": {"label": of["label"], "none": of["none"], "control": second},
        "C4": {"label": of["label"], "detail": of["detail"], "control": second},
        "C7": {"in_execution": of["in_execution"], "none": of["none"], "control": of["retry"]},
        "C8": {"in_execution": of["in_execution"], "label": of["label"], "control": of["retry"]},
        "A_information": {
            "label": of["label"],
            "random_choice": label_choice,
            "control": column(r, one_choice(r, there(r), negative, "told_wrong")),
        },
        "A_told_wrong": {"label": of["label"], "told_wrong": of["told_wrong"], "control": label_choice},
        "A_majority": {
            "majority": majority,
            "label": column(r, replaced(r, r.sent_back, "told_wrong")),
            "control": column(r, chance(r, r.sent_back, int(r.majority.sum()), "told_wrong")),
        },
        "A_agreement": agreement(r),
    }


def agreement(r: Run) -> dict[str, pd.DataFrame]:
    """CodeT's choice among the arms' programs of each problem, and a random one.

    Programs that pass the same own tests agree; a group's score is its distinct programs times those tests (Chen et al.
    2022, dual execution agreement, with each arm's answer as a sample). The first program wins a tie.
    """
    pool = {
        unit: list(dict.fromkeys(a.programs[unit] for a in r.arms.values() if a.programs[unit] is not None))
        for unit in r.units
    }
    pairs = [(unit, program) for unit in r.units for program in pool[unit]]
    told = dict(zip(pairs, r.bench.judged(r.suites, pairs), strict=True))
    right = dict(zip(pairs, (v["passed"] for v in r.bench.verdicts(pairs)), strict=True))
    chosen, random = [], []
    for unit in r.units:
        groups: dict[tuple[bool, ...], list[str]] = {}
        for program in pool[unit]:
            key = tuple(one["right"] for one in told[unit, program][: len(r.suites[unit].tests)])
            groups.setdefault(key, []).append(program)
        best = max(groups.items(), key=lambda group: len(group[1]) * sum(group[0]), default=((), []))[1]
        chosen.append(float(right[unit, best[0]]) if best else 0.0)
        random.append(np.mean([right[unit, program] for program in pool[unit]]) if pool[unit] else 0.0)
    return {"agreement": column(r, chosen), "none": column(r, r.passes["none"]), "control": column(r, random)}


def outcomes(r: Run) -> pd.DataFrame:
    """A row an arm: programs sent back, answers without a program, unchanged, fixed, broken, net, exact McNemar p."""
    from scipy.stats import binomtest

    rows = []
    for name, arm in r.arms.items():
        before, after = r.passes["none"], r.passes[name]
        fixed, broken = int(((before == 0) & (after == 1)).sum()), int(((before == 1) & (after == 0)).sum())
        same = sum(arm.programs[unit] == r.first[unit] for unit in arm.asked) - len(arm.silent)
        p = binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
        row = {"arm": name, "pass@1": after.mean(), "sent back": len(arm.asked), "no program": len(arm.silent)}
        rows.append(row | {"unchanged": same, "fixed": fixed, "broken": broken, "net": fixed - broken, "McNemar p": p})
    return pd.DataFrame(rows)


# --- test quality and labels --------------------------------------------------------------------------------------


def claim_quality(r: Run) -> dict[str, dict]:
    """Samples of C5_inputs, C5_outputs, C5_suites and C5_order, of problems with own tests."""
    q = r.quality
    by_id, units = r.bench.by_id, list(q["unit"])

    def arm(values, names=None) -> pd.DataFrame:
        return pd.DataFrame({"unit": q["unit"] if names is None else names, "value": np.asarray(values, dtype=float)})

    nexts = [(u, by_id[u].canonical, r.suites[v].tests) for u, v in zip(units, [*units[1:], units[0]], strict=True)]
    swapped = [[one["runs"] for one in told] for told in r.bench.tried(nexts)]
    # As many tests as the problem has itself, so that both arms weigh a problem alike.
    swapped = [q["tests"][i] * np.mean(runs) for i, runs in enumerate(swapped)]
    moved = [(u, by_id[u].canonical, selftests.moved(r.suites[u].tests)) for u in units]
    moved_right = [all(one["right"] for one in told) for told in r.bench.tried(moved)]
    copied = selftests.quality(r.reference[r.reference["copied"]])
    shares = {"inputs": q["valid"] / q["tests"], "outputs": q["right"] / q["tests"], "suites": q["suite"]}
    mixed = np.random.default_rng([r.seed, 82]).permuted(
        np.stack([np.asarray(s, float) for s in shares.values()], 1), axis=1
    )
    return {
        "C5_inputs": {"valid": arm(q["valid"]), "tests": arm(q["tests"]), "control": arm(swapped)},
        "C5_outputs": {
            "own": arm((q["valid"] - q["right"]) / q["tests"]),
            "control": arm((copied["valid"] - copied["right"]) / copied["tests"], copied["unit"]),
        },
        "C5_suites": {"suite": arm(q["suite"]), "control": arm(moved_right)},
        "C5_order": {
            **{name: arm(values) for name, values in shares.items()},
            "control": {name: arm(mixed[:, i]) for i, name in enumerate(shares)},
        },
    }


def confusion(r: Run) -> pd.DataFrame:
    """Counts of first programs by the problem's tests (rows) and by their own (columns); `none`: no label."""
    right = np.where(r.passes["none"] == 1, "right", "wrong")
    found = pd.crosstab(right, r.labels.to_numpy())
    return found.reindex(index=["right", "wrong"], columns=["positive", "negative", "none"], fill_value=0)


def sensitivity(r: Run) -> pd.Series:
    """Share of each problem's wrong mutants that its own tests call wrong; problems with tests and mutants only."""
    pairs = [(unit, m) for unit in r.units if r.suites[unit].tests for m in r.mutants[unit]]
    told = r.bench.judged(r.suites, pairs)
    negative: dict[str, list[bool]] = {}
    for (unit, _), found in zip(pairs, told, strict=True):
        negative.setdefault(unit, []).append(not all(one["right"] for one in found[: len(r.suites[unit].tests)]))
    return pd.Series({unit: np.mean(values) for unit, values in negative.items()})


def claim_labels(r: Run, tables) -> dict[str, dict]:
    """Samples of C6 and A11, of problems whose first program has a label."""
    kept = np.array([r.labels[unit] != "none" for unit in r.units])
    right, negative = (r.passes["none"] == 1).to_numpy()[kept], r.sent_back[kept]
    names = np.array(r.units)[kept]

    def arm(values) -> pd.DataFrame:
        return pd.DataFrame({"unit": names, "value": np.asarray(values, dtype=float)})

    rng = np.random.default_rng([r.seed, 83])
    # The mean over many deals of the labels: a problem's label is that of another one, drawn at random.
    dealt = np.mean([np.where(right, 1.0, -1.0) * rng.permutation(negative) for _ in range(200)], axis=0)
    tn = arm(~right & negative)
    suite = r.quality.set_index("unit")["suite"].reindex(names).to_numpy(float)
    s, base = sensitivity(r).mean(), right.mean()
    predicted = base * (1 - suite) - (1 - base) * s
    other = tables["base_rates"].frame().loc[BASIC, "p"]
    return {
        "C6": {
            "false_negative": arm(right & negative),
            "true_negative": tn,
            "control": arm(dealt + tn["value"].to_numpy()),
        },
        "A11": {
            "predicted": arm(predicted),
            "measured": arm((right & negative).astype(float) - (~right & negative)),
            "control": arm(other * (1 - suite) - (1 - other) * s),
        },
    }


def claim_copied(r: Run) -> dict[str, pd.DataFrame]:
    """Samples of C4_copied: problems where detail feedback showed a test that the reference fails; may be empty."""
    reference = r.reference[~r.reference["copied"]].groupby("unit", sort=False)["right"].apply(list)
    shown = {}
    for unit in r.units:
        if r.labels[unit] == "negative":
            first = next(n for n, one in enumerate(r.results[unit]) if not one["right"])
            if not reference[unit][first]:
                shown[unit] = first
    found = {}
    for name, arm in (("detail", "detail"), ("label", "label"), ("control", "retry")):
        told = debugging.own_results(r.bench, r.suites, {unit: r.arms[arm].programs[unit] for unit in shown})
        values = [float(bool(told[unit]) and told[unit][n]["right"]) for unit, n in shown.items()]
        found[name] = pd.DataFrame({"unit": list(shown), "value": values})
    return found


# --- without a model ----------------------------------------------------------------------------------------------


def claim_simulated(r: Run, p, tables) -> dict[str, pd.DataFrame]:
    """Samples of C3_simulated: true minus false negatives of each problem, over draws, at two base rates."""
    rates = tables["base_rates"].frame()["p"]
    suite = tables["test_quality"].frame().loc["GPT-4o", "suites"]
    noise = 1 - suite ** (1 / N_PAPER)
    found = {}
    for name, base in (("competitive", rates[COMPETITIVE]), ("control", rates[BASIC])):
        cells = mutation.simulate(r.caught, base=base, noise=noise, n_tests=N_PAPER, draws=p.draws, seed=p.seed)
        found[name] = pd.DataFrame({"value": (cells.tn.astype(float) - cells.fn).mean(axis=0)})
    return found


def noise_curve(r: Run, p) -> pd.DataFrame:
    """Share of suites that stay right by length and share of wrong values: simulated, and (1 - e)^n."""
    rows = []
    for noise in p.noise:
        for n in range(1, 13):
            cells = mutation.simulate(r.caught, base=1.0, noise=noise, n_tests=n, draws=p.draws, seed=p.seed)
            rows.append((noise, n, cells.suite_right.mean(), (1 - noise) ** n))
    return pd.DataFrame(rows, columns=["noise", "tests", "simulated", "formula"])


def base_rate_curve(r: Run, p, tables) -> pd.DataFrame:
    """Shares of false and true negatives by base rate, simulated with suites as good as the paper's GPT-4o's."""
    suite = tables["test_quality"].frame().loc["GPT-4o", "suites"]
    rows = []
    for base in np.linspace(0, 1, 21):
        cells = mutation.simulate(
            r.caught, base=base, noise=1 - suite ** (1 / N_PAPER), n_tests=N_PAPER, draws=p.draws, seed=p.seed
        )
        s = cells.tn.sum() / max((cells.tn | cells.fp).sum(), 1)
        rows.append((base, cells.fn.mean(), cells.tn.mean(), base * (1 - suite), (1 - base) * s))
    return pd.DataFrame(rows, columns=["base", "fn", "tn", "fn_formula", "tn_formula"])


def samples(r: Run, p) -> dict[str, dict]:
    """Samples of every claim that the recording carries, by claim."""
    from papercore.study import rooms

    tables = rooms.claims("self_debugging").tables
    found = {**claim_arms(r), **claim_quality(r), **claim_labels(r, tables), "C4_copied": claim_copied(r)}
    return found | {"C3_simulated": claim_simulated(r, p, tables)}


# --- made again ---------------------------------------------------------------------------------------------------


def remade(opened: Opened, p, progress: Callable[[str], None] | None = None) -> pd.DataFrame:
    """One recorded batch of each stage in `remade`, made again: stage, unit, recorded, live. Empty where none fits."""
    bench, rows = opened.bench, []
    rng = np.random.default_rng([p.seed, 84])
    asked = _asked(opened, p)
    for stage in p.remade:
        units = [unit for unit, _ in asked[stage]]
        batches = generation.plan(bench.backend, [talk for _, talk in asked[stage]], bench.decodings[stage], bench.size)
        fitting = [batch for batch in batches if len(batch) <= p.remade_rows]
        if not fitting:
            continue
        batch = fitting[int(rng.integers(len(fitting)))]
        if progress:
            progress(f"{stage}: {len(batch)} answers of {batch[0].shape[1]} tokens and more")
        for row in generation.made(bench.backend, stage, units, batch, bench.decodings[stage]):
            rows.append((stage, row["unit"], bench.store[row["key"]], row["answer"]))
    return pd.DataFrame(rows, columns=["stage", "unit", "recorded", "live"])


def _asked(opened: Opened, p) -> dict[str, list]:
    """(unit, talk) of each stage, as the recorded run asked them in its first round."""
    bench, found = opened.bench, {}

    class Listening(Bench):
        def ask(self, stage, asked):
            found.setdefault(stage, list(asked))
            return super().ask(stage, asked)

    same = (bench.problems, bench.backend, bench.store, bench.facts, bench.sandbox, bench.size, bench.decodings)
    listening = Listening(*same)
    first = debugging.write_code(listening)
    debugging.debug(listening, debugging.write_tests(listening, p.n_tests), first, p.arms, 1)
    return found


def claim_answers(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Samples of R_answers."""
    units = table["stage"] + " " + table["unit"]
    live, kept = table["live"].to_numpy(), table["recorded"].to_numpy()
    return {
        "same": pd.DataFrame({"unit": units, "value": (live == kept).astype(float)}),
        "control": pd.DataFrame({"unit": units, "value": (live == np.roll(kept, -1)).astype(float)}),
    }


def executed(opened: Opened, r: Run, n: int, seed: int) -> pd.DataFrame:
    """Recorded programs of n problems, drawn by the seed, run again: unit, program, recorded, live (passed or not)."""
    bench, rng = opened.bench, np.random.default_rng([seed, 85])
    chosen = {r.units[i] for i in rng.choice(len(r.units), min(n, len(r.units)), replace=False)}
    pairs = [(u, a.programs[u]) for a in r.arms.values() for u in r.units if u in chosen and a.programs[u] is not None]
    pairs += [(p.task_id, m) for p in bench.problems if p.task_id in chosen for m in mutation.mutants(p, r.n_mutants)]
    pairs = list(dict.fromkeys(pairs))
    fresh = Bench(bench.problems, bench.backend, bench.store, Facts(), bench.sandbox, bench.size, bench.decodings)
    rows = zip(pairs, bench.verdicts(pairs), fresh.verdicts(pairs), strict=True)
    kept = [(unit, debugging.digest(program), old["passed"], new["passed"]) for (unit, program), old, new in rows]
    return pd.DataFrame(kept, columns=["unit", "program", "recorded", "live"])


def claim_verdicts(table: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Samples of R_verdicts."""
    units = table["unit"] + " " + table["program"]
    live, kept = table["live"].to_numpy(), table["recorded"].to_numpy()
    other = np.random.default_rng([seed, 86]).permutation(kept)
    return {
        "same": pd.DataFrame({"unit": units, "value": (live == kept).astype(float)}),
        "control": pd.DataFrame({"unit": units, "value": (live == other).astype(float)}),
    }
