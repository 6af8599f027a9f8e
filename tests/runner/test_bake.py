"""Baking puts outputs back and nothing of the run; what must not be committed is refused."""

import json

import nbformat
import pytest

from papercore.runner import bake


def test_bake_puts_outputs_back_and_strips_the_run(tree):
    source, key = nbformat.read(tree.notebook(), as_version=4), tree.key("demo", "cpu")
    assert "baked notebooks/11_demo.ipynb" in tree("bake", "demo")
    text = tree.notebook().read_text()
    baked = nbformat.reads(text, as_version=4)
    assert [(c.id, c.cell_type, c.source) for c in baked.cells] == [(c.id, c.cell_type, c.source) for c in source.cells]
    code = [cell for cell in baked.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any("C1" in str(cell.outputs) for cell in code)
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    for word in ('"papermill":', "injected-parameters", "start_time", "iopub", str(tree.root)):
        assert word not in text
    assert set(json.loads(text)["metadata"]) == {"kernelspec"}
    assert tree.key("demo", "cpu") == key
    tree("bake", "demo")
    assert tree.notebook().read_text() == text


def test_an_output_that_must_not_be_committed_is_refused_and_nothing_is_written(tree):
    tree.insert("import os\nprint(os.getcwd())")
    before = tree.notebook().read_bytes()
    assert "has the absolute path" in tree("bake", "demo", code=1)
    assert tree.notebook().read_bytes() == before


def test_an_unforeseen_void_is_refused(tree):
    nb = nbformat.read(tree.notebook(), as_version=4)
    for cell in nb.cells:
        cell.source = cell.source.replace('control=arms["shuffled"]', 'control=arms["treated"]')
    nbformat.write(nb, tree.notebook())
    assert "C1 is void and claims.yaml has no `expect_void`" in tree("bake", "demo", code=1)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"output_type": "stream", "name": "stderr", "text": "UserWarning: careful"}, "an error or a warning"),
        ({"output_type": "error", "ename": "ValueError", "evalue": "no"}, "an error or a warning: no"),
        ({"output_type": "stream", "name": "stdout", "text": "in /tmp/x"}, "absolute path '/tmp/x'"),
        ({"output_type": "display_data", "data": {"text/html": "<a href='/root/y'>"}}, "absolute path '/root/y"),
    ],
)
def test_warnings_errors_and_paths_in_outputs_are_seen(output, said):
    output = nbformat.v4.new_output(**output)
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    (found,) = bake.complaints(nb, 1000)
    assert said in found
    assert list(bake.complaints(nbformat.v4.new_notebook(), 1_600_000)) == [
        "1.60 MB with its outputs, and 1.5 MB is the most"
    ]


@pytest.mark.parametrize("text", ["see /home/ann/x.csv", "'/tmp/a'", r"C:\Users\x", "(/usr/lib/python3)"])
def test_absolute_paths_are_seen(text):
    assert bake.absolute_path(text)


def test_a_path_into_the_checkout_is_seen_wherever_that_is(monkeypatch):
    monkeypatch.setattr(bake, "checkout", lambda: "/data/ann/papercore")
    assert bake.absolute_path("saved /data/ann/papercore/figures/x.png.") == "/data/ann/papercore/figures/x.png."
    assert bake.absolute_path("saved /data/ann/other") is None


@pytest.mark.parametrize("text", ["https://example.org/home/ann", "a/home/b", "figures/gcs/cpu", "1/2", "</tr>", "~/x"])
def test_what_is_no_absolute_path_is_not(text):
    assert bake.absolute_path(text) is None
