"""The notebook contract: every committed notebook is checked, and the checks are seen to fail on damaged ones."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from papercore.runner import bake, new
from papercore.study import ledger, parameters, render, rooms
from papercore.study.parameters import BaseParameters

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
PAPERS = [path for path in NOTEBOOKS if not path.name.startswith("00_")]
LONGEST_CELL = 20  # lines; the parameters cell has one line a parameter, however many


def code(nb, tag: str | None = None) -> list[str]:
    """Sources of the code cells, or of those with a tag."""
    cells = [cell for cell in nb.cells if cell.cell_type == "code"]
    return [cell.source for cell in cells if tag is None or tag in cell.metadata.get("tags", [])]


def place(nb, text: str) -> int:
    """Index of the one cell that has the text; -1 when there is not exactly one."""
    found = [i for i, cell in enumerate(nb.cells) if text in cell.source]
    return found[0] if len(found) == 1 else -1


def form(nb) -> Iterator[str]:
    """What is wrong with the form of any notebook."""
    for number, cell in enumerate(nb.cells):
        tags = cell.metadata.get("tags", [])
        lines = cell.source.count("\n") + 1
        if lines > LONGEST_CELL and "parameters" not in tags:
            yield f"cell {number} has {lines} lines"
        if set(cell.metadata) - {"tags"}:
            yield f"cell {number} has the metadata {sorted(cell.metadata)}"
    if set(nb.metadata) - {"kernelspec", "language_info"}:
        yield f"the notebook has the metadata {sorted(nb.metadata)}"
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "its kernel is not python3"
    ran = [cell.execution_count for cell in nb.cells if cell.cell_type == "code"]
    if ran != list(range(1, len(ran) + 1)) or not any(cell.get("outputs") for cell in nb.cells):
        yield "it is not committed with the outputs of one run from top to bottom: bake it"


def parts(nb, slug: str) -> Iterator[str]:
    """What a paper's notebook lacks, or has in the wrong order."""
    wanted = {
        "the paper card": place(nb, f'card("{slug}")'),
        "one cell tagged parameters": next(
            (i for i, cell in enumerate(nb.cells) if "parameters" in cell.metadata.get("tags", [])), -1
        ),
        "Study.open": place(nb, f'Study.open("{slug}", parameters=globals())'),
        "a claim": next((i for i, cell in enumerate(nb.cells) if "study.claim(" in cell.source), -1),
        "study.ledger()": place(nb, "study.ledger()"),
        "the checked cell": place(nb, "# NBVAL_CHECK_OUTPUT"),
        "what this scale cannot show": place(nb, "## What this scale cannot show"),
        "exercises": place(nb, "## Exercises"),
        "a solution": next((i for i, cell in enumerate(nb.cells) if "solution" in cell.metadata.get("tags", [])), -1),
        "study.provenance()": place(nb, "study.provenance()"),
    }
    yield from (f"{name} is missing, or stands there twice" for name, at in wanted.items() if at < 0)
    # The two headings may share a cell.
    there = [at for at in wanted.values() if at >= 0]
    if there != sorted(there):
        yield f"its parts do not stand in this order: {', '.join(wanted)}"
    if len(code(nb, "parameters")) != 1:
        yield "it has not exactly one cell tagged parameters"


def schema(nb, model: type[BaseParameters]) -> Iterator[str]:
    """How the parameters cell differs from the room's schema; every line needs a comment."""
    cell = code(nb, "parameters")[0]
    tokens = tokenize.generate_tokens(io.StringIO(cell).readline)
    comments = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    values = {}
    for node in ast.parse(cell).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            yield f"line {node.lineno} of the parameters cell is not `name = value`"
            continue
        values[node.targets[0].id] = ast.literal_eval(node.value)
        if not comments & set(range(node.lineno, node.end_lineno + 1)):
            yield f"{node.targets[0].id} has no comment"
    if values != (defaults := model().model_dump()):
        for name in {**values, **defaults}:
            if values.get(name) != defaults.get(name) or (name in values) != (name in defaults):
                yield f"{name} is {values.get(name)!r} in the cell and {defaults.get(name)!r} in parameters.py"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_form_and_outputs(path):
    nb = nbformat.read(path, as_version=4)
    assert [*form(nb), *bake.complaints(nb, path.stat().st_size)] == []


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_the_order_of_a_paper(path):
    assert list(parts(nbformat.read(path, as_version=4), path.stem[3:])) == []


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_the_parameters_cell_is_the_schema(path):
    assert list(schema(nbformat.read(path, as_version=4), parameters.schema(path.stem[3:]))) == []


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_profile_resolves(path):
    for profile in parameters.PROFILES:
        assert parameters.resolve(path.stem[3:], profile).profile == profile


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_the_committed_cpu_ledger_holds(path):
    slug, folder = path.stem[3:], ROOT / "figures" / path.stem[3:] / "cpu"
    found = ledger.read(folder)
    assert ledger.recompute(folder) == []
    assert ledger.unforeseen(found, rooms.claims(slug)) == []
    assert found["parameters"] == parameters.resolve(slug, "cpu").model_dump(mode="json")
    drawn = {file.stem for file in folder.glob("*.png")}
    assert drawn == {file.stem for file in folder.glob("*.csv")} != set()


