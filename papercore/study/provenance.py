"""What a result was computed with: versions, source, commit, assets, hardware. Floor: study."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

from papercore.assets import opened
from papercore.study import rooms

_PACKAGES = [
    "papercore",
    "torch",
    "transformers",
    "nnsight",
    "numpy",
    "scipy",
    "scikit-learn",
    "statsmodels",
    "papermill",
]


def collect(slug: str, seconds: float) -> dict:
    """The ledger's provenance block for a run of `slug` that took `seconds`."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    commit, dirty = _commit()
    return {
        "versions": versions,
        "source_sha256": source_sha256(slug),
        "commit": commit,
        "dirty": dirty,
        "assets": [{k: str(a[k]) for k in ("name", "revision", "sha256")} for a in opened()],
        "hardware": _hardware(),
        "seconds": round(seconds, 1),
    }


def source_sha256(slug: str) -> str:
    """Digest of the package's Python source and of the room's files, other rooms left out."""
    root = Path(str(resources.files("papercore")))
    own, rest = root / "papers" / slug, root / "papers"
    files = [p for p in root.rglob("*.py") if rest not in p.parents]
    files += [p for p in own.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    digest = hashlib.sha256()
    for path in sorted(set(files)):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _commit() -> tuple[str | None, bool | None]:
    """The checkout's commit, and whether package or notebooks differ from it; (None, None) outside one."""
    root = rooms.checkout()
    if root is None:
        return None, None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=20)
        state = subprocess.run(
            [*git, "status", "--porcelain", "--", "papercore"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if head.returncode:
        return None, None
    return head.stdout.strip(), bool(state.stdout.strip())


def _hardware() -> dict:
    """Kind of machine; nothing that names this one."""
    import psutil

    found = {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
    }
    if "torch" in sys.modules:
        import torch

        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name(0)
    return found
