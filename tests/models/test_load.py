import json
import re
import shutil
import subprocess
import sys

import faults
import pytest
import torch
from tiny_models import TEXTS

from papercore.assets import fetch
from papercore.assets.machine import Memory
from papercore.models import ModelError, load, load_model, memory


def test_random_weights_repeat_by_seed(folders):
    folder = folders("llama")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    trained, a, again, b = (load_model(folder, device="cpu", random_weights=seed) for seed in (None, 7, 7, 8))
    assert torch.equal(torch.rand(1), expected)
    assert a.identity == again.identity and len({trained.identity, a.identity, b.identity}) == 3
    weights = [dict(m.nn._module.named_parameters()) for m in (trained, a, again, b)]
    for name, value in weights[1].items():
        assert torch.equal(value, weights[2][name])
        if value.ndim > 1:  # norms begin as ones whatever the seed; embeddings and matrices are all drawn
            assert not torch.equal(value, weights[3][name]) and not torch.equal(value, weights[0][name])
    assert a.tokenizer(TEXTS[0])["input_ids"] == trained.tokenizer(TEXTS[0])["input_ids"]
    assert torch.equal(a.activations(TEXTS, 3, cache=False), again.activations(TEXTS, 3, cache=False))


def test_identity_is_the_content(folders, tmp_path):
    copy = shutil.copytree(folders("llama"), tmp_path / "copy")
    original = load_model(folders("llama"), device="cpu")
    assert load_model(copy, device="cpu").identity == original.identity
    assert load_model(copy, device="cpu", dtype="bfloat16").identity != original.identity
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert load_model(copy, device="cpu").identity != original.identity


def test_loading_prints_nothing(folders):
    code = f"from papercore.models import load_model; load_model({str(folders('gemma'))!r}, device='cpu')"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "site-packages" not in line] == []


def test_facts_of_the_model(tiny):
    model = tiny("gpt_neox")
    assert (model.architecture, model.n_layers, model.d_model) == ("gpt_neox", 3, 32)
    assert model.sites == ("resid_post", "attn_out", "mlp_in", "mlp_out") and model.supports("attn_out")
    assert tiny("llama").sites == (*model.sites, "post_attention_layernorm")
    assert "gpt_neox, 3 layers, d_model 32, float32 on cpu" in repr(model)
    assert len(model.identity) == 64


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"device": "gpu"}, "this machine has no device 'gpu'; choose auto, cpu, cuda, cuda:N or mps"),
        ({"device": "meta"}, "this machine has no device 'meta'"),
        ({"device": "cuda:99"}, "this machine has no device 'cuda:99'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'; choose float32, bfloat16, float16"),
        ({"random_weights": True}, "random_weights takes a seed, an integer, not True"),
    ],
)
def test_bad_input_gets_one_sentence(folders, arguments, sentence):
    with pytest.raises(ModelError, match=sentence):
        load_model(folders("llama"), **arguments)


def test_folder_that_is_no_model_gets_one_sentence(folders, tmp_path):
    with pytest.raises(ModelError, match=r"holds no config\.json, so it is not a model's folder"):
        load_model(tmp_path)
    broken = shutil.copytree(folders("llama"), tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model: "):
        load_model(broken)
    weights.unlink()
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model: "):
        load_model(broken)
    (broken / "config.json").write_text(json.dumps({"model_type": "no-such-architecture"}))
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model: "):
        load_model(broken)


def test_encoder_is_refused(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    BertModel(config).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE())).save_pretrained(tmp_path)
    # transformers would give BERT a head of random numbers and carry on.
    with pytest.raises(ModelError, match="its weights lack cls"):
        load_model(tmp_path)


def test_dequantised_folder_is_made_once_and_heals(folders, tmp_path, monkeypatch):
    made = []

    def convert(gguf, folder):
        made.append(gguf)
        shutil.copytree(folders("llama"), folder)

    monkeypatch.setattr(load, "_dequantise", convert)
    target = tmp_path / "models" / "tiny"
    folder, digests = load.dequantised(tmp_path / "tiny.gguf", target)
    assert folder == target and load.dequantised(tmp_path / "tiny.gguf", target)[1] == digests
    assert len(made) == 1
    weights = target / "model.safetensors"
    for damage in (
        lambda: weights.write_bytes(weights.read_bytes()[:-9]),
        weights.unlink,
        lambda: shutil.rmtree(target),
    ):
        damage()
        assert load.dequantised(tmp_path / "tiny.gguf", target)[1] == digests
        assert load_model(target, device="cpu").n_layers == 3
    assert len(made) == 4
    assert not list(target.parent.glob("*.part"))