@pytest.mark.parametrize(
    "path",
    [path for path in PAPERS if (ROOT / "figures" / path.stem[3:] / "cpu" / "ledger.json").is_file()],
    ids=lambda path: path.stem,
)
def test_the_checked_cell_prints_the_committed_ledger(path):
    nb = nbformat.read(path, as_version=4)
    (cell,) = (c for c in nb.cells if "# NBVAL_CHECK_OUTPUT" in c.source and "study.check()" in c.source)
    printed = "".join(output["text"] for output in cell.outputs)
    assert printed == render.checked(ledger.read(ROOT / "figures" / path.stem[3:] / "cpu")) + "\n"


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_the_committed_card_is_todays(path):
    nb, slug = nbformat.read(path, as_version=4), path.stem[3:]
    (output,) = nb.cells[place(nb, f'card("{slug}")')].outputs
    assert output.data["text/markdown"] == render.card(slug).data


def test_every_room_has_a_notebook_and_every_notebook_a_room():
    assert {path.stem[3:] for path in PAPERS} == set(rooms.slugs())
    numbers = [path.name[:2] for path in NOTEBOOKS]
    assert len(numbers) == len(set(numbers))


class Demo(BaseParameters):
    """The schema of the demo's template."""

    budget_seconds: float = 60
    n_texts: int = 400
    effect: float = 0.5


@pytest.fixture
def demo():
    template = Path(new.__file__).parent / "template" / "notebook.py"
    nb = nbformat.reads(new.notebook(template.read_text().replace("SLUG", "demo")), as_version=4)
    for number, cell in enumerate((cell for cell in nb.cells if cell.cell_type == "code"), 1):
        cell.execution_count, cell.outputs = number, [nbformat.v4.new_output("stream", text="said\n")]
    return nb


def test_a_good_notebook_has_nothing_wrong(demo):
    assert [*form(demo), *parts(demo, "demo"), *schema(demo, Demo), *bake.complaints(demo, 1000)] == []


def replace(old: str, new: str):
    def damage(nb) -> None:
        assert any(old in cell.source for cell in nb.cells)
        for cell in nb.cells:
            cell.source = cell.source.replace(old, new)

    return damage


def swap(nb) -> None:
    opens = place(nb, "Study.open")
    nb.cells[opens], nb.cells[opens - 1] = nb.cells[opens - 1], nb.cells[opens]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (replace("n_texts = 400", "n_texts = 401"), "n_texts is 401 in the cell and 400 in parameters.py"),
        (replace("effect = 0.5 ", "effekt = 0.5 "), "effekt is 0.5 in the cell and None"),
        (replace("seed = 0  # seed of everything random", "seed = 0"), "seed has no comment"),
        (swap, "its parts do not stand in this order"),
        (replace("# NBVAL_CHECK_OUTPUT", "#"), "the checked cell is missing"),
        (replace("## Exercises", "## More"), "exercises is missing"),
        (replace("study.ledger()", "\n" * 20 + "study.ledger()"), "has 21 lines"),
        (replace("study.ledger()", "open('/home/ann/x')"), "has the absolute path"),
        (lambda nb: nb.cells[-1].metadata.update(papermill={}), "has the metadata ['papermill']"),
        (lambda nb: nb.cells[-1].update(execution_count=99), "bake it"),
        (lambda nb: nb.cells[2].metadata.update(tags=[]), "it has not exactly one cell tagged parameters"),
        (lambda nb: nb.cells[2].metadata.update(tags=["injected-parameters"]), "was injected"),
        (lambda nb: nb.cells[-1].outputs[0].update(name="stderr"), "prints an error or a warning"),
    ],
)
def test_damage_is_seen(demo, damage, said):
    damage(demo)
    wrong = [*form(demo), *parts(demo, "demo"), *bake.complaints(demo, 1000)]
    wrong += schema(demo, Demo) if code(demo, "parameters") else []
    assert any(said in line for line in wrong), wrong
