"""A run's key covers what its result follows from, and nothing else."""

import json
import os

import nbformat
import pytest

from papercore.runner import keys

DEMO = "papercore/papers/demo"
COUNTS = [
    f"{DEMO}/claims.yaml",
    f"{DEMO}/data.py",
    f"{DEMO}/assets.yaml",
    f"{DEMO}/recorded.csv",  # a new file
    "papercore/study/statistics.py",
    "papercore/models/read.py",  # behind the lazy front door
    "papercore/assets/fetch.py",
    "papercore/__init__.py",
    "constraints.txt",
]
DOES_NOT = [f"{DEMO}/.DS_Store", "papercore/papers/other/data.py", "papercore/cli.py", "papercore/runner/display.py"]
# Appends a line to each file in turn and says whether the key of demo's smoke run differs from the one before.
_SCRIPT = """
import json, pathlib
from papercore.runner import jobs, keys
def key():
    keys._graph.cache_clear()
    return jobs.plan("demo", "smoke").key
found = {}
for name in %r:
    before, path = key(), pathlib.Path(name)
    path.open("a").write("\\n# one more line\\n")
    found[name] = key() != before
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def changed(finished_tree, tmp_path_factory) -> dict[str, bool]:
    tree = finished_tree.copy(tmp_path_factory.mktemp("keys") / "checkout")
    return json.loads(tree.python(_SCRIPT % (COUNTS + DOES_NOT)))


@pytest.mark.parametrize("path", COUNTS)
def test_code_data_and_lock_change_the_key(changed, path):
    assert changed[path]


@pytest.mark.parametrize("path", DOES_NOT)
def test_other_rooms_and_the_runner_do_not(changed, path):
    assert not changed[path]


def test_outputs_do_not_change_the_key_and_sources_do(tree):
    before, path = tree.key(), tree.notebook()
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text="said")], 7
    nbformat.write(nb, path)
    assert tree.key() == before
    tree.insert("1 + 1")
    assert tree.key() != before


def test_parameters_and_profile_change_the_key_and_the_default_written_out_does_not(finished_tree):
    tree = finished_tree
    cpu = tree.key("demo", "cpu")
    assert len({tree.key("demo", "smoke"), cpu, tree.key("demo", "cpu", "-p", "n_texts=399")}) == 3
    assert tree.key("demo", "cpu", "-p", "n_texts=400") == cpu


def test_a_catalogue_entry_counts_where_its_name_is_spelled(tree):
    tree.insert("model = 'smollm2-135m-instruct'")
    before = tree.key("other"), tree.key()
    catalogue = tree.root / "papercore" / "assets" / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace("licence: Apache-2.0", "licence: another"))
    assert [was == now for was, now in zip(before, (tree.key("other"), tree.key()), strict=True)] == [True, False]


def test_files_and_folders_that_parameters_name_count_by_content(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    values = {"model": str(model), "more": ["config.json", "~/model"], "seed": 0, "text": "x" * 5000, "none": ""}
    seen = [keys.named(values, model)]
    assert set(seen[0]) == {str(model), "config.json", "~/model"}
    assert keys.named(values, model) == seen[0]
    (model / "config.json").write_text("[]")  # of the same size
    seen.append(keys.named(values, model))
    assert all(seen[0][name] != seen[1][name] for name in seen[0])
    (model / "config.json").rename(model / "other.json")
    assert keys.named(values, model)[str(model)] != seen[1][str(model)]
    monkeypatch.setattr(keys, "_LARGE", 1)
    large = keys.named("other.json", model)
    os.utime(model / "other.json", ns=(1, 1))
    assert keys.named("other.json", model) != large


def test_what_a_parameter_names_is_in_the_key(tree):
    parameters = tree.root / DEMO / "parameters.py"
    parameters.write_text(parameters.read_text() + '    texts: str = Field("texts.csv", description="file")\n')
    before = tree.key()
    (tree.root / "notebooks" / "texts.csv").write_text("a")
    assert tree.key() != before


def test_imports_are_read_from_code_cells_that_parse():
    cells = ["%matplotlib inline\nfrom papercore.study import ledger", "import papercore.assets.fetch", "not python ("]
    assert keys.imports(cells) == {"papercore.study", "papercore.study.ledger", "papercore.assets.fetch"}


def test_the_closure_has_what_is_imported_and_the_packages_above_it():
    found = set(keys.closure(["papercore.study.ledger"]))
    assert {"papercore", "papercore.study", "papercore.study.samples", "papercore.study.claims"} <= found
    assert not any(name.startswith(("papercore.runner", "papercore.papers.", "papercore.cli")) for name in found)


def test_the_closure_of_the_front_door_reaches_every_floor_that_it_opens():
    found = set(keys.closure(["papercore"]))
    assert {"papercore.models.read", "papercore.study.study", "papercore.study.show", "papercore.assets.fetch"} <= found
