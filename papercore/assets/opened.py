"""What this process opened: assets and models, for a result's provenance. Floor: assets."""

_opened: dict[str, dict[str, str]] = {}


def record(name: str, revision: str, sha256: str) -> None:
    """Note that this process reads the asset or model `name`; a second note replaces the first."""
    _opened[name] = {"name": name, "revision": revision, "sha256": sha256}


def opened() -> list[dict[str, str]]:
    """Everything recorded so far, in the order of first opening, as dicts of name, revision, sha256."""
    return [dict(entry) for entry in _opened.values()]
