"""Several runs: a failing one is reported and does not stop the others; wrong use is refused before a kernel starts."""

import re

import pytest


def test_failures_stand_beside_a_good_run(tree):
    for name, code in {
        "broken": "raise ValueError('arms differ\\nin length')",
        "hangs": "import time\ntime.sleep(60)",
        "dies": "import os\nos.kill(os.getpid(), 9)",
        "silent": None,
    }.items():
        tree("new", name)
        if code:
            tree.insert(code, name)
    quiet = tree.notebook("silent")
    quiet.write_text(quiet.read_text().replace("study.ledger()", "None"))
    said = tree("run", "--all", "--profile", "smoke", "--jobs", "3", "--cell-timeout", "29.5", code=1)
    assert re.search(r"other +finished in", said)
    assert re.search(r"13_broken.ipynb +5 +ValueError: arms differ *\n", said)
    assert re.search(r"14_hangs.ipynb +5 +no end after 30 s", said)
    assert re.search(r"15_dies.ipynb +5 +the kernel died", said)
    assert re.search(r"16_silent.ipynb +- +LedgerError: no ledger.json", said)
    assert "1 finished, 1 found, 4 failed" in said
    assert len(re.findall("traceback: .papercore/runs/", said)) == 4


def test_a_notebook_without_a_room_runs_in_all_and_is_found_again(tree):
    path = tree.notebook().with_name("00_start_here.ipynb")
    path.write_text(
        '{"cells": [{"cell_type": "code", "execution_count": null, "id": "a", "metadata": {}, "outputs": [],'
        ' "source": "import papercore"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    )
    assert re.search("start_here +finished in", tree("run", "start_here", "demo", "--profile", "smoke"))
    assert "start_here: finished run found" in tree("run", "start_here", "-p", "n_texts=60")
    named = re.findall(r"^(\w+): smoke", tree("run", "--all", "--profile", "smoke", "--dry-run"), re.M)
    assert named == ["demo", "other", "start_here"]  # last: it reads what the others leave


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "-p", "n_texts=many"], "demo: n_texts = 'many'"),
        (["demo", "-p", "n_texts=3"], "demo: n_texts = 3"),
        (["demo", "-p", "layer=12"], "demo has no parameter 'layer' (value 12); it has profile"),
        (["demo", "-p", "profile=paper"], "--profile"),
        (["demo", "-p", "n_texts"], "-p takes NAME=VALUE"),
        (["demo", "-p", "n_texts=[1"], "-p takes NAME=VALUE"),
        (["demo", "--profile", "huge"], "no profile 'huge'; the profiles are smoke, cpu, paper"),
        (["nothing"], "no notebook 'nothing'; the notebooks here are demo, other"),
        ([], "name one or more papers, or say --all"),
        (["demo", "--all"], "name one or more papers, or say --all"),
    ],
)
def test_wrong_use_is_one_sentence_and_starts_nothing(finished_tree, arguments, said):
    before = sorted(finished_tree.runs.iterdir())
    text = finished_tree("run", *arguments, code=2)
    assert said in text
    assert len(text.strip().splitlines()) == 1
    assert sorted(finished_tree.runs.iterdir()) == before
