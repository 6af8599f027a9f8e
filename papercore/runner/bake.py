"""Baking: the outputs of the finished cpu run, nothing else of it, go into the committed notebook. Floor: runner."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

from papercore.runner.jobs import Job, checkout, write
from papercore.study import ledger, rooms

LARGEST = 1_500_000  # bytes of a committed notebook
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
# What absolute paths begin with, at the start of a word.
_ROOTS = r"(?<![\w.:/~-])(?:/(?:home|Users|root|tmp|var|private|opt|mnt|srv|work|usr)/|[A-Z]:\\)"


class BakeError(ValueError):
    """The executed notebook cannot be committed; one sentence says why."""

    exit_code = 1


def bake(job: Job) -> Path:
    """Put the outputs of the job's finished run into its notebook; raises BakeError, and then leaves it as it was."""
    source, executed = (nbformat.read(path, as_version=4) for path in (job.notebook, job.executed))
    ran = [cell for cell in executed.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    if [(c.cell_type, c.source) for c in ran] != [(c.cell_type, c.source) for c in source.cells]:
        raise BakeError(f"{job.notebook.name} was edited after its run; run it again")
    count = 0
    for cell, done in zip(source.cells, ran, strict=True):
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}
        if cell.cell_type == "code":
            count += 1
            cell.outputs, cell.execution_count = done.outputs, count
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
    source.metadata = METADATA
    text = nbformat.writes(source).rstrip("\n") + "\n"
    for problem in complaints(source, len(text.encode())):
        raise BakeError(f"{job.notebook.name}: {problem}")
    if job.slug:
        for problem in ledger.unforeseen(ledger.read(job.folder), rooms.claims(job.slug)):
            raise BakeError(problem)
    write(job.notebook, text)
    return job.notebook


def complaints(nb: nbformat.NotebookNode, size: int) -> Iterator[str]:
    """What keeps a notebook of `size` bytes from being committed with its outputs, a clause each."""
    if size > LARGEST:
        yield f"{size / 1e6:.2f} MB with its outputs, and {LARGEST / 1e6:g} MB is the most"
    for number, cell in enumerate(nb.cells):
        if "injected-parameters" in cell.metadata.get("tags", []):
            yield f"cell {number} was injected by a run"
        if path := absolute_path(cell.source):
            yield f"cell {number} has the absolute path {path!r}"
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                said = output.get("evalue") or str(output.get("text", "")).strip().splitlines()[-1:]
                yield f"cell {number} prints an error or a warning: {said}"
            if path := next(filter(None, map(absolute_path, _texts(output))), None):
                yield f"the output of cell {number} has the absolute path {path!r}"


def absolute_path(text: str) -> str | None:
    """The first path of one particular machine in a text, if any."""
    found = re.search(rf"(?:{_ROOTS}[\w.-]|{re.escape(str(checkout()))}/)[^\s'\"<>)]*", text)
    return found and found[0]


def _texts(output) -> Iterator[str]:
    """Everything readable in an output; pictures are not."""
    yield str(output.get("text", ""))
    for kind, data in output.get("data", {}).items():
        if not kind.startswith("image/") or kind == "image/svg+xml":
            yield str(data)
