"""Study: a notebook's one handle on claims, figures and ledger. Floor: study."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from papercore.study import figures, ledger, parameters, provenance, render, rooms, samples


class Study:
    """One run of one paper. Open it with `Study.open`; it takes samples and figures and writes the ledger.

    Files go to the folder in PAPERCORE_RUN_DIR, or to .papercore/scratch/<slug>/ of the checkout (the working
    folder's, outside one): NAME.png, NAME.csv, samples.parquet, ledger.json.
    """

    def __init__(
        self,
        slug: str,
        values: parameters.BaseParameters,
        folder: Path,
        *,
        key: str = "",
        alone: AbstractContextManager | None = None,
    ):
        self.slug, self.parameters, self.folder, self.key = slug, values, folder, key
        self._alone = alone or nullcontext()
        self.claims = rooms.claims(slug)
        self._samples: dict[str, pd.DataFrame] = {}
        self._rows: dict[str, dict] = {}
        self._warnings: list[str] = []
        self._started = time.monotonic()

    @classmethod
    def open(cls, slug: str, *, parameters: Mapping[str, Any]) -> Study:
        """Check a notebook's parameters (pass `globals()`) before any model or data is touched.

        Raises RoomError for an unknown paper and ParameterError, one sentence, for an unknown or wrong parameter.
        """
        from papercore.study.parameters import from_globals

        values = from_globals(slug, parameters)
        base = rooms.checkout() or Path.cwd()
        own, shared = os.environ.get("PAPERCORE_RUN_DIR"), base / ".papercore" / "scratch" / slug
        folder = Path(own or shared)
        folder.mkdir(parents=True, exist_ok=True)
        figures.use_style()
        # Kernels that readers started share a folder: there, a ledger is never beside another one's samples.
        alone = None if own else FileLock(shared.with_name(f"{slug}.lock"))
        return cls(slug, values, folder, key=os.environ.get("PAPERCORE_KEY", ""), alone=alone)

    def claim(self, claim_id: str, *, control: Any = None, recorded: bool = False, **arms: Any) -> None:
        """Hand over the samples of a claim's arms (see samples.arm) and of its control; the verdict is not yours.

        Raises ClaimsError or SampleError at once, where the samples are still at hand.
        """
        claim = self.claims[claim_id]
        rows = samples.collect(claim, {**arms, **({} if control is None else {"control": control})})
        self._rows[claim_id] = ledger.row(claim, rows, self.parameters.profile, recorded=recorded)
        self._samples[claim_id] = rows

    def untested(self, claim_id: str, reason: str) -> None:
        """Say why a claim cannot be tested in this run; the ledger repeats it."""
        self._samples[self.claims[claim_id].id] = rows = samples.untested(claim_id, reason)
        self._rows[claim_id] = ledger.row(self.claims[claim_id], rows, self.parameters.profile)

    def warn(self, text: str) -> None:
        """Keep a warning that readers of the ledger must see (code ran without full isolation, say)."""
        if text not in self._warnings:
            self._warnings.append(text)

    def figure(self, name: str, figure, data: pd.DataFrame) -> None:
        """Show a matplotlib figure and keep it as NAME.png with NAME.csv, the numbers that it draws."""
        import matplotlib.pyplot as plt
        from IPython.display import display

        with self._alone:
            figures.save(figure, self.folder, name, data)
        display(figure)
        plt.close(figure)

    def result(self) -> dict:
        """The ledger as it stands, `samples_sha256` excepted."""
        profile = self.parameters.profile
        rows = [self._rows.get(claim.id) or ledger.row(claim, None, profile) for claim in self.claims.claims]
        seeds = {int(s) for table in self._samples.values() for s in table["seed"].dropna().unique()}
        return {
            "slug": self.slug,
            "profile": profile,
            "key": self.key,
            "parameters": self.parameters.model_dump(),
            "seeds": [self.parameters.seed, *sorted(seeds - {self.parameters.seed})],
            "provenance": provenance.collect(self.slug, time.monotonic() - self._started),
            **({"warnings": self._warnings} if self._warnings else {}),
            "claims": rows,
        }

    def ledger(self):
        """Write ledger.json and samples.parquet, and show the reader's table."""
        from IPython.display import HTML

        return HTML(render.table(self.write(), self.claims))

    def write(self) -> dict:
        """Write ledger.json and samples.parquet; the ledger, `samples_sha256` excepted."""
        result = self.result()
        with self._alone:
            ledger.write(self.folder, result, list(self._samples.values()))
        return result

    def check(self) -> None:
        """Print what must not change from run to run: claim, n, statistic, outcome, control outcome."""
        print(render.checked(self.result()))

    def provenance(self):
        """Show versions, assets and hardware behind this run."""
        from IPython.display import Markdown

        return Markdown(render.provenance(provenance.collect(self.slug, time.monotonic() - self._started)))
