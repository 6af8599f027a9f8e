"""Arms: the samples per unit that a notebook hands over, normalised, paired and stored. Floor: study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from papercore.study.claims import Claim, ClaimsError

COLUMNS = ["unit", "other", "seed", "value", "x", "label"]
STORED = ["claim", "role", "arm", *COLUMNS]


def arm(data: Any, where: str) -> pd.DataFrame:
    """One arm as a table with the columns of COLUMNS that it has.

    `data` is a DataFrame, a dict of columns, or a bare array: then it is `value`, units 0..n-1. `unit` names what is
    resampled (for a pair of units `other` names the second); `seed` is the fitting seed. Raises ClaimsError.
    """
    if isinstance(data, pd.DataFrame):
        table = data.reset_index(drop=True)
    elif isinstance(data, Mapping):
        try:
            table = pd.DataFrame({name: np.asarray(column) for name, column in data.items()})
        except ValueError as err:
            raise ClaimsError(f"{where}: its columns do not fit together: {err}") from None
    else:
        values = np.asarray(data)
        if values.ndim != 1:
            raise ClaimsError(f"{where}: a bare array must be one value a unit, but its shape is {values.shape}")
        table = pd.DataFrame({"value": values})
    if unknown := sorted(set(table.columns) - set(COLUMNS)):
        raise ClaimsError(f"{where}: unknown column {unknown[0]!r}; an arm has {', '.join(COLUMNS)}")
    if "value" not in table or table.empty:
        raise ClaimsError(f"{where}: no samples; an arm is a table with unit and value, or an array of values")
    if "unit" not in table:
        table["unit"] = np.arange(len(table))
    table = table[[name for name in COLUMNS if name in table]].copy()
    for name in ("unit", "other", "label"):
        if name in table:
            table[name] = table[name].astype(str)
    for name in ("value", "x"):
        if name in table:
            table[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
            if not np.isfinite(table[name]).all():
                bad = int((~np.isfinite(table[name])).sum())
                raise ClaimsError(f"{where}: {bad} of {len(table)} entries of {name!r} are not finite numbers")
    if "seed" in table:
        table["seed"] = table["seed"].astype(int)
    key = [name for name in ("unit", "other", "seed") if name in table]
    if table.duplicated(key).any():
        twice = table[table.duplicated(key)].iloc[0][key].to_dict()
        raise ClaimsError(f"{where}: two samples for {twice}; give one value a unit and seed")
    return table


def pair(of: pd.DataFrame, versus: pd.DataFrame, where: str) -> pd.DataFrame:
    """`of` with the column `versus` beside its value, matched by unit, other and seed; raises ClaimsError."""
    key = [name for name in ("unit", "other", "seed") if name in of]
    if key != [name for name in ("unit", "other", "seed") if name in versus]:
        raise ClaimsError(f"{where}: the two arms are not paired alike: {list(of.columns)} and {list(versus.columns)}")
    both = of.merge(versus[[*key, "value"]].rename(columns={"value": "versus"}), on=key, how="inner")
    if len(both) != len(of) or len(both) != len(versus):
        raise ClaimsError(
            f"{where}: arms are paired by {', '.join(key)}, but {len(of)} and {len(versus)} samples share {len(both)}"
        )
    return both


def collect(claim: Claim, arms: Mapping[str, Any]) -> pd.DataFrame:
    """Everything handed over for one claim, as rows of STORED; raises ClaimsError when an arm is missing or unknown."""
    handed = dict(arms)
    control = handed.pop("control", None)
    needed = claim.test.arm_names
    if set(handed) != set(needed):
        raise ClaimsError(f"{claim.id} takes the arms {', '.join(needed)}; it was handed {', '.join(handed) or 'none'}")
    if (control is None) != (claim.control.arm == "none"):
        state = "has no control" if control is not None else f"needs control= (its arm {claim.control.arm})"
        raise ClaimsError(f"{claim.id} {state}")
    parts = [("arm", name, handed[name]) for name in needed]
    if control is not None:
        if claim.test.arms:
            if not isinstance(control, Mapping) or set(control) != set(needed):
                raise ClaimsError(f"{claim.id}: its control is a dict with the arms {', '.join(needed)}")
            parts += [("control", name, control[name]) for name in needed]
        else:
            parts.append(("control", claim.control.arm, control))
    tables = []
    for role, name, data in parts:
        table = arm(data, f"{claim.id}, {role} {name}")
        if claim.test.fitted and "seed" not in table:
            raise ClaimsError(f"{claim.id}, {role} {name}: the claim is about something fitted, so it needs `seed`")
        tables.append(table.assign(claim=claim.id, role=role, arm=name))
    return pd.concat(tables, ignore_index=True).reindex(columns=STORED)


def untested(claim_id: str, reason: str) -> pd.DataFrame:
    """The one stored row of a claim without samples: role `untested`, the reason in place of an arm."""
    return pd.DataFrame([{"claim": claim_id, "role": "untested", "arm": reason}]).reindex(columns=STORED)


def split(rows: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """{"arm": {name: table}, "control": {name: table}} of one claim's stored rows, columns never used dropped."""
    roles: dict[str, dict[str, pd.DataFrame]] = {"arm": {}, "control": {}}
    for (role, name), table in rows.groupby(["role", "arm"], sort=False):
        roles[role][name] = table[COLUMNS].dropna(axis=1, how="all").reset_index(drop=True)
    return roles


def write(tables: list[pd.DataFrame], path: Path) -> None:
    """Store samples.parquet; the same samples give the same bytes with the same pyarrow."""
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=STORED)
    types = {"seed": "Int64", "value": float, "x": float}
    rows = rows.astype({name: types.get(name, "string") for name in STORED})
    rows.to_parquet(path, index=False, compression="zstd")


def read(path: Path) -> pd.DataFrame:
    """Rows of a samples.parquet."""
    return pd.read_parquet(path)
