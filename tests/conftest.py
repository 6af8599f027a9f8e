"""What tests of several floors share: a copy of the project in a folder of its own."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def copy_project():
    """Copies the project into a new folder: what .gitignore does not name, so neither environments nor runs."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = [".git", *(line.strip("/") for line in lines if line and not line.startswith("#"))]

    def skipped(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if any(Path(folder, name).match(pattern) for pattern in ignored)}

    def copy(target: Path) -> Path:
        return Path(shutil.copytree(ROOT, target, ignore=skipped))

    return copy