def test_a_read_only_cache_that_holds_the_folder_serves_it(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "_dequantise", lambda gguf, folder: shutil.copytree(folders("llama"), folder))
    made = load.dequantised(tmp_path / "tiny.gguf", tmp_path / "models" / "tiny")

    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert load.dequantised(tmp_path / "tiny.gguf", tmp_path / "models" / "tiny") == made


def test_identity_of_random_weights_follows_the_libraries(folders, monkeypatch):
    now = load_model(folders("llama"), device="cpu", random_weights=7).identity
    monkeypatch.setattr(load, "versions", lambda: ["0", "0"])
    assert load_model(folders("llama"), device="cpu", random_weights=7).identity != now


def test_conversion_that_breaks_off_leaves_nothing_behind(tmp_path, monkeypatch):
    def convert(gguf, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(load, "_dequantise", convert)
    with pytest.raises(KeyboardInterrupt):
        load.dequantised(tmp_path / "tiny.gguf", tmp_path / "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.lock"]


@faults.linux
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_at_any_step_of_a_conversion_leaves_no_half_model(folders, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(load, "_dequantise", lambda gguf, folder: shutil.copytree(folders("llama"), folder))
    gguf, target = tmp_path / "tiny.gguf", tmp_path / "models" / "tiny"
    gguf.write_bytes(bytes(3_000_000))
    digests = load.file_digests(folders("llama"))
    for told in faults.steps(lambda: load.dequantised(gguf, target), tmp_path, fault):
        assert not target.exists() or load.dequantised(gguf, target) == (target, digests)
        if told["error"]:
            assert told["error"][0] == "ModelError", told
            assert re.search(r"^tiny cannot be stored in .*free about 24 MB there", told["error"][1])
            assert not target.with_name("tiny.part").exists()
        assert load.dequantised(gguf, target) == (target, digests)
        assert sorted(path.name for path in target.parent.iterdir()) == ["tiny", "tiny.lock"]
        shutil.rmtree(target.parent)
    assert told["step"] > 8


def test_a_conversion_that_cannot_fit_into_memory_is_refused_before_it_reads(tmp_path, monkeypatch):
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_tensor("one", torch.zeros(300, 20).numpy())
    writer.add_tensor("two", torch.zeros(40).half().numpy())
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
    writer.close()
    assert memory.quantised(tmp_path / "tiny.gguf") == {"F32": 6040}
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda **_: pytest.fail("it was read"))
    monkeypatch.setattr("papercore.assets.machine.memory", lambda: Memory(10**9, 4 * 6039))
    with pytest.raises(ModelError, match=r"needs 0\.0 GB of memory for its weights in float32, and 0\.0 GB are free"):
        load.dequantised(tmp_path / "tiny.gguf", tmp_path / "models" / "tiny")


def test_a_conversion_that_cannot_read_says_so_and_nothing_of_disks(tmp_path, monkeypatch):
    def convert(gguf, folder):
        raise OSError("no such architecture\nand more")

    monkeypatch.setattr(load, "_dequantise", convert)
    with pytest.raises(ModelError, match=r"^tiny\.gguf cannot be converted: no such architecture$"):
        load.dequantised(tmp_path / "tiny.gguf", tmp_path / "tiny")


@pytest.mark.network
def test_real_model_holds_the_weights_of_its_gguf(smollm2, users_cache):
    from gguf import GGUFReader, dequantize

    tensors = {tensor.name: tensor for tensor in GGUFReader(fetch("smollm2-135m-instruct")).tensors}
    weights = smollm2.nn._module.model
    for name, parameter in {
        "token_embd.weight": weights.embed_tokens.weight,
        "blk.0.ffn_down.weight": weights.layers[0].mlp.down_proj.weight,
        "blk.29.attn_v.weight": weights.layers[29].self_attn.v_proj.weight,
    }.items():
        expected = torch.from_numpy(dequantize(tensors[name].data, tensors[name].tensor_type).copy())
        assert torch.equal(parameter, expected)
    assert (smollm2.architecture, smollm2.n_layers, smollm2.d_model) == ("llama", 30, 576)
