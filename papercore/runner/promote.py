"""From run folder to figures/<slug>/<profile>/: the whole result in one step, or none of it. Floor: runner."""

import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from papercore.runner.jobs import Job, runs
from papercore.study import ledger


def promote(job: Job, *, only_if_new: bool = False) -> None:
    """Put NAME.png, NAME.csv, ledger.json and samples.parquet of a finished run where results are committed.

    Does nothing for a smoke run or altered parameters; with `only_if_new`, nothing where this key's result already is.
    """
    target = job.promotes_to
    if target is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(runs() / f"promote-{job.slug}-{job.profile}.lock"):
        for left in target.parent.glob(f".{job.profile}-*"):  # of a run that was killed here
            shutil.rmtree(left)
        if only_if_new and _key(target) == job.key:
            return
        new = Path(tempfile.mkdtemp(prefix=f".{job.profile}-", dir=target.parent))
        new.chmod(0o755)
        try:
            for pattern in ("*.png", "*.csv", "ledger.json", "samples.parquet"):
                for file in job.folder.glob(pattern):
                    shutil.copy(file, new)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        old = Path(tempfile.mkdtemp(prefix=f".{job.profile}-", dir=target.parent))
        if target.exists():
            target.rename(old / "old")
        new.rename(target)
        shutil.rmtree(old)


def _key(folder: Path) -> str | None:
    try:
        return ledger.read(folder)["key"]
    except ledger.LedgerError:
        return None
