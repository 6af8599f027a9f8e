"""Set-up files agree with one another: pyproject.toml, constraints.txt, environment.yml, Makefile, .ci/run."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# Installed without its dependencies, because it asks for an older transformers than it needs.
ALONE = "steering-vectors"


def pins(lines) -> dict[str, str]:
    found = {}
    for line in lines:
        name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()
        assert canonicalize_name(name) not in found, f"{name} stands twice"
        found[canonicalize_name(name)] = version
    return found


@pytest.fixture(scope="module")
def lock() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return pins(line for line in lines if line and not line.startswith("#"))


def test_every_dependency_is_locked_to_one_version(lock):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    assert {canonicalize_name(Requirement(r).name) for r in wanted} <= set(lock)
    assert all(Requirement(r).specifier.contains(lock[canonicalize_name(Requirement(r).name)]) for r in wanted)
    assert project["scripts"] == {"papercore": "papercore.cli:main"}
    assert ALONE in lock


def test_the_environment_file_has_the_locked_versions(lock):
    python, pip, inner = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    *lines, package = inner["pip"]
    assert package == "-e ."
    assert pins(lines) == {name: version for name, version in lock.items() if name != ALONE}


def make(*arguments: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_reproduce_runs_papers_at_a_profile_and_then_the_scoreboard():
    assert "papercore run --all --profile cpu" in make("reproduce")
    one = make("reproduce", "PAPERS=gcs", "PROFILE=smoke")
    assert "papercore run gcs --profile smoke" in one
    assert one.index("papercore run") < one.index("papercore report")


def test_make_test_runs_every_check_in_an_environment_that_was_locked(tmp_path):
    said = make("test", f"VENV={tmp_path}/venv")
    steps = ["-m venv", "install --quiet $(grep '^torch==' constraints.txt)", "-e '.[test]'", "--no-deps", "ruff check"]
    steps += ["ruff format --check", "lint-imports", "-m pytest", "run --all --profile smoke", "--nbval-lax"]
    places = [said.index(step) for step in steps]
    assert places == sorted(places)


def test_ci_calls_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("make test")


def test_the_licence_is_apache():
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()


def test_the_roadmap_has_ten_papers_in_teaching_order():
    papers = yaml.safe_load((ROOT / "papercore" / "papers" / "roadmap.yaml").read_text())
    assert [paper["number"] for paper in papers.values()] == list(range(1, 11))
    assert all(re.fullmatch(r"\d{4}\.\d{5}", paper["arxiv"]) for paper in papers.values())
