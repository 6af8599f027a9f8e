"""What the papers' tests share: the real small model, loaded once."""

import pytest


@pytest.fixture(scope="session")
def smollm2():
    from papercore.models import load_model

    return load_model("smollm2-135m-instruct", device="cpu")
