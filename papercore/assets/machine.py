"""What this machine has: cores, memory, disk. Lowest floor, so that models and runner may ask without torch: assets."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class Memory(NamedTuple):
    """Main memory in bytes that this process may use."""

    total: int
    free: int


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory(root: Path = Path("/")) -> Memory:
    """The machine's memory, or what control groups leave of it (version 1 and 2, as containers and schedulers set)."""
    import psutil

    here = psutil.virtual_memory()
    limits = [Memory(here.total, here.available), *_groups(root)]
    return Memory(min(limit.total for limit in limits), max(0, min(limit.free for limit in limits)))


def free_disk(folder: Path) -> int:
    """Free bytes where `folder` lies, or will lie once it is made."""
    return shutil.disk_usage(next(filter(os.path.exists, [folder, *folder.parents]))).free


def _groups(root: Path) -> Iterator[Memory]:
    """Limit, and what is left of it, of every control group that this process is in."""
    lines = []
    with suppress(OSError):  # no Linux
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, limit, used, files = root / "sys/fs/cgroup", "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):
            base, limit, used = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            files = "total_"
        else:
            continue
        inside = PurePosixPath(path.strip("/"))
        for group in (base / part for part in (inside, *inside.parents)):
            with suppress(OSError, ValueError):  # not seen from inside a container, or `max`: no limit
                total = int((group / limit).read_text())
                about = dict(entry.split() for entry in (group / "memory.stat").read_text().splitlines())
                # Cached files count as used, but make room when it is needed.
                cache = sum(int(about.get(f"{files}{kind}_file", 0)) for kind in ("active", "inactive"))
                yield Memory(total, total - int((group / used).read_text()) + cache)
