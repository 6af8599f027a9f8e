"""A checkout of its own for the runner's tests: this package, without its rooms, and two model-free demo rooms."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]


class Tree:
    """A temporary checkout, and `papercore` run in it."""

    def __init__(self, root: Path, cache: Path):
        self.root = root
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("PAPERCORE_", "COV_"))}
        self.env |= {"PAPERCORE_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "COLUMNS": "200"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "papercore.cli", *arguments]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run `papercore ...`, which must end with this exit code; what it printed."""
        done = subprocess.run(self.command(*arguments), cwd=self.root, env=self.env, capture_output=True, text=True)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def python(self, code: str) -> str:
        """Run Python code with this checkout's package; what it printed."""
        done = subprocess.run([sys.executable, "-c", code], cwd=self.root, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def key(self, name: str = "demo", profile: str = "smoke", *options: str) -> str:
        """First digits of the key that a run would have."""
        return re.search(r"key (\w+)", self("run", name, "--profile", profile, "--dry-run", *options))[1]

    def run_folder(self, name: str = "demo", profile: str = "smoke", *options: str) -> Path:
        (folder,) = (p for p in self.runs.glob(f"{self.key(name, profile, *options)}*") if p.is_dir())
        return folder

    @property
    def runs(self) -> Path:
        return self.root / ".papercore" / "runs"

    @property
    def promoted(self) -> Path:
        return self.root / "figures" / "demo" / "cpu"

    def notebook(self, name: str = "demo") -> Path:
        (path,) = self.root.glob(f"notebooks/*_{name}.ipynb")
        return path

    def insert(self, code: str, name: str = "demo", at: int = 6) -> None:
        """Put a code cell into a notebook; the default place is after Study.open."""
        nb = nbformat.read(self.notebook(name), as_version=4)
        nb.cells.insert(at, nbformat.v4.new_code_cell(code, id="inserted"))
        nbformat.write(nb, self.notebook(name))

    def copy(self, root: Path) -> "Tree":
        shutil.copytree(self.root, root)
        return Tree(root, Path(self.env["PAPERCORE_CACHE"]))


def _rooms(folder: str, names: list[str]) -> set[str]:
    inside = Path(folder).name == "papers"
    return {n for n in names if n == "__pycache__" or (inside and (Path(folder) / n).is_dir())}


@pytest.fixture(scope="session")
def finished_tree(tmp_path_factory) -> Tree:
    """Rooms `demo` and `other`; `demo` has finished runs at smoke and cpu. Read only: take `tree` to change things."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "papercore", root / "papercore", ignore=_rooms)
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    (root / "notebooks").mkdir()
    made = Tree(root, tmp_path_factory.mktemp("cache"))
    made("new", "demo")
    made("new", "other")
    made("run", "demo", "--profile", "smoke")
    made("run", "demo")
    return made


@pytest.fixture
def tree(finished_tree, tmp_path) -> Tree:
    """A copy of `finished_tree` to change."""
    return finished_tree.copy(tmp_path / "checkout")
