"""A new room: the files of template/ with a paper's name in them. Floor: runner."""

import keyword
import re
from pathlib import Path

from papercore.runner.bake import METADATA
from papercore.runner.jobs import UsageError, checkout, notebooks
from papercore.runner.report import papers

# Where each template goes.
_FILES = {
    "room.py": "papercore/papers/{slug}/__init__.py",
    "claims.yaml": "papercore/papers/{slug}/claims.yaml",
    "parameters.py": "papercore/papers/{slug}/parameters.py",
    "assets.yaml": "papercore/papers/{slug}/assets.yaml",
    "smoke.yaml": "papercore/papers/{slug}/profiles/smoke.yaml",
    "paper.yaml": "papercore/papers/{slug}/profiles/paper.yaml",
    "data.py": "papercore/papers/{slug}/data.py",
    "notebook.py": "notebooks/{number:02d}_{slug}.ipynb",
    "test_room.py": "tests/papers/test_{slug}.py",
}


def make(slug: str) -> list[Path]:
    """Make a paper's room, notebook and test, and return their files; raises UsageError, and then makes nothing.

    The demo needs no model and no network. A paper of roadmap.yaml gets its number and title, any other the next one.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug) or keyword.iskeyword(slug):
        raise UsageError(f"{slug!r} cannot name a paper: take lower-case letters, digits and _, a letter first")
    known = {paper["slug"]: paper for paper in papers()}
    after = 1 + max([p["number"] for p in known.values()] + [int(path.name[:2]) for path in notebooks().values()])
    paper = known.get(slug, {"number": after, "title": f"Demo: {slug.replace('_', ' ')}", "arxiv": "0000.00000"})
    files = {name: checkout() / path.format(slug=slug, number=paper["number"]) for name, path in _FILES.items()}
    # What was compiled from a deleted room is no room.
    inside = (path for path in files["claims.yaml"].parent.rglob("*") if path.is_file() and path.suffix != ".pyc")
    for path in [*inside, *files.values(), *filter(None, [notebooks().get(slug)])]:
        if path.exists():
            raise UsageError(f"{slug!r} is there already: {path.relative_to(checkout())}")
    for name, path in files.items():
        text = (Path(__file__).parent / "template" / name).read_text(encoding="utf-8")
        for mark, value in {"SLUG": slug, "TITLE": paper["title"], "ARXIV": paper["arxiv"]}.items():
            text = text.replace(mark, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook(text) if path.suffix == ".ipynb" else text, encoding="utf-8")
    return list(files.values())


def notebook(text: str) -> str:
    """A notebook from a script in jupytext's percent format, with ids that do not change from call to call."""
    import jupytext
    import nbformat

    nb = jupytext.reads(text, fmt="py:percent")
    for number, cell in enumerate(nb.cells):
        cell["id"] = f"cell-{number:02d}"
    nb.metadata = METADATA
    return nbformat.writes(nb).rstrip("\n") + "\n"
