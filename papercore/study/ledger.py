"""The ledger: rows from samples, written, read, checked and recomputed. Floor: study."""

from __future__ import annotations

import hashlib
import json
import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from papercore.study import claims as claims_schema
from papercore.study import rooms, samples, verdicts
from papercore.study.claims import Claim, ClaimsError
from papercore.study.statistics import SampleError

RELATIVE = 1e-6
_NUMBERS = ("statistic", "interval")


class LedgerError(ValueError):
    """A ledger is missing, or does not fit its schema."""


def row(claim: Claim, rows: pd.DataFrame | None, profile: str, *, recorded: bool = False) -> dict:
    """One claim's ledger row from its stored samples; without samples the verdict is untested, with the reason."""
    out: dict[str, Any] = {
        "id": claim.id,
        "says": claim.says,
        "kind": claim.kind,
        "reported": claim.reported.model_dump(exclude_defaults=True),
        "rule": _rule(claim),
        "statistic": None,
        "interval": None,
        "n": None,
        "unit": claim.test.unit,
        "seeds": None,
        "control": {"arm": claim.control.arm, "expect": claim.control.expect}
        | dict.fromkeys(("statistic", "interval", "outcome")),
        "outcome": None,
        "verdict": "untested",
        "reason": "not reached" if profile in ("smoke", *claim.profiles) else "not at this profile",
        "recorded": recorded,
    }
    if rows is None:
        return out
    if (rows["role"] == "untested").any():
        return {**out, "reason": str(rows["arm"].iloc[0])}
    result = verdicts.evaluate(claim, rows)
    found, control = result.estimate, result.control
    out |= {"statistic": found.value, "interval": [found.lo, found.hi], "n": found.n, "seeds": found.seeds}
    out["outcome"] = result.outcome
    if control is not None:
        out["control"] |= {"statistic": control.value, "interval": [control.lo, control.hi]}
        out["control"]["outcome"] = result.control_outcome
    out["verdict"], out["reason"] = verdicts.verdict(claim, result, profile)
    return out


def _rule(claim: Claim) -> str:
    """The rule in a line, as the reader's table shows it: `not_worse: mean_difference(mean, observed), margin 0.01`."""
    spec = claim.test
    text = f"{spec.rule}: {spec.statistic}({', '.join(spec.arm_names)})"
    limits = {"value": spec.value, "margin": spec.margin or None, "tolerance": spec.tolerance or None}
    return text + "".join(f", {name} {limit:g}" for name, limit in limits.items() if limit is not None)


@cache
def schema() -> dict:
    """The JSON Schema of ledger.json."""
    return json.loads((resources.files("papercore.study") / "ledger.schema.json").read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path, ledger: dict, tables: list[pd.DataFrame]) -> None:
    """Write samples.parquet and then ledger.json, which names its hash, into the folder; validated first."""
    part = folder / "samples.parquet.part"
    samples.write(tables, part)
    part.replace(folder / "samples.parquet")
    _save(folder, {**ledger, "samples_sha256": sha256(folder / "samples.parquet")})


def _save(folder: Path, ledger: dict) -> None:
    _validate(ledger, "the new ledger")
    part = folder / "ledger.json.part"
    part.write_text(json.dumps(ledger, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(folder / "ledger.json")


def _validate(ledger: dict, where: str) -> None:
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(schema()).iter_errors(ledger):
        field = ".".join(str(part) for part in error.absolute_path) or "the file"
        raise LedgerError(f"{where}: {field}: {error.message[:200]}")


def read(folder: Path) -> dict:
    """The folder's ledger.json, checked against the schema; raises LedgerError."""
    path = Path(folder) / "ledger.json"
    try:
        ledger = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise LedgerError(f"no ledger.json in {folder}") from None
    except ValueError as err:
        raise LedgerError(f"{path} is not JSON: {err}") from None
    _validate(ledger, str(path))
    return ledger


def recomputed(folder: Path) -> list[dict]:
    """The rows of the folder's ledger computed anew from samples.parquet and today's claims.yaml."""
    ledger = read(folder)
    claims = rooms.claims(ledger["slug"])
    stored = samples.read(Path(folder) / "samples.parquet")
    old = {r["id"]: r for r in ledger["claims"]}
    rows = []
    for claim in claims.claims:
        mine = stored[stored["claim"] == claim.id]
        recorded = old.get(claim.id, {}).get("recorded", False)
        rows.append(row(claim, None if mine.empty else mine, ledger["profile"], recorded=recorded))
    return rows


def recompute(folder: Path) -> list[str]:
    """What in a stored ledger differs from its samples and claims.yaml, a sentence each; empty when it is true."""
    folder = Path(folder)
    try:
        ledger = read(folder)
        new = {r["id"]: r for r in recomputed(folder)}
    except (LedgerError, SampleError, ClaimsError, rooms.RoomError, OSError, ValueError) as err:
        return [str(err)]
    problems = []
    if ledger["profile"] != ledger["parameters"].get("profile"):
        problems.append(f"{ledger['slug']}: profile {ledger['profile']} is not that of its parameters")
    if sha256(folder / "samples.parquet") != ledger["samples_sha256"]:
        problems.append(f"{ledger['slug']}: samples.parquet is not the file this ledger was computed from (sha256)")
    old = {r["id"]: r for r in ledger["claims"]}
    for claim_id in [*old, *(i for i in new if i not in old)]:
        if claim_id not in old or claim_id not in new:
            where = "claims.yaml" if claim_id in new else "the ledger"
            problems.append(f"{ledger['slug']} {claim_id}: only {where} has this claim")
            continue
        problems += [f"{ledger['slug']} {claim_id}: {line}" for line in _differences(old[claim_id], new[claim_id])]
    return problems


def _differences(old: dict, new: dict, at: str = "") -> list[str]:
    lines = []
    for name in new:
        was, now, field = old.get(name), new[name], f"{at}{name}"
        if isinstance(now, dict) and isinstance(was, dict) and name == "control":
            lines += _differences(was, now, "control.")
        elif not (_close(was, now) if name in _NUMBERS else was == now):
            lines.append(f"{field} is stored as {was!r}, but the samples and claims.yaml give {now!r}")
    return lines


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_close, a, b))
    if a is None or b is None:
        return a is b
    # Relative to the number, with a floor for those that are zero but for rounding.
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=1e-9)


def rewrite(folder: Path) -> list[tuple[str, str, str]]:
    """Rewrite the stored rows from the samples after a change of statistics; (claim, verdict before, after) of each."""
    folder = Path(folder)
    ledger = read(folder)
    if sha256(folder / "samples.parquet") != ledger["samples_sha256"]:
        raise LedgerError(
            f"{folder}: samples.parquet is not the file this ledger was computed from; run the paper again"
        )
    before = {r["id"]: r["verdict"] for r in ledger["claims"]}
    rows = recomputed(folder)
    _save(folder, {**ledger, "claims": rows})
    return [(r["id"], before.get(r["id"], "(absent)"), r["verdict"]) for r in rows]


def unforeseen(ledger: dict, claims: claims_schema.Claims) -> list[str]:
    """Rows that a committed ledger must not have: a void nobody foresaw, a claim that was never handed over."""
    lines = []
    for r in ledger["claims"]:
        if r["verdict"] == "void" and not claims[r["id"]].expect_void:
            lines.append(f"{ledger['slug']} {r['id']} is void and claims.yaml has no `expect_void` for it")
        if r["reason"] == "not reached":
            lines.append(f"{ledger['slug']} {r['id']} was never handed over")
    return lines
