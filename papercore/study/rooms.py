"""Finding a paper's room by slug: its claims, parameters and profiles. Floor: study; nothing here names a room."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from papercore.study import claims as claims_schema

_SLUG = re.compile(r"[a-z][a-z0-9_]*")


class RoomError(LookupError):
    """No paper of that name."""


def checkout() -> Path | None:
    """Root folder of the repository this package runs from, or None where it was installed as a wheel."""
    root = Path(str(resources.files("papercore"))).parent
    return root if (root / "notebooks").is_dir() and (root / "constraints.txt").is_file() else None


def home() -> Traversable:
    """The folder that holds the rooms."""
    return resources.files("papercore.papers")


def slugs() -> list[str]:
    """Slugs of the rooms in teaching order: by notebook number where there is one, the others after, by name."""
    found = [
        entry.name for entry in home().iterdir() if _SLUG.fullmatch(entry.name) and (entry / "claims.yaml").is_file()
    ]
    return sorted(found, key=lambda slug: ((path := notebook(slug)) is None, path.name if path else "", slug))


def notebook(slug: str) -> Path | None:
    """Path of notebooks/NN_<slug>.ipynb in this checkout, or None."""
    root = checkout()
    hits = sorted(root.glob(f"notebooks/[0-9][0-9]_{slug}.ipynb")) if root else []
    return hits[0] if hits else None


def room(slug: str) -> Traversable:
    """Folder of the room; raises RoomError naming the rooms there are."""
    if _SLUG.fullmatch(str(slug)):
        folder = home() / slug
        if (folder / "claims.yaml").is_file():
            return folder
    raise RoomError(f"no paper {slug!r}; the papers here are {', '.join(slugs()) or '(none)'}")


@lru_cache
def claims(slug: str) -> claims_schema.Claims:
    """The room's claims.yaml, validated; raises ClaimsError or RoomError."""
    text = (room(slug) / "claims.yaml").read_text(encoding="utf-8")
    return claims_schema.parse(text, f"papers/{slug}/claims.yaml")
