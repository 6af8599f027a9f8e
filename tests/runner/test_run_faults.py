"""Runs under fault: what is cut off, edited or short of disk is no result; the next run is the undisturbed one."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import faults
import pytest

from papercore.study import ledger

TESTS = Path(__file__).parents[1]
# A run of the demo whose notebook is not executed anew: its files are put where the kernel would have left them.
_PREPARE = f"""
import filecmp, shutil, sys, threading
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
import faults
from papercore.runner import execute, jobs, keys, promote

job, stop = jobs.plan("demo"), threading.Event()
target, kept = job.promotes_to, Path("kept")
shutil.copytree(job.folder, kept / "run")
shutil.copytree(target, kept / "new")
shutil.copytree(target, kept / "old")
(kept / "old" / "ledger.json").write_text((target / "ledger.json").read_text().replace(job.key, "0" * 64))
(kept / "old" / "gone.csv").write_text("of an older run")
keys.inputs = lambda *arguments: job.inputs

def put(job, limit, stop, cells):
    for file in (kept / "run").iterdir():
        if file.name not in ("DONE", "run.json"):
            shutil.copyfile(file, job.folder / file.name)
    return 0

execute._execute = put

def same(one, other):
    names = [sorted(p.name for p in folder.iterdir()) if folder.is_dir() else None for folder in (one, other)]
    return names[0] == names[1] and not any(filecmp.cmpfiles(one, other, names[0], shallow=False)[1:])

def old():
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(kept / "old", target)

def reset():
    old()
    shutil.rmtree(job.folder, ignore_errors=True)

def run():
    outcome = execute.run(job, lambda *told: None, stop)
    assert outcome.state in ("finished", "found"), outcome

def alone():
    return [path.name for path in target.parent.iterdir()] == ["cpu"]
"""


def injected(tree, code: str) -> int:
    """Run code after what _PREPARE prepares; the number that it prints last."""
    return int(tree.python(f"{_PREPARE}\n{code}").split()[-1])


@faults.linux
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_promotion_cut_off_at_any_step_shows_the_old_result_or_the_new_one(tree, fault):
    code = f"""
old()
for told in faults.steps(lambda: promote.promote(job), target.parent, {fault!r}):
    assert same(target, kept / "old") or same(target, kept / "new"), told
    assert {fault!r} != "full" or told["error"] is None or told["error"][0] == "OSError", told
    promote.promote(job)
    assert same(target, kept / "new") and alone(), told
    old()
print(told["step"])
"""
    assert injected(tree, code) > 6


@faults.linux
def test_a_promotion_for_which_there_is_no_room_leaves_the_old_result(tree):
    code = """
old()
for told in faults.rooms(lambda: promote.promote(job), by=2000):
    assert told["error"][0] == "OSError" and same(target, kept / "old") and alone(), told
print(told["step"])
"""
    assert injected(tree, code) > 10_000


@faults.linux
def test_a_run_for_whose_files_there_is_no_room_is_none(tree):
    code = """
reset()
for told in faults.rooms(run, by=2000):
    assert "disk is full" in told["error"][1] or told["error"][0] == "OSError", told
    assert not execute.finished(job) and same(target, kept / "old"), told
    reset()
print(told["step"])
"""
    assert injected(tree, code) > 10_000


@faults.linux
def test_where_folders_cannot_be_exchanged_a_killed_promotion_loses_neither_result(tree):
    code = """
promote._exchange = lambda one, other: False
old()
absent = 0
for told in faults.steps(lambda: promote.promote(job), target.parent, "killed"):
    if not target.exists():
        absent += 1
        assert same(target.with_name(".cpu-old"), kept / "old"), told
    else:
        assert same(target, kept / "old") or same(target, kept / "new"), told
    copy, shutil.copy = shutil.copy, None  # the next promotion fails at its first copy
    try:
        promote.promote(job)
    except TypeError:
        shutil.copy = copy
    assert same(target, kept / "old") or same(target, kept / "new"), told
    promote.promote(job)
    assert same(target, kept / "new") and alone(), told
    old()
print(absent)
"""
    assert injected(tree, code) == 1


@faults.linux
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_run_cut_off_at_any_step_of_its_end_is_none_or_whole(tree, fault):
    code = f"""
reset()
for told in faults.steps(run, Path.cwd(), {fault!r}):
    if execute.finished(job):
        assert all((job.folder / p.name).read_bytes() == p.read_bytes() for p in (kept / "new").iterdir()), told
    assert same(target, kept / "old") or same(target, kept / "new"), told
    run()
    assert execute.finished(job), told
    assert same(target, kept / "new"), told
    assert {{p.name for p in job.folder.iterdir()}} == {{p.name for p in (kept / "run").iterdir()}}, told
    reset()
print(told["step"])
"""
    assert injected(tree, code) > 20


def test_where_folders_cannot_be_exchanged_a_failing_promotion_takes_its_first_step_back(tree):
    said = tree.python(
        f"""{_PREPARE}
