"""nbval over an executed copy: the checked cell must print the same again."""

import json
import subprocess
import sys


def nbval(tree, path) -> subprocess.CompletedProcess:
    options = ["--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", "-o", "timeout=0"]
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    return subprocess.run(command, cwd=tree.root, env=tree.env, capture_output=True, text=True)


def test_a_true_copy_passes_and_an_altered_checked_cell_fails(tree):
    copy = tree.root / tree("list", "--executed", "smoke").strip()
    result = copy.with_name("ledger.json").read_bytes()
    done = nbval(tree, copy)
    assert done.returncode == 0, done.stdout
    assert copy.with_name("ledger.json").read_bytes() == result
    nb = json.loads(copy.read_text())
    (cell,) = (c for c in nb["cells"] if "# NBVAL_CHECK_OUTPUT" in "".join(c["source"]))
    text = json.dumps(cell["outputs"])
    assert "satisfied" in text
    cell["outputs"] = json.loads(text.replace("satisfied", "undecided", 1))
    copy.write_text(json.dumps(nb))
    done = nbval(tree, copy)
    assert done.returncode == 1
    assert "1 failed" in done.stdout
