"""An empty cache for each test of this floor, and a package index on loopback."""

import os

import pytest
from loopback import Index


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PAPERCORE_CACHE", str(folder))
    return folder


@pytest.fixture
def no_pip_settings(monkeypatch):
    """pip as if nobody had configured it."""
    for name in [n for n in os.environ if n.startswith("PIP_") or n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def index(tmp_path, no_pip_settings, monkeypatch):
    """The loopback index, set as pip's only one."""
    server = Index(tmp_path / "index")
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    yield server
    server.close()
