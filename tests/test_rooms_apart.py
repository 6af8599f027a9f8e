"""Each paper can be deleted: its room, notebook, test and figures go, and everything else still stands."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml

from papercore.study import rooms


def sources(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file of Python, and every code cell without its magics."""
    for folder in ("papercore", "tests", "benchmarks"):
        yield from ((path, path.read_text(encoding="utf-8")) for path in (root / folder).rglob("*.py"))
    for path in (root / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                yield path, "\n".join(line for line in cell.source.splitlines() if line[:1] not in ("%", "!"))


def importers(root: Path, slug: str) -> set[str]:
    """Files outside of a paper's room that import from it."""
    own, found = f"papercore.papers.{slug}", set()
    for path, source in sources(root):
        for node in ast.walk(ast.parse(source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names]
            if any(f"{name}.".startswith(f"{own}.") for name in names):
                found.add(path.relative_to(root).as_posix())
    return {name for name in found if not name.startswith(f"{own.replace('.', '/')}/")}


def delete(root: Path, slug: str) -> None:
    """What the house says a paper consists of."""
    for folder in (root / "papercore" / "papers" / slug, root / "figures" / slug):
        shutil.rmtree(folder, ignore_errors=True)
    for path in [*root.glob(f"notebooks/[0-9][0-9]_{slug}.ipynb"), root / "tests" / "papers" / f"test_{slug}.py"]:
        path.unlink()


@pytest.mark.parametrize("slug", rooms.slugs())
def test_a_paper_can_be_deleted(copy_project, tmp_path, slug):
    root = copy_project(tmp_path / "checkout")
    assert f"tests/papers/test_{slug}.py" in importers(root, slug)
    delete(root, slug)
    assert importers(root, slug) == set()
    env = {**os.environ, "PYTHONPATH": str(root), "PAPERCORE_CACHE": str(tmp_path / "cache"), "COLUMNS": "200"}

    def call(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    listed = [line.split()[1:3] for line in call(sys.executable, "-m", "papercore.cli", "list").splitlines()]
    planned = yaml.safe_load((root / "papercore" / "papers" / "roadmap.yaml").read_text(encoding="utf-8"))
    assert ([slug, "planned"] in listed) is (slug in planned)
    assert slug in planned or slug not in dict(listed)
    call(sys.executable, "-m", "papercore.cli", "report")
    call(Path(sys.executable).with_name("lint-imports"), "--no-cache")
    assert "test_rooms_apart" in call(sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider")


def test_an_importer_is_found(tmp_path):
    files = {
        "papercore/papers/one/__init__.py": "from papercore.papers.one import data",
        "papercore/papers/two/data.py": "from papercore.papers import one_more, other",
        "benchmarks/speed.py": "def f():\n    from papercore.papers.one.data import texts",
        "tests/test_three.py": "import papercore.papers.one.data as data",
        "tests/test_four.py": "from papercore.papers import one",
    }
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("%time\nimport papercore.papers.one")])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nb, tmp_path / "notebooks" / "01_one.ipynb")
    found = {"benchmarks/speed.py", "tests/test_three.py", "tests/test_four.py", "notebooks/01_one.ipynb"}
    assert importers(tmp_path, "one") == found
