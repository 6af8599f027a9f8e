"""Weights are counted before they are read, and refused where they cannot fit."""

import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from papercore import assets
from papercore.assets import hub, machine
from papercore.models import ModelError, load_model, memory

BIG = 10**15


def has(monkeypatch, total: int, free: int) -> None:
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(total, free))


@pytest.fixture
def unread(monkeypatch):
    """Fails the test where weights are read or made."""

    def read(*arguments, **options):
        raise AssertionError("weights were read")

    for name in ("from_pretrained", "from_config"):
        monkeypatch.setattr(transformers.AutoModelForCausalLM, name, read)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_headers_count_what_the_model_then_has(small, folders, dtype):
    counted = memory.size(memory.stored(folders(small.architecture)), dtype)
    assert counted == sum(p.numel() for p in small.nn._module.parameters()) * getattr(torch, dtype).itemsize


def test_tied_embeddings_count_once(tiny, folders):
    module = tiny("gemma").nn._module
    assert module.get_input_embeddings().weight is module.get_output_embeddings().weight
    assert memory.stored(folders("gemma")) == {"F32": sum(p.numel() for p in module.parameters())}


def test_shards_count_together(tiny, folders, tmp_path):
    folder = tmp_path / "shards"
    tiny("llama").nn._module.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert memory.stored(folder) == memory.stored(folders("llama"))


def test_numbers_that_are_no_floats_keep_their_size():
    weights = {"F32": 1, "F64": 1, "I64": 1, "BOOL": 1, "F8_E4M3": 1, "U8": 1}
    assert memory.size(weights, "float32") == 2 * 4 + 8 + 3
    assert memory.size(weights, "float16") == 2 * 2 + 8 + 3


@pytest.mark.parametrize("random_weights", [None, 3])
def test_a_model_larger_than_the_machine_is_refused_before_its_weights_are_read(
    folders, monkeypatch, unread, random_weights
):
    has(monkeypatch, 1000, 900)
    said = r" needs 0\.0 GB of memory for its weights in float32, and .*0\.0 GB.*: choose a smaller model, dtype=\"bfl"
    with pytest.raises(ModelError, match=said) as error:
        load_model(folders("llama"), device="cpu", random_weights=random_weights)
    assert "\n" not in str(error.value)


def test_the_refusal_names_both_numbers():
    weights = {"F16": 6_738_415_616}
    with pytest.MonkeyPatch.context() as patch:
        has(patch, 25_000_000_000, 21_300_000_000)
        with pytest.raises(ModelError) as error:
            memory.check("some/model", weights, "float32", torch.device("cpu"))
        memory.check("some/model", weights, "bfloat16", torch.device("cpu"))
    assert str(error.value) == (
        "'some/model' needs 27.0 GB of memory for its weights in float32, and 21.3 GB are free on cpu: "
        'choose a smaller model, dtype="bfloat16", or a larger machine'
    )


def test_weights_that_keep_their_format_stay_in_their_file(folders, monkeypatch):
    needed = memory.size(memory.stored(folders("llama")), "float32")
    has(monkeypatch, BIG, needed // 2 - 1)
    assert load_model(folders("llama"), device="cpu").n_layers == 3
    with pytest.raises(ModelError, match=r"in bfloat16, and .* are free on cpu: choose a smaller model, or a larger"):
        load_model(folders("llama"), device="cpu", dtype="bfloat16")
    with pytest.raises(ModelError, match="are free on cpu"):
        load_model(folders("llama"), device="cpu", random_weights=1)


def test_a_gpu_needs_room_and_so_does_the_way_to_it(monkeypatch):
    place, weights = torch.device("cuda:1"), {"BF16": 10**9}
    free = {"gpu": BIG, "kept": 0}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (free["gpu"], BIG))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda place: free["kept"] + 5)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda place: 5)
    has(monkeypatch, BIG, 10**9)
    memory.check("m", weights, "bfloat16", place)
    with pytest.raises(ModelError, match=r"needs 2\.0 GB of memory for its weights in float16, and 1\.0 GB .* on cpu"):
        memory.check("m", weights, "float16", place)
    free["gpu"] = 10**9
    with pytest.raises(ModelError, match=r"needs 2\.0 GB .*in bfloat16, and 1\.0 GB are free on cuda:1"):
        memory.check("m", weights, "bfloat16", place)
    free["kept"] = 10**9  # by torch, of a model that is gone
    memory.check("m", weights, "bfloat16", place)


def test_damaged_headers_are_left_to_the_loader(folders, tmp_path):
    broken = shutil.copytree(folders("llama"), tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\xff" * 100)
    assert memory.stored(broken) == {} == memory.stored(tmp_path)


def test_a_hub_model_is_refused_before_its_download(monkeypatch):
    monkeypatch.setattr(hub, "access", lambda name: hub.Access("reachable", weights={"F16": 7 * 10**9}))
    monkeypatch.setattr(assets, "snapshot", lambda name: pytest.fail("it was downloaded"))
    has(monkeypatch, 16 * 10**9, 12 * 10**9)
    with pytest.raises(ModelError, match=r"'some/model' needs 28\.0 GB .*12\.0 GB are free"):
        load_model("some/model", device="cpu")


def test_a_hub_that_does_not_tell_stops_nothing(folders, monkeypatch):
    monkeypatch.setattr(hub, "access", lambda name: hub.Access("unreachable", "nobody there"))
    monkeypatch.setattr(assets, "snapshot", lambda name: folders("llama"))
    assert load_model("some/model", device="cpu").n_layers == 3


def test_a_local_folder_asks_no_hub(folders, monkeypatch):
    monkeypatch.setattr(hub, "access", lambda name: pytest.fail("the hub was asked"))
    assert load_model(folders("llama"), device="cpu").n_layers == 3


def test_mixed_formats_count_each(folders, tmp_path):
    mixed = shutil.copytree(folders("llama"), tmp_path / "mixed")
    tensors = load_file(mixed / "model.safetensors")
    name = "model.embed_tokens.weight"
    save_file(tensors | {name: tensors[name].half()}, mixed / "model.safetensors", {"format": "pt"})
    whole, counts = memory.stored(folders("llama"))["F32"], memory.stored(mixed)
    assert counts == {"F16": tensors[name].numel(), "F32": whole - tensors[name].numel()}


def test_no_such_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert memory.gpu() is memory.gpu("auto") is memory.gpu("cuda:3") is None
