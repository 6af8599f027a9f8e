"""Known activations, small enough for every test."""

import pytest
import torch

from papercore.sae import synthetic
from papercore.sae.activations import scale


@pytest.fixture(scope="session")
def world():
    """256 unit directions in 64 dimensions, about five of them on a token."""
    return synthetic.world()


@pytest.fixture(scope="session")
def x(world):
    """Training activations at the usual scale, (20,000, 64)."""
    states = world.sample(20_000)[0]
    return states / scale(states)


@pytest.fixture(scope="session")
def held_out(world, x):
    """Other activations at the same scale, (4,000, 64)."""
    return world.sample(4000, seed=1)[0] / scale(world.sample(20_000)[0])


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A tiny random model and its texts."""
    from tiny_models import TEXTS, make_folder

    from papercore.models import load_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_model(make_folder(tmp_path_factory.mktemp("tiny"), "llama"), device="cpu"), TEXTS
