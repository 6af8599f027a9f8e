"""A run's key: the sha256 of everything that its result follows from. Floor: runner.

Two runs with one key give the same ledger; a result whose key is no longer today's is stale.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import nbformat

from papercore.assets import catalogue
from papercore.study import rooms

FRONT_DOOR = "papercore"
_LARGE = 50_000_000  # bytes


def inputs(notebook: Path, slug: str | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the key covers, piece by piece, each with its digest: kept in run.json so that two runs can be compared.

    `slug` is None for a notebook without a room. Outputs of the notebook are no part of it.
    """
    root = rooms.checkout()
    nb = nbformat.read(notebook, as_version=4)
    cells = [[cell.cell_type, cell.source, sorted(cell.metadata.get("tags", []))] for cell in nb.cells]
    code = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    own = f"papercore.papers.{slug}"
    starts = {FRONT_DOOR, *imports(code), *(m for m in _graph().modules if m == own or m.startswith(f"{own}."))}
    files = _data_files(root / "papercore" / "papers" / slug) if slug else {}
    sources = {name: _source(root, name) for name in closure(starts)}
    # Its assets are those that the room declares, and the shared ones whose names room or notebook spell.
    texts = [path for name, path in (files | sources).items() if name.startswith(own) or path.suffix == ".yaml"]
    text = "".join([json.dumps([cells, parameters]), *(path.read_text(encoding="utf-8") for path in texts)])
    assets = {name: entry for name, entry in catalogue().items() if name in text or (slug and entry.room == slug)}
    return {
        "notebook": digest(cells),
        "parameters": dict(parameters),
        "named": named(parameters, notebook.parent),
        "modules": {name: _file_digest(path) for name, path in sources.items()},
        "files": {name: _file_digest(path) for name, path in files.items()},
        "assets": {name: digest(entry.model_dump(mode="json")) for name, entry in sorted(assets.items())},
        "lock": _file_digest(root / "constraints.txt"),
    }


def digest(data: Any) -> str:
    """Hex sha256 of plain data, independent of the order of mappings."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def forget() -> None:
    """Read the imports anew for the next key: sources may have been edited since the last one."""
    _graph.cache_clear()


def named(value: Any, folder: Path) -> dict[str, Any]:
    """Digest of each file or folder that a string in `value` names, as a kernel in `folder` would find it."""
    if isinstance(value, Mapping | list | tuple):
        inside = value.values() if isinstance(value, Mapping) else value
        return {name: found for one in inside for name, found in named(one, folder).items()}
    with suppress(OSError, RuntimeError, ValueError):  # a text too long for a path, or the home of nobody
        path = folder / Path(value).expanduser() if isinstance(value, str) and value else None
        if path and path.is_file():
            return {value: _content(path)}
        if path and path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            return {value: digest([[file.relative_to(path).as_posix(), _content(file)] for file in files])}
    return {}


def imports(code: Iterable[str]) -> set[str]:
    """Names of the package's modules that code cells import; a cell that does not parse imports nothing."""
    found = set()
    for source in code:
        lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
        try:
            tree = ast.parse("\n".join(lines))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & _graph().modules


def closure(starts: Iterable[str]) -> list[str]:
    """The modules that run when `starts` are imported: theirs, what those import, and every package above them."""
    graph, todo, seen = _graph(), list(starts), set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph.find_modules_directly_imported_by(name)
            todo += [name.rpartition(".")[0]] if "." in name else []
    return sorted(seen)


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(FRONT_DOOR, cache_dir=None)


def _source(root: Path, module: str) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _data_files(room: Path) -> dict[str, Path]:
    """Every file of a room but its Python, by name; hidden and compiled ones left out."""
    found = (p for p in room.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc"))
    named = {path.relative_to(room).as_posix(): path for path in found}
    return {name: named[name] for name in sorted(named) if not any(part.startswith(".") for part in name.split("/"))}


def _content(path: Path) -> list[Any]:
    """What tells a file from others: size and sha256, or size and time of change of one too large to read each time."""
    about = path.stat()
    return [about.st_size, about.st_mtime_ns if about.st_size > _LARGE else _file_digest(path)]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
