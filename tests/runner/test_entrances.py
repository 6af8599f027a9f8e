"""Other ways into a notebook than the command: bare papermill, from the notebooks folder and from the root."""

import subprocess
import sys

import nbformat
import pytest

from papercore.study import ledger, render


@pytest.mark.parametrize("folder", ["notebooks", "."])
def test_bare_papermill_gives_what_the_command_gives(tree, tmp_path, folder):
    executed = tmp_path / "out.ipynb"
    profile = tree.root / "papercore" / "papers" / "demo" / "profiles" / "smoke.yaml"
    command = [sys.executable, "-m", "papermill", str(tree.notebook()), str(executed), "-f", str(profile)]
    done = subprocess.run(command, cwd=tree.root / folder, env=tree.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(executed, as_version=4).cells
    (cell,) = (cell for cell in cells if "# NBVAL_CHECK_OUTPUT" in cell.source)
    printed = "".join(output["text"] for output in cell.outputs)
    assert printed == render.checked(ledger.read(tree.run_folder())) + "\n"
