"""The command: quick to start, and one sentence where it cannot do what it is asked."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from papercore.study import parameters, rooms

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "nnsight", "sklearn", "pandas", "papermill", "matplotlib", "numpy")


def python(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(cwd), "COLUMNS": "200", **env}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True)


_HELP = "from papercore.cli import app\ntry: app(['--help'])\nexcept SystemExit: pass"


@pytest.mark.parametrize("code", ["import papercore", "import papercore.cli", _HELP])
def test_nothing_heavy_is_imported_before_it_is_used(code):
    done = python("-c", f"{code}\nimport sys\nprint('loaded', [m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout.strip().endswith("loaded []"), done.stdout + done.stderr


def test_the_front_door_opens_what_it_names_and_nothing_else():
    done = python(
        "-c",
        "import papercore\nfor name in papercore.__all__: print(name, getattr(papercore, name))\npapercore.nothing",
    )
    assert re.findall(r"^(\w+) <", done.stdout, re.M) == ["Study", "card", "fetch", "load_model", "show"]
    assert "AttributeError: papercore has no 'nothing'" in done.stderr


def test_help_names_every_command():
    said = python("-m", "papercore.cli", "--help").stdout
    for name in ("run", "list", "doctor", "report", "bake", "lab", "new", "models", "cache", "train"):
        assert re.search(rf"^\W*{name} ", said, re.M), name


def test_outside_a_checkout_run_says_that_it_needs_the_repository(tmp_path):
    shutil.copytree(ROOT / "papercore", tmp_path / "papercore", ignore=shutil.ignore_patterns("__pycache__"))
    done = python("-m", "papercore.cli", "run", "gcs", cwd=tmp_path)
    assert done.returncode == 2
    assert "needs the repository" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("slug", rooms.slugs())
def test_a_dry_run_at_the_papers_size_says_what_it_takes_and_why_not_here(slug, tmp_path):
    away = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "CUDA_VISIBLE_DEVICES": ""}
    away |= {"HF_ENDPOINT": "http://127.0.0.1:9", "PAPERCORE_CACHE": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    done = python("-m", "papercore.cli", "run", slug, "--profile", "paper", "--dry-run", **away)
    assert done.returncode == 0, done.stderr
    values, cost = parameters.resolve(slug, "paper"), rooms.claims(slug).cost["paper"]
    assert f"needs: {cost.minutes:g} min, {cost.memory_gb:g} GB of memory" in done.stdout
    lacking = [name for _, name in parameters.named(values, "model")]  # empty cache, and nobody answers
    lacking += [name for _, name in parameters.named(values, "file") if not (ROOT / "notebooks" / name).is_file()]
    lacking += [f"a GPU with {cost.gpu_gb:g} GB, and this machine has none"] if cost.gpu_gb else []
    for what in lacking:
        assert re.search(f"^  not here: .*{re.escape(what)}", done.stdout, re.M), what
    assert ("here: can run" in done.stdout) is (not lacking)


def test_train_says_where_there_is_nothing_to_train(tmp_path):
    done = python("-m", "papercore.cli", "train", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("papercore: no paper 'nothing'")


def test_models_and_cache_are_listed_and_cleared(tmp_path):
    cached = tmp_path / "activations" / "x.safetensors"
    cached.parent.mkdir()
    cached.write_bytes(bytes(2_000_000))
    command = ("-m", "papercore.cli")
    assert "Apache-2.0" in python(*command, "models", PAPERCORE_CACHE=str(tmp_path)).stdout
    assert re.search(r"activations .* 2\.0 MB", python(*command, "cache", "list", PAPERCORE_CACHE=str(tmp_path)).stdout)
    assert "freed 2.0 MB" in python(*command, "cache", "clear", "activations", PAPERCORE_CACHE=str(tmp_path)).stdout
    assert not cached.exists()
    done = python(*command, "cache", "clear", "everything", PAPERCORE_CACHE=str(tmp_path))
    assert (done.returncode, "choose one of" in done.stderr) == (2, True)
