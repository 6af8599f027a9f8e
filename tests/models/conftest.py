"""The models under test, each loaded once."""

import os

import pytest
from tiny_models import ARCHITECTURES, make_folder

USERS_CACHE = os.environ.get("PAPERCORE_CACHE")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERCORE_CACHE", str(tmp_path / "cache"))


def restore(patch):
    patch.delenv("PAPERCORE_CACHE", raising=False)
    if USERS_CACHE is not None:
        patch.setenv("PAPERCORE_CACHE", USERS_CACHE)


@pytest.fixture
def users_cache(own_cache, monkeypatch):
    """The user's own cache in place of the test's."""
    restore(monkeypatch)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    made = {}

    def folder(architecture):
        if architecture not in made:
            made[architecture] = make_folder(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return folder


@pytest.fixture(scope="session")
def tiny(folders):
    from papercore.models import load_model

    loaded = {}

    def load(architecture):
        if architecture not in loaded:
            loaded[architecture] = load_model(folders(architecture), device="cpu")
        return loaded[architecture]

    return load


@pytest.fixture(scope="session")
def smollm2():
    """The real model, loaded once; its files stay in the user's own cache."""
    from papercore.models import load_model

    with pytest.MonkeyPatch.context() as patch:
        restore(patch)
        return load_model("smollm2-135m-instruct", device="cpu")


@pytest.fixture(params=[*ARCHITECTURES, pytest.param("smollm2", marks=pytest.mark.network)])
def model(request, tiny):
    """Each architecture in turn, the real model last."""
    return request.getfixturevalue("smollm2") if request.param == "smollm2" else tiny(request.param)


@pytest.fixture(params=ARCHITECTURES)
def small(request, tiny):
    """Each tiny architecture in turn."""
    return tiny(request.param)
