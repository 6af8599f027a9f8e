"""Forty kills at random moments of a run, of the runner or of its kernel: the next whole run is an undisturbed one."""

import contextlib
import json
import random
import subprocess
import time

import psutil
import pytest

from papercore.study import ledger

SEEDS, KILLS = range(8), 5  # a whole run follows each five kills
FILES = ("samples.parquet", "differences.png", "differences.csv")


@pytest.fixture(scope="module")
def battered(finished_tree, tmp_path_factory):
    """A checkout for all the kills, one after the other, and the seconds that an undisturbed run takes here."""
    tree = finished_tree.copy(tmp_path_factory.mktemp("battered") / "checkout")
    start = time.monotonic()
    tree("run", "demo", "--force")
    return tree, time.monotonic() - start


def left_behind(tree) -> list[psutil.Process]:
    """Kernels of this checkout that still run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and "ipykernel_launcher" in " ".join(process.cmdline()):
                found += [process] if process.cwd().startswith(str(tree.root)) else []
    return found


def kernel_of(tree) -> psutil.Process | None:
    for record in tree.runs.glob("*/kernel.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, psutil.Error):
            return psutil.Process(json.loads(record.read_text())["pid"])
    return None


def kill(tree, rng: random.Random, seconds: float) -> str:
    """Start a run and kill it at a random moment; says what was killed and when."""
    victim, moment = rng.choice(["runner", "kernel"]), rng.uniform(0, 1.05)
    log = tree.root.parent / "said.txt"  # not a pipe: a kernel that was left holds it open
    with log.open("w") as out:
        runner = subprocess.Popen(
            tree.command("run", "demo", "--force"), cwd=tree.root, env=tree.env, stdout=out, stderr=subprocess.STDOUT
        )
    with contextlib.suppress(subprocess.TimeoutExpired):
        runner.wait(moment * seconds)
    kernel = kernel_of(tree) if victim == "kernel" else None
    if kernel:
        with contextlib.suppress(psutil.Error):
            kernel.kill()
    else:  # there is none at this moment
        runner.kill()
    runner.wait()
    assert "Traceback" not in log.read_text()
    return f"{victim}{'' if kernel or victim == 'runner' else ' (runner)'} at {moment:.2f}"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_run_after_five_kills_is_an_undisturbed_one(battered, finished_tree, seed):
    tree, seconds = battered
    rng = random.Random(seed)
    for _ in range(KILLS):
        print(kill(tree, rng, seconds))
    tree("run", "demo")
    true, folder = finished_tree.run_folder("demo", "cpu"), tree.run_folder("demo", "cpu")
    for place in (folder, tree.promoted):
        assert ledger.read(place)["claims"] == ledger.read(true)["claims"]
        assert {name: (place / name).read_bytes() for name in FILES} == {
            name: (true / name).read_bytes() for name in FILES
        }
    assert {path.name for path in folder.iterdir()} == {path.name for path in true.iterdir()}
    assert [path.name for path in tree.promoted.parent.iterdir()] == ["cpu"]
    assert not left_behind(tree)