promote._exchange = lambda one, other: False
promote.promote(job)
assert same(target, kept / "new") and alone()
rename, calls = Path.rename, []
def second(self, other):
    calls.append(self)
    if len(calls) == 2:
        raise OSError(5, "Input/output error")
    return rename(self, other)
Path.rename = second
try:
    promote.promote(job)
except OSError as error:
    print(error.strerror)
assert same(target, kept / "new") and alone()
"""
    )
    assert said.strip() == "Input/output error"


@pytest.mark.parametrize("fault", ["edited ledger", "samples of another run", "truncated figure", "missing numbers"])
def test_a_finished_run_that_was_changed_since_is_made_again(finished_tree, tree, fault):
    folder, true = tree.run_folder("demo", "cpu"), finished_tree.run_folder("demo", "cpu")
    if fault == "edited ledger":
        path = folder / "ledger.json"
        path.write_text(path.read_text().replace('"supported"', '"contradicted"'))
    elif fault == "samples of another run":
        shutil.copy(tree.run_folder("demo", "smoke") / "samples.parquet", folder)
    elif fault == "truncated figure":
        path = folder / "differences.png"
        path.write_bytes(path.read_bytes()[:1000])
    else:
        (folder / "differences.csv").unlink()
    shutil.rmtree(tree.promoted)
    assert "finished in" in tree("run", "demo")
    for name in ("samples.parquet", "differences.png", "differences.csv"):
        assert (folder / name).read_bytes() == (true / name).read_bytes() == (tree.promoted / name).read_bytes()
    assert ledger.read(folder)["claims"] == ledger.read(true)["claims"] == ledger.read(tree.promoted)["claims"]


PROMOTED = ["edited ledger", "samples of another run", "truncated figure", "edited numbers", "missing", "one too many"]


@pytest.mark.parametrize("fault", PROMOTED)
def test_a_promoted_result_that_was_changed_since_is_put_right(tree, fault):
    before = {path.name: path.read_bytes() for path in tree.promoted.iterdir()}
    if fault == "edited ledger":
        path = tree.promoted / "ledger.json"
        path.write_text(path.read_text().replace('"supported"', '"contradicted"'))
    elif fault == "samples of another run":
        shutil.copy(tree.run_folder("demo", "smoke") / "samples.parquet", tree.promoted)
    elif fault == "truncated figure":
        (tree.promoted / "differences.png").write_bytes(before["differences.png"][:1000])
    elif fault == "edited numbers":
        (tree.promoted / "differences.csv").write_bytes(before["differences.csv"].replace(b"1", b"2"))
    elif fault == "missing":
        (tree.promoted / "differences.png").unlink()
    else:
        (tree.promoted / "older.csv").write_text("of an older run")
    assert "finished run found" in tree("run", "demo")
    assert {path.name: path.read_bytes() for path in tree.promoted.iterdir()} == before


def test_a_promoted_result_from_another_machine_stays(tree):
    path = tree.promoted / "ledger.json"
    stored = json.loads(path.read_text())
    stored["provenance"]["hardware"] = {"machine": "another"}
    path.write_text(json.dumps(stored))
    assert "finished run found" in tree("run", "demo")
    assert json.loads(path.read_text()) == stored


@pytest.mark.parametrize("seal", ["", "{}", "[]", "5", '{"run.json": "0"}', '{"../x": "0"}'])
def test_a_seal_that_names_not_the_files_is_none(tree, seal):
    (tree.run_folder() / "DONE").write_text(seal)
    said = tree.python(
        "from papercore.runner import execute, jobs\nprint(execute.finished(jobs.plan('demo', 'smoke')))"
    )
    assert said.strip() == "False"


def test_a_full_disk_is_said_in_one_sentence(tree):
    said = tree.python(
        """
import errno, threading
from papercore.runner import batch, display, execute, jobs
from rich.console import Console
def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")
execute._execute = full
console = Console(width=200)
outcomes = batch.run([jobs.plan("other", "smoke")], display.Display(console))
display.summary(console, outcomes)
"""
    )
    assert "the disk is full: free some space for .papercore and figures, then run again" in said
    assert "Traceback" not in said


def test_a_run_that_this_machine_cannot_hold_starts_no_kernel_and_loses_nothing(tree):
    claims = tree.root / "papercore/papers/other/claims.yaml"
    text = claims.read_text().replace("cpu: {minutes: 0.2, memory_gb: 0.3", "cpu: {minutes: 1, memory_gb: 1e5")
    claims.write_text(text)
    said = tree("run", "--all", code=1)
    assert "it needs 100000 GB of memory, and this machine has" in said
    assert "1 found, 1 failed" in said
    assert not list(tree.runs.glob(f"{tree.key('other', 'cpu')}*/"))
    assert "finished in" in tree("run", "other", "-p", "n_texts=50")  # what is declared speaks of the profile alone


ASSET = """
missing-data:
  kind: dataset
  filename: data.txt
  size: 5
  sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
  licence: CC0-1.0
  sources:
    - {package: missing-data==1.0, archive: wheel, member: data.txt}
