"""The walls between the floors: import contracts, who may use the network, and nobody behind the front door uses it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
# Lines, docstrings and blank ones included; thin is the promise.
LONGEST_MODULE = 400
NETWORK = {"aiohttp", "ftplib", "http", "httpx", "huggingface_hub", "requests", "smtplib", "socket", "socketserver"}
NETWORK |= {"ssl", "unearth", "urllib", "urllib3", "websocket", "websockets", "xmlrpc"}
# The engines elsewhere and the cluster may not be there yet.
ONLINE = ("assets", "models.remote", "models.endpoint", "runner.cluster")
# Parses and names, and opens nothing.
HARMLESS = r"(from|import) urllib\.parse\b|from http import HTTPStatus$"


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("papercore", include_external_packages=True, cache_dir=None)


def test_the_import_contracts_are_kept():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contracts_speak_of_every_floor():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = " ".join(next(c for c in contracts if c["id"] == "floors")["layers"])
    inside = {p.name for p in (ROOT / "papercore").iterdir() if (p / "__init__.py").is_file()} | {"cli"}
    assert inside <= {name.strip("()|").removeprefix("papercore.") for name in layers.split()}


def test_no_module_imports_the_front_door(graph):
    assert graph.find_modules_that_directly_import("papercore") == set()


def test_the_front_door_check_can_fail(tmp_path, monkeypatch):
    package = tmp_path / "doored"
    package.mkdir()
    (package / "__init__.py").write_text("name = 1\n")
    (package / "inner.py").write_text("def f():\n    from doored import name\n    return name\n")
    monkeypatch.syspath_prepend(tmp_path)
    graph = grimp.build_graph("doored", cache_dir=None)
    assert graph.find_modules_that_directly_import("doored") == {"doored.inner"}


def online(graph, package: str) -> dict[str, set[str]]:
    """Modules that import a library of the network and may not, with what they import."""
    found = {}
    for library in NETWORK & graph.modules:
        for module in graph.find_modules_that_directly_import(library):
            lines = [each["line_contents"] for each in graph.get_import_details(importer=module, imported=library)]
            allowed = any(f"{module}.".startswith(f"{package}.{place}.") for place in ONLINE)
            if not allowed and not all(re.match(HARMLESS, line) for line in lines):
                found.setdefault(module, set()).add(library)
    return found


def test_the_network_is_used_where_it_may_be(graph):
    assert {"unearth", "huggingface_hub"} <= graph.modules
    assert online(graph, "papercore") == {}


def test_the_network_check_can_fail(tmp_path, monkeypatch):
    package = tmp_path / "wired"
    sources = {
        "__init__.py": "",
        "assets.py": "import requests\n",
        "assets_more.py": "import requests\n",
        "inner.py": "def f():\n    from urllib.request import urlopen\n    import http.client, huggingface_hub.utils\n",
        "mixed.py": "from urllib.parse import quote\nimport urllib.error\n",
        "names.py": "from urllib.parse import quote\nimport urllib.parse\nfrom http import HTTPStatus\n",
    }
    package.mkdir()
    for name, source in sources.items():
        (package / name).write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    graph = grimp.build_graph("wired", include_external_packages=True, cache_dir=None)
    assert online(graph, "wired") == {
        "wired.assets_more": {"requests"},
        "wired.inner": {"urllib", "http", "huggingface_hub"},
        "wired.mixed": {"urllib"},
    }


def test_rooms_describe_themselves_without_torch():
    code = (
        "import importlib, sys\nfrom papercore.study import rooms, parameters\n"
        "for slug in rooms.slugs(): rooms.claims(slug), parameters.schema(slug)()\n"
        "print([m for m in ('torch', 'transformers', 'nnsight') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_module_is_long():
    counts = {p.relative_to(ROOT): p.read_text().count("\n") for p in (ROOT / "papercore").rglob("*.py")}
    assert {path: n for path, n in counts.items() if n > LONGEST_MODULE} == {}
