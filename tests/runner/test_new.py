"""A new room: complete, clean, and green from the first minute."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOM = {"__init__.py", "claims.yaml", "parameters.py", "assets.yaml", "profiles", "data.py"}


def test_the_room_is_complete_clean_and_its_test_passes(finished_tree):
    root = finished_tree.root
    room, test = root / "papercore" / "papers" / "demo", root / "tests" / "papers" / "test_demo.py"
    assert {path.name for path in room.iterdir()} - {"__pycache__"} == ROOM
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["pytest", "-p", "no:cacheprovider"]):
        done = subprocess.run(
            [sys.executable, "-m", *command, str(test), *([] if command[0] == "pytest" else [str(room)])],
            cwd=root, env=finished_tree.env, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_planned_paper_keeps_its_number_and_title_and_leaves_the_roadmap(tree):
    said = tree("new", "saif")
    assert "notebooks/04_saif.ipynb" in said
    assert 'title: "SAIF: A Sparse' in (tree.root / "papercore/papers/saif/claims.yaml").read_text()
    assert "no result yet" in next(line for line in tree("list").splitlines() if "saif" in line)


@pytest.mark.parametrize("slug", ["Demo", "9lives", "a-b", "class", "../x", ""])
def test_a_bad_name_is_refused(finished_tree, slug):
    assert "cannot name a paper" in finished_tree("new", slug, code=2)


def test_what_is_there_is_not_overwritten(tree):
    data = tree.root / "papercore/papers/demo/data.py"
    data.write_text("# mine\n")
    assert "is there already" in tree("new", "demo", code=2)
    assert data.read_text() == "# mine\n"
    (tree.root / "tests/papers/test_third.py").touch()
    assert "'third' is there already: tests/papers/test_third.py" in tree("new", "third", code=2)
    assert not (tree.root / "papercore/papers/third").exists()
    (tree.root / "papercore/papers/fourth").mkdir()
    (tree.root / "papercore/papers/fourth/notes.txt").touch()
    assert "'fourth' is there already: papercore/papers/fourth/notes.txt" in tree("new", "fourth", code=2)


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a checkout by name, compiled ones left out."""
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_what_it_made_is_all_there_is_to_delete(tree):
    before, listed = contents(tree.root), tree("list")
    made = [line.strip() for line in tree("new", "third").splitlines() if line.startswith("  ")]
    assert {*contents(tree.root)} - {*before} == {*made}
    assert "third" in tree("list")
    tree("run", "third", "--profile", "smoke")
    run = tree.run_folder("third")
    for name in made:
        (tree.root / name).unlink()
    assert "third" not in tree("list")
    shutil.rmtree(run)
    run.with_name(f"{run.name}.lock").unlink(missing_ok=True)
    assert contents(tree.root) == before
    assert tree("list") == listed
    tree("new", "third")  # folders that stayed, and what was compiled in them, are not in the way
