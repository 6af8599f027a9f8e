"""From run folder to figures/<slug>/<profile>/: the whole result in one step, or none of it. Floor: runner."""

import ctypes
import filecmp
import os
import shutil
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from papercore.runner.jobs import Job, runs
from papercore.study import ledger

_RESULT = ("*.png", "*.csv", "ledger.json", "samples.parquet")


def promote(job: Job, *, again: bool = True) -> None:
    """Put NAME.png, NAME.csv, ledger.json and samples.parquet of a finished run where results are committed.

    Does nothing for a smoke run or altered parameters; without `again`, nothing where this key's result stands whole.
    """
    target = job.promotes_to
    if target is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(runs() / f"promote-{job.slug}-{job.profile}.lock"):
        if _old(target).is_dir() and not target.exists():  # killed between the two steps of _replace
            _old(target).rename(target)
        for left in target.parent.glob(f".{job.profile}-*"):  # of a run that was killed here
            shutil.rmtree(left)
        files = [file for pattern in _RESULT for file in sorted(job.folder.glob(pattern))]
        if not again and _stands(target, job, files):
            return
        new = Path(tempfile.mkdtemp(prefix=f".{job.profile}-", dir=target.parent))
        new.chmod(0o755)
        try:
            for file in files:
                shutil.copy(file, new)
            if not (target.exists() and _exchange(new, target)):
                _replace(target, new)
        finally:
            shutil.rmtree(new, ignore_errors=True)  # half a copy, or what was the old result


def _stands(target: Path, job: Job, files: list[Path]) -> bool:
    """Whether `target` holds this key's result, unedited; it may have come from another machine."""
    names = [file.name for file in files]
    if not target.is_dir() or sorted(names) != sorted(path.name for path in target.iterdir()):
        return False
    _, others, _ = filecmp.cmpfiles(job.folder, target, names, shallow=False)
    if "ledger.json" not in others:  # this very run's
        return not others
    try:
        return ledger.read(target)["key"] == job.key and not ledger.recompute(target)
    except ledger.LedgerError:
        return False


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, so that neither is ever missing; False where the system or its disk cannot."""
    paths = os.fsencode(one.absolute()), os.fsencode(other.absolute())
    if sys.platform == "linux" and (call := getattr(ctypes.CDLL(None), "renameat2", None)):
        return call(-1, paths[0], -1, paths[1], 2) == 0  # RENAME_EXCHANGE; -1: absolute paths need no folder
    if sys.platform == "darwin":
        return ctypes.CDLL(None).renamex_np(*paths, 2) == 0  # RENAME_SWAP
    return False


def _replace(target: Path, new: Path) -> None:
    """`new` becomes `target`, in two steps; where the second fails, the first is taken back."""
    if target.exists():
        target.rename(_old(target))
    try:
        new.rename(target)
    except OSError:
        if _old(target).exists():
            _old(target).rename(target)
        raise
    shutil.rmtree(_old(target), ignore_errors=True)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}-old")
