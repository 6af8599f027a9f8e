"""One run: execute a notebook in its run folder, and mark it DONE when all of it is there. Floor: runner."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from filelock import FileLock

from papercore.assets import DISK_FULL, AssetUnavailable
from papercore.runner import kernel, keys, needs, promote
from papercore.runner.jobs import Job, checkout, runs, write
from papercore.study import Study, ledger, parameters

# A cell that takes longer than this, and than ten budgets, hangs.
_PATIENCE = 3600  # s


Tell = Callable[[str, int, int], None]


class InputsChanged(RuntimeError):
    """What the key was computed from was edited during the run."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job: finished (now), found (finished earlier), failed, stopped (by the user), or untested.

    Untested: an asset could not be had, and nothing is known of the paper; that is no fault of the notebook.
    """

    job: Job
    state: str
    seconds: float = 0.0
    peak: int = 0  # bytes
    cell: int | None = None  # where it failed, counting its code cells from 1; None outside of any
    error: str = ""


def run(job: Job, tell: Tell, stop: threading.Event, force: bool = False, cell_timeout: float | None = None) -> Outcome:
    """Run a job, or find its finished run; never raises for what happens inside the notebook.

    `tell` hears "waiting" or "running", with code cells done and in all. `cell_timeout` in seconds; 0 waits for ever.
    """
    runs().mkdir(parents=True, exist_ok=True)
    lock = _lock(job.key)
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        tell("waiting", 0, 1)
        with contextlib.suppress(TimeoutError):
            lock.acquire(cancel_check=stop.is_set)
        if not lock.is_locked:
            return Outcome(job, "stopped")
    try:
        if finished(job) and not force:
            promote.promote(job, again=False)
            about = json.loads((job.folder / "run.json").read_text(encoding="utf-8"))
            return Outcome(job, "found", about["seconds"], about["peak_memory_bytes"])
        if why := needs.refusal(job):  # rather now than after an hour
            return Outcome(job, "failed", error=why)
        return _attempt(job, cell_timeout, stop, tell)
    finally:
        lock.release()


def finished(job: Job) -> bool:
    """Whether the job's run folder holds a whole result. Only DONE says so, and only of the very bytes it names."""
    try:
        sealed = json.loads((job.folder / "DONE").read_text(encoding="utf-8"))
        return "run.json" in sealed and sealed == {name: ledger.sha256(job.folder / name) for name in sealed}
    except (OSError, ValueError, TypeError):
        return False


def tidy() -> None:
    """End what killed runners left behind: kernels that nobody waits for, and their sockets."""
    for left in runs().glob("*/kernel.json"):
        with contextlib.suppress(TimeoutError, OSError), _lock(left.parent.name).acquire(timeout=0):
            kernel.reap(left)


def _lock(key: str) -> FileLock:
    return FileLock(runs() / f"{key}.lock")


def _attempt(job: Job, cell_timeout: float | None, stop: threading.Event, tell: Tell) -> Outcome:
    kernel.reap(job.folder / "kernel.json")
    (job.folder / "DONE").unlink(missing_ok=True)  # first: a half-deleted result is none
    if job.folder.exists():
        shutil.rmtree(job.folder)  # what stayed would pass for part of the new result
    job.folder.mkdir(parents=True)
    # Whole seconds, rounded up: 0 would wait for ever.
    limit = math.ceil(cell_timeout if cell_timeout is not None else max(_PATIENCE, 10 * (job.budget or 0)))
    start, cells = time.monotonic(), _Cells(tell)
    try:
        peak = _execute(job, limit, stop, cells)
        if job.slug and ledger.read(job.folder)["key"] != job.key:
            raise ledger.LedgerError("the ledger in the run folder is not of this run")
        keys.forget()
        now = keys.inputs(job.notebook, job.slug, job.parameters)
        if changed := [name for name in now if now[name] != job.inputs[name]]:
            raise InputsChanged(f"inputs of this run ({', '.join(changed)}) were edited while it ran; run it again")
    except Exception as err:
        seconds = time.monotonic() - start
        if stop.is_set():
            return Outcome(job, "stopped", seconds)
        state, error = "failed", sentence(err, limit)
        if getattr(err, "ename", "") == AssetUnavailable.__name__:
            state, error = "untested", f"asset unavailable: {err.evalue}"
            _untested(job, error)
        return Outcome(job, state, seconds, cell=cells.now, error=error)
    seconds = time.monotonic() - start
    about = {"command": ["papercore", *sys.argv[1:]], "notebook": job.notebook.name, "profile": job.profile}
    about |= {"seconds": round(seconds, 1), "budget_seconds": job.budget, "peak_memory_bytes": peak}
    about |= {"key": job.key, "inputs": job.inputs}
    (job.folder / "run.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    sealed = {path.name: ledger.sha256(path) for path in sorted(job.folder.iterdir()) if path.is_file()}
    write(job.folder / "DONE", json.dumps(sealed, indent=1) + "\n")
    promote.promote(job)
    return Outcome(job, "finished", seconds, peak)


def _untested(job: Job, reason: str) -> None:
    """Leave a ledger that says so of every claim; without DONE, the next run tries again."""
    if job.slug:
        study = Study(job.slug, parameters.check(job.slug, job.parameters), job.folder, key=job.key)
        for claim in study.claims.claims:
            study.untested(claim.id, reason)
        study.write()


def _execute(job: Job, limit: int, stop: threading.Event, cells: _Cells) -> int:
    """Execute the notebook into the run folder; the kernel's peak memory in bytes."""
    import nbformat
    import papermill

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it would log is in the outcome
    env = {
        "PAPERCORE_RUN_DIR": str(job.folder),
        "PAPERCORE_KEY": job.key,
        "OMP_WAIT_POLICY": "PASSIVE",
        # The package that the key was computed from, whatever else is installed.
        "PYTHONPATH": os.pathsep.join([str(checkout()), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    nb = nbformat.read(job.notebook, as_version=4)
    cells.count = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in nb.cells)
    with kernel.started(job.notebook.parent, env, job.folder / "kernel.json", stop) as (manager, watch):
        papermill.execute_notebook(
            job.notebook,
            job.executed,
            parameters=job.parameters or None,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            execution_timeout=limit or None,
            km=manager,
            on_cell_execute=cells.start,
            on_cell_executed=cells.end,
        )
    return watch.peak


class _Cells:
    """Counts the notebook's own code cells as papermill goes, without the one that it injects."""

    def __init__(self, tell: Tell):
        self.now, self.count, self._begun, self._tell = None, 0, 0, tell

    def start(self, cell, cell_index) -> None:
        self._begun += "injected-parameters" not in cell.metadata.get("tags", [])
        self.now = self._begun
        self._tell("running", max(self._begun - 1, 0), self.count)

    def end(self, cell, cell_index, execute_reply) -> None:
        if execute_reply["content"]["status"] == "ok":
            self.now = None
        self._tell("running", self._begun, self.count)


def sentence(err: Exception, limit: int = 0) -> str:
    """What a failed run's error says to a user."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    if isinstance(err, OSError) and err.errno in DISK_FULL:
        return "the disk is full: free some space for .papercore and figures, then run again"
    if isinstance(err, CellTimeoutError):
        return f"no end after {limit} s (--cell-timeout allows more)"
    if isinstance(err, DeadKernelError):
        return "the kernel died; something killed it, often for want of memory"
    name, said = (err.ename, err.evalue) if isinstance(err, PapermillExecutionError) else (type(err).__name__, str(err))
    return f"{name}: {next(iter(said.splitlines()), '')}"