"""


def test_an_asset_that_cannot_be_had_leaves_its_paper_untested_and_the_rest_green(tree, tmp_path):
    (tree.root / "papercore/papers/demo/assets.yaml").write_text(ASSET)
    tree.insert("papercore.fetch('missing-data').read_text()")
    links = tmp_path / "links"
    links.mkdir()
    tree.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}
    before = {path.name: path.read_bytes() for path in tree.promoted.iterdir()}
    said = tree("run", "--all", "--profile", "smoke")
    assert "demo   untested in" in said
    assert "asset unavailable: missing-data could not be fetched" in said
    assert "1 finished, 1 untested" in said
    folder = tree.run_folder()
    rows = ledger.read(folder)["claims"]
    assert [(row["verdict"], row["outcome"]) for row in rows] == [("untested", None)]
    assert rows[0]["reason"].startswith("asset unavailable: missing-data")
    assert ledger.read(folder)["key"] == folder.name
    assert not (folder / "DONE").exists()
    assert [Path(line).name for line in tree("list", "--executed", "smoke").split()] == [tree.notebook("other").name]
    assert "untested" in tree("run", "demo", "--profile", "smoke", code=1)  # nothing that was asked for is known
    assert {path.name: path.read_bytes() for path in tree.promoted.iterdir()} == before
    with zipfile.ZipFile(links / "missing_data-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("data.txt", "hello")
    assert "finished in" in tree("run", "demo", "--profile", "smoke")


def test_two_runs_of_everything_at_once_in_one_checkout(finished_tree, tree):
    tree.insert("import time\ntime.sleep(1)", "other")
    shutil.rmtree(tree.runs)
    shutil.rmtree(tree.promoted)
    command = tree.command("run", "--all", "--jobs", "2")
    started = [subprocess.Popen(command, cwd=tree.root, env=tree.env, stdout=-1, text=True) for _ in range(2)]
    said = "".join(process.communicate()[0] for process in started)
    assert [process.returncode for process in started] == [0, 0], said
    assert (said.count("finished in"), said.count("finished run found")) == (2, 2)
    true = ledger.read(finished_tree.run_folder("demo", "cpu"))["claims"]
    assert ledger.read(tree.run_folder("demo", "cpu"))["claims"] == ledger.read(tree.promoted)["claims"] == true
    assert [path.name for path in tree.promoted.parent.iterdir()] == ["cpu"]


def test_four_kernels_at_once_from_one_folder(finished_tree, tree):
    names = ["demo", "other", "third", "fourth"]
    tree("new", "third")
    tree("new", "fourth")
    shutil.rmtree(tree.runs)
    for name in names:  # each waits until all four run
        tree.insert(
            "import os, pathlib, time\n"
            f"pathlib.Path(os.environ['PAPERCORE_RUN_DIR'], '../here-{name}').touch()\n"
            "while len(list(pathlib.Path(os.environ['PAPERCORE_RUN_DIR'], '..').glob('here-*'))) < 4:\n"
            "    time.sleep(0.05)",
            name,
        )
    assert "4 finished" in tree("run", "--all", "--profile", "smoke", "--jobs", "4", "--cell-timeout", "120")
    true = ledger.read(finished_tree.run_folder())["claims"]
    for name in names:
        folder = tree.run_folder(name)
        assert ledger.read(folder)["slug"] == name
        assert ledger.read(folder)["claims"] == true  # the demos are alike, and so are their seeds


def test_four_kernels_that_readers_started_share_a_scratch_folder_and_mix_nothing(tree):
    cell = (
        "import pathlib, time\n"
        "pathlib.Path('../here-' + str(seed)).touch()\n"
        "while len(list(pathlib.Path('..').glob('here-*'))) < 4:\n"
        "    time.sleep(0.05)\n"
        "for _ in range(20): study.ledger()"
    )
    tree.insert(cell, at=11)
    tree.python(
        """
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import papermill
from papercore.runner import kernel

def read(seed):
    notebooks, stop = Path("notebooks").absolute(), threading.Event()
    path = next(notebooks.glob("*_demo.ipynb"))
    with kernel.started(notebooks, {}, Path(f"record-{seed}"), stop) as (manager, _):
        papermill.execute_notebook(path, f"out-{seed}.ipynb", parameters={"seed": seed, "n_texts": 50 + seed},
                                   km=manager, kernel_name="python3", language="python", progress_bar=False,
                                   execution_timeout=120)

with ThreadPoolExecutor(4) as pool:
    list(pool.map(read, range(4)))
"""
    )
    scratch = tree.root / ".papercore" / "scratch" / "demo"
    found = tree.python(f"from papercore.study import ledger\nprint(ledger.recompute({str(scratch)!r}))")
    assert found.strip() == "[]"
    assert {path.suffix for path in scratch.iterdir()} == {".png", ".csv", ".json", ".parquet"}
