"""One run: its folder, DONE, resume, faults, and what is promoted from it."""

import json
import signal
import subprocess
import time

import psutil
import pytest

from papercore.study import ledger

RESULT = {"differences.png", "differences.csv", "ledger.json", "samples.parquet"}


def rows(folder) -> list[dict]:
    return ledger.read(folder)["claims"]


def ended(process: psutil.Process) -> bool:
    """Whether the process runs no more; as a zombie it only waits for a parent to take note."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_finished_run_has_everything_and_done(finished_tree):
    folder = finished_tree.run_folder()
    assert {path.name for path in folder.iterdir()} == RESULT | {finished_tree.notebook().name, "run.json", "DONE"}
    about = json.loads((folder / "run.json").read_text())
    assert about["command"] == ["papercore", "run", "demo", "--profile", "smoke"]
    assert about["key"] == folder.name == ledger.read(folder)["key"]
    assert about["budget_seconds"] == 40
    assert about["seconds"] > 0
    assert about["peak_memory_bytes"] > 20e6
    assert about["inputs"]["parameters"]["n_texts"] == 50


def test_a_finished_run_is_found_and_force_runs_again(tree):
    folder = tree.run_folder()
    said = tree("run", "demo", "--profile", "smoke")
    assert f"demo: finished run found (key {folder.name[:8]})" in said
    assert "--force runs again" in said
    done = (folder / "DONE").stat().st_mtime_ns
    assert "finished in" in tree("run", "demo", "--profile", "smoke", "--force")
    assert (folder / "DONE").stat().st_mtime_ns > done


def test_without_done_there_is_no_result(tree):
    folder = tree.run_folder()
    before = rows(folder)
    (folder / "DONE").unlink()
    (folder / "ledger.json").write_text("{}")
    (folder / "left.png").write_text("of a run that was killed")
    assert "finished in" in tree("run", "demo", "--profile", "smoke")
    assert rows(folder) == before
    assert not (folder / "left.png").exists()


def test_only_unaltered_cpu_and_paper_runs_are_promoted(tree):
    assert {path.name for path in tree.promoted.iterdir()} == RESULT
    assert not (tree.promoted.parent / "smoke").exists()
    before = (tree.promoted / "ledger.json").read_bytes()
    tree("run", "demo", "-p", "n_texts=60")
    assert (tree.promoted / "ledger.json").read_bytes() == before
    assert len(list(tree.promoted.parent.iterdir())) == 1


def test_a_promotion_that_was_cut_off_is_made_up_for(tree):
    left = tree.promoted.parent / ".cpu-left"
    tree.promoted.rename(left)
    assert "finished run found" in tree("run", "demo")
    assert {path.name for path in tree.promoted.iterdir()} == RESULT
    assert not left.exists()


def test_a_promotion_that_fails_leaves_the_old_result_whole(tree):
    (tree.promoted / "old.csv").write_text("old")
    said = tree.python(
        """
import shutil
from papercore.runner import jobs, promote
def full(source, target):
    if source.suffix == ".parquet":
        raise OSError(28, "No space left on device")
    shutil.copyfile(source, target / source.name)
promote.shutil.copy = full
try:
    promote.promote(jobs.plan("demo"))
except OSError as err:
    print(err.strerror)
"""
    )
    assert said.strip() == "No space left on device"
    assert {path.name for path in tree.promoted.iterdir()} == RESULT | {"old.csv"}
    assert [path.name for path in tree.promoted.parent.iterdir()] == ["cpu"]


def test_sources_edited_during_a_run_leave_it_without_result(tree):
    tree.insert("with open('../papercore/papers/demo/data.py', 'a') as file:\n    file.write('# edited\\n')")
    before = tree.key()
    assert "inputs of this run (modules) were edited while it ran" in tree("run", "demo", "--profile", "smoke", code=1)
    assert tree.key() != before
    assert not [path for path in tree.runs.glob("*/DONE") if path.parent.name.startswith(before)]


def test_a_run_lets_go_of_its_lock_and_an_old_result_that_stays_is_said(tree):
    said = tree.python(
        """
import threading
from papercore.runner import execute, jobs
job = jobs.plan("demo", "smoke")
locks, lock = [], execute._lock
execute._lock = lambda key: locks.append(lock(key)) or locks[-1]
print(execute.run(job, print, threading.Event()).state)
print("held" if locks[0].is_locked else "free")
def busy(*arguments, **options):
    raise OSError(16, "Device or resource busy")
execute.shutil.rmtree = busy
try:
    execute.run(job, print, threading.Event(), force=True)
except OSError as err:
    print(err.strerror)
"""
    )
    assert said.split("\n")[:3] == ["found", "free", "Device or resource busy"]


def test_dry_run_starts_nothing(tree):
    said = tree("run", "other", "--dry-run", "-p", "effect=0.25")
    assert "other: cpu" in said
    assert "to run" in said
    assert "effect = 0.25" in said
    assert not any(path.name.startswith(tree.key("other", "cpu")) for path in tree.runs.iterdir())


def test_two_runs_of_one_key_do_not_collide(tree):
    tree.insert("import time\ntime.sleep(1)")
    started = [
        subprocess.Popen(
            tree.command("run", "demo", "--profile", "smoke"), cwd=tree.root, env=tree.env, stdout=-1, text=True
        )
        for _ in range(2)
    ]
    said = sorted(process.communicate()[0] for process in started)
    assert [process.returncode for process in started] == [0, 0]
    assert sum("finished in" in text for text in said) == 1
    assert sum("waits for another run" in text and "finished run found" in text for text in said) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_cut_off_leaves_no_result_and_the_next_one_is_whole(finished_tree, tree, how):
    tree.insert("import os, time\ntime.sleep(60 if os.environ.get('SLOW') else 0)")
    runner = subprocess.Popen(
        tree.command("run", "demo", "other", "--profile", "smoke"),
        cwd=tree.root,
        env=tree.env | {"SLOW": "1"},
        # A shell that started the tests in the background has them ignore SIGINT, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    record = None
    while record is None:
        assert runner.poll() is None
        time.sleep(0.1)
        record = next((p for p in tree.runs.glob("*/kernel.json") if "pid" in json.loads(p.read_text())), None)
    kernel = psutil.Process(json.loads(record.read_text())["pid"])
    runner.send_signal(how)
    assert runner.wait() == (-9 if how == signal.SIGKILL else 130)
    assert not (record.parent / "DONE").exists()
    tree("run", "demo", "--profile", "smoke")
    assert ended(kernel)
    assert (record.parent / "DONE").exists()
    assert not record.exists()
    assert rows(record.parent) == rows(finished_tree.run_folder())
