import os

import pytest
import torch
from tiny_models import TEXTS

from papercore.assets import cache_dir
from papercore.models import Steer, read, store


@pytest.fixture
def passes(monkeypatch):
    """Which layers each forward pass through the model was made for."""
    made, real = [], read._read

    def counted(model, batch, layers, *rest):
        made.append(list(layers))
        return real(model, batch, layers, *rest)

    monkeypatch.setattr(read, "_read", counted)
    return made


def files():
    return sorted(cache_dir("activations").glob("*.safetensors"))


@pytest.mark.parametrize("position", ["last", "mean", "all", 0])
def test_hit_equals_miss(tiny, passes, position):
    model = tiny("llama")
    miss, hit = (model.activations(TEXTS, [1, 3], position=position) for _ in range(2))
    assert passes == [[1, 3]]
    for layer in (1, 3):
        assert all(torch.equal(a, b) for a, b in zip(miss[layer], hit[layer], strict=True))


def test_a_layer_is_kept_by_itself(tiny, passes):
    model = tiny("llama")
    many = model.activations(TEXTS, [1, 2])
    assert torch.equal(model.activations(TEXTS, 2), many[2])
    assert torch.equal(model.activations(TEXTS, [3, 1])[1], many[1])
    assert passes == [[1, 2], [3]]


def test_what_the_states_depend_on_is_in_the_key(tiny, folders, passes):
    from papercore.models import load_model

    model = tiny("llama")
    model.activations(TEXTS, 1)
    model.activations(TEXTS[::-1], 1)
    model.activations(TEXTS, 1, "attn_out")
    model.activations(TEXTS, 1, position="mean")
    tiny("qwen2").activations(TEXTS, 1)
    load_model(folders("llama"), device="cpu", random_weights=0).activations(TEXTS, 1)
    load_model(folders("llama"), device="cpu", dtype="bfloat16").activations(TEXTS, 1)
    assert len(passes) == 7 and len(files()) == 7
    load_model(folders("llama"), device="cpu").activations(TEXTS, 1)  # another object, the same weights
    assert len(passes) == 7


@pytest.mark.parametrize(("name", "value"), [("FORMAT", 0), ("versions", lambda: ["0", "0"])])
def test_format_and_libraries_are_in_the_key(tiny, passes, monkeypatch, name, value):
    tiny("llama").activations(TEXTS, 1)
    monkeypatch.setattr(store, name, value)
    tiny("llama").activations(TEXTS, 1)
    assert len(passes) == 2


@pytest.mark.parametrize("where", ["pathlib.Path.mkdir", "safetensors.torch.save_file", "os.replace"])
def test_a_disk_that_keeps_nothing_stops_nothing(tiny, monkeypatch, where):
    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    model = tiny("llama")
    plain = model.activations(TEXTS, 1, cache=False)
    with monkeypatch.context() as patch:
        patch.setattr(where, refuse)
        assert torch.equal(model.activations(TEXTS, 1), plain)
    assert not files()
    assert torch.equal(model.activations(TEXTS, 1), plain)
    assert len(files()) == 1


def test_cache_false_and_steering_leave_nothing(tiny, passes):
    model = tiny("llama")
    plain = model.activations(TEXTS, 1, cache=False)
    model.activations(TEXTS, 1, steer=Steer(1, torch.ones(32), 1.0))
    assert not files() and len(passes) == 2
    assert torch.equal(plain, model.activations(TEXTS, 1))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_damaged_file_heals(tiny, passes, damage):
    model = tiny("llama")
    good = model.activations(TEXTS, 1)
    (path,) = files()
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-3] ^= 1
    path.write_bytes({"cut": data[:-8], "flip": data, "empty": b"", "other": b"not a tensor" * 50}[damage])
    assert torch.equal(model.activations(TEXTS, 1), good)
    assert torch.equal(model.activations(TEXTS, 1), good)
    assert len(passes) == 2


def test_oldest_leaves_above_the_cap(tiny, monkeypatch):
    model = tiny("llama")
    model.activations(TEXTS, 1)
    (first,) = files()
    os.utime(first, (1, 1))
    monkeypatch.setattr(store, "CAP_BYTES", first.stat().st_size * 3 // 2)
    model.activations(TEXTS, 2)
    assert len(files()) == 1 and not first.exists()
