"""The wheel in an environment of its own: all data is in it, and what needs the repository says so."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from papercore.study import rooms

SLUGS = rooms.slugs()
# Of a kind that no room has yet, deep in a folder: what a room records is in the wheel, whatever it is.
RECORDED = "recorded/one/part.parquet"


def call(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    """Run a command that neither the environment's variables nor the working folder lead to this checkout."""
    env = {"PATH": os.defpath, "HOME": str(cwd), "COLUMNS": "200", "OMP_WAIT_POLICY": "PASSIVE", **env}
    return subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(copy_project, tmp_path_factory) -> tuple[set[str], Path]:
    """Names of the files under papercore/ in a copy of the project, and the wheel made from it."""
    base = tmp_path_factory.mktemp("wheel")
    root = copy_project(base / "project")
    for slug in SLUGS:
        path = root / "papercore" / "papers" / slug / RECORDED
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    files = {path.relative_to(root).as_posix() for path in (root / "papercore").rglob("*") if path.is_file()}
    # Nothing is downloaded: setuptools is here because torch needs it.
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", base]
    done = call(sys.executable, "-m", "pip", "wheel", *options, root, cwd=base)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = base.glob("*.whl")
    return files, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """bin/ of an environment with the wheel, and with the dependencies of this one."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    options = ["--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    done = call(sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", *options, built[1],
                cwd=venv)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (site,) = venv.glob("lib/python*/site-packages")
    # A folder that a .pth file adds has its own .pth files unread: the editable install over there stays unseen.
    here = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n")
    return venv / "bin"


@pytest.fixture
def empty(tmp_path) -> Path:
    """An empty working folder."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_every_file_of_the_package_is_in_the_wheel_and_nothing_else(built):
    files, wheel = built
    names = zipfile.ZipFile(wheel).namelist()
    assert len(files) > 50
    assert {name for name in names if ".dist-info/" not in name} == files


def test_the_package_is_the_installed_one(installed, empty):
    done = call(installed / "python", "-c", "import papercore; print(papercore.__file__)", cwd=empty)
    assert Path(done.stdout.strip()).is_relative_to(installed.parent), done.stdout + done.stderr


def test_the_command_helps_and_lists_models(installed, empty):
    done = call(installed / "papercore", "--help", cwd=empty)
    assert done.returncode == 0, done.stderr
    assert "Usage: papercore" in done.stdout
    done = call(installed / "papercore", "models", cwd=empty, PAPERCORE_CACHE=str(empty / "cache"))
    assert done.returncode == 0, done.stderr
    assert "smollm2-135m-instruct" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["run", *(SLUGS or ["demo"])[:1]], ["run", "--all"], ["report"], ["new", "demo"]],
    ids=" ".join,
)
def test_what_needs_the_repository_says_so_in_one_sentence(installed, empty, arguments):
    done = call(installed / "papercore", *arguments, cwd=empty)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("papercore: this needs the repository")
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("slug", SLUGS)
def test_a_study_opens_in_a_script_and_writes_below_the_working_folder(installed, empty, slug):
    script = (
        f'import papercore\nseed = 7\nstudy = papercore.Study.open("{slug}", parameters=globals())\n'
        "study.ledger()\nprint(study.folder)"
    )
    done = call(installed / "python", "-c", script, cwd=empty)
    assert done.returncode == 0, done.stderr
    scratch = empty / ".papercore" / "scratch" / slug
    assert done.stdout.strip() == str(scratch)
    assert {path.name for path in scratch.iterdir()} == {"ledger.json", "samples.parquet"}
