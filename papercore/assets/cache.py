"""The cache folder: where it is, what fills it, how it is kept small. Floor: assets."""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

import platformdirs

from papercore.assets.errors import AssetError

KINDS = ("assets", "parts", "models", "activations", "hub")


def cache_dir(*parts: str) -> Path:
    """Path below the cache root: PAPERCORE_CACHE, or the user's cache folder. Creates nothing."""
    root = os.environ.get("PAPERCORE_CACHE") or platformdirs.user_cache_dir("papercore", appauthor=False)
    return Path(root).expanduser().absolute().joinpath(*parts)


def trim(folder: str | Path, cap_bytes: int) -> int:
    """Delete the files that were changed longest ago until `folder` holds at most `cap_bytes`; returns bytes freed."""
    files = sorted(_files(Path(folder)))
    excess = sum(size for _, size, _ in files) - cap_bytes
    freed = 0
    for _, size, path in files:
        if freed >= excess:
            break
        with suppress(OSError):  # held open or protected: the next one, then
            path.unlink(missing_ok=True)  # one that another process just deleted made room too
            freed += size
    return freed


def cache_entries() -> list[tuple[str, str, int, int]]:
    """What the cache holds, a folder a row: kind, name, number of files, bytes; files that lie loose share a row."""
    rows = []
    for kind in KINDS:
        root, groups = cache_dir(kind), {}
        for _, size, path in _files(root):
            inside = path.relative_to(root)
            groups.setdefault(inside.parts[0] if len(inside.parts) > 1 else "(files)", []).append(size)
        rows += [(kind, name, len(sizes), sum(sizes)) for name, sizes in sorted(groups.items())]
    return rows


def clear_cache(kind: str = "all") -> int:
    """Delete one kind of cached files, or all of them; returns bytes freed. Everything comes back when needed."""
    if kind not in (*KINDS, "all"):
        raise AssetError(f"the cache has no {kind!r}: choose one of {', '.join(KINDS)}, or all")
    folders = [cache_dir(k) for k in (KINDS if kind == "all" else [kind])]
    before = sum(size for folder in folders for _, size, _ in _files(folder))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return before - sum(size for folder in folders for _, size, _ in _files(folder))


def _files(folder: Path) -> list[tuple[int, int, Path]]:
    """Regular files below `folder` as (time of change in ns, size, path); links weigh nothing."""
    found = []
    for path in folder.rglob("*"):
        with suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime_ns, status.st_size, path))
    return found
