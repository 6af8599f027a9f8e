"""SAEs as files: SAELens' own answers on its own files, a round trip, other layouts, refusals.

tests/sae/data/saelens holds four small random SAEs as SAELens 6.54 saved them, with inputs, codes and outputs that it
computed from them.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from papercore.sae import interchange, registry
from papercore.sae.base import SAEError
from papercore.sae.transcoder import Transcoder

PEER = Path(__file__).parent / "data" / "saelens"


@pytest.mark.parametrize("name", ["topk", "topk_rescaled", "jumprelu", "gated", "standard"])
def test_a_saelens_sae_says_here_what_it_says_there(name):
    sae, answers = interchange.load(PEER / name), load_file(PEER / name / "answers.safetensors")
    with torch.no_grad():
        codes, x_hat = sae.encode(answers["x"]), sae(answers["x"])
    assert torch.allclose(x_hat, answers["x_hat"], atol=1e-5)
    assert torch.allclose(codes, answers["codes"], atol=1e-5)
    assert ((codes > 0) == (answers["codes"] > 0)).all()


@pytest.mark.parametrize("name", ["topk", "jumprelu", "gated", "standard"])
def test_what_is_saved_is_what_saelens_saved(name, tmp_path):
    interchange.save(interchange.load(PEER / name), tmp_path)
    wanted, found = (load_file(folder / interchange.WEIGHTS) for folder in (PEER / name, tmp_path))
    assert set(wanted) == set(found)
    assert all(torch.allclose(wanted[key], found[key], atol=1e-6) for key in wanted)
    settings = [json.loads((folder / "cfg.json").read_text()) for folder in (PEER / name, tmp_path)]
    for one in settings:
        one.pop("metadata")
    assert settings[0] == settings[1]


@pytest.mark.parametrize(
    "name", ["relu", "p_anneal", "gated", "topk", "batch_topk", "jumprelu", "feature_choice", "matryoshka"]
)
def test_a_round_trip_keeps_codes_and_reconstruction(name, x, tmp_path):
    sae = registry.make(name, 64, 256, 5).train()
    sae.calibrate(x[:2000])
    sae.loss(x[:500])  # thresholds are learned in training
    again = interchange.load(interchange.save(sae.eval(), tmp_path), d_model=64)
    with torch.no_grad():
        # Other tokens: one that taught a threshold lies on it exactly.
        assert torch.allclose(again.encode(x[500:800]), sae.encode(x[500:800]), atol=1e-6)
        assert torch.allclose(again(x[500:800]), sae(x[500:800]), atol=1e-5)


def test_half_precision_halves_the_file_and_little_else(x, tmp_path):
    sae = registry.make("topk", 64, 256, 5)
    sae.calibrate(x[:2000])
    whole, half = (interchange.save(sae, tmp_path / str(d), dtype=d) for d in (torch.float32, torch.float16))
    sizes = [(folder / interchange.WEIGHTS).stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.51 * sizes[0]
    again = interchange.load(half)
    assert all(p.dtype == torch.float32 for p in again.parameters())
    assert float((again(x[:300]) - sae(x[:300])).detach().square().mean()) < 1e-3


def test_gemma_scope_and_dictionary_learning_are_read(x, tmp_path):
    """Both keep a JumpReLU under the same names; neither takes the decoder's bias off the input."""
    sae = registry.make("jumprelu", 64, 256, 5).eval()
    sae.calibrate(x[:2000])
    sae.centred = False
    arrays = {
        "W_enc": sae.encoder.T,
        "W_dec": sae.decoder,
        "b_enc": sae.encoder_bias,
        "b_dec": sae.decoder_bias,
        "threshold": sae.threshold,
    }
    arrays = {name: one.detach().contiguous() for name, one in arrays.items()}
    np.savez(tmp_path / "params.npz", **{name: one.numpy() for name, one in arrays.items()})
    save_file(arrays, tmp_path / "ae.safetensors")
    wanted = sae.encode(x[:200])
    assert float((wanted > 0).float().mean()) > 0
    for path in (tmp_path, tmp_path / "params.npz", tmp_path / "ae.safetensors"):
        assert torch.allclose(interchange.load(path).encode(x[:200]), wanted, atol=1e-6)


def test_dictionary_learnings_topk_is_read(x, tmp_path):
    sae = registry.make("topk", 64, 256, 5).eval()
    sae.calibrate(x[:2000])
    named = {
        "encoder.weight": sae.encoder,
        "encoder.bias": sae.encoder_bias,
        "decoder.weight": sae.decoder.T,
        "b_dec": sae.decoder_bias,
        "k": torch.tensor(5),
    }
    named = {name: one.detach().contiguous() for name, one in named.items()}
    path, config = tmp_path / "ae.safetensors", tmp_path / "config.json"
    save_file(named, path)
    assert torch.allclose(interchange.load(path)(x[:200]), sae(x[:200]), atol=1e-6)
    # With a threshold the file alone does not say which of two SAEs it is.
    scores = sae.products(x[:200]) + sae.encoder_bias.detach()
    threshold = float(scores.flatten().topk(1000).values[-1]) - 1e-4
    save_file({**named, "threshold": torch.tensor(threshold)}, path)
    with pytest.raises(SAEError, match=r"put its config\.json, which says dict_class, beside it"):
        interchange.load(path)
    config.write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderTopK"}}))
    assert torch.allclose(interchange.load(path)(x[:200]), sae(x[:200]), atol=1e-6)
    config.write_text(json.dumps({"trainer": {"dict_class": "BatchTopKSAE"}}))
    codes = interchange.load(path).encode(x[:200])
    assert torch.allclose(codes, torch.where(scores > threshold, scores, 0.0), atol=1e-5)


def test_dictionary_learnings_relu_and_gated_are_read(x, tmp_path):
    relu, gated = (registry.make(name, 64, 256, 5).eval() for name in ("relu", "gated"))
    for sae in (relu, gated):
        sae.calibrate(x[:2000])
    shared = {"encoder.weight": lambda s: s.encoder, "decoder.weight": lambda s: s.decoder.T}
    own = {
        relu: {"encoder.bias": relu.encoder_bias, "bias": relu.decoder_bias},
        gated: {
            "decoder_bias": gated.decoder_bias,
            "gate_bias": gated.encoder_bias,
            "mag_bias": gated.magnitude_bias,
            "r_mag": gated.log_gain,
        },
    }
    for sae, rest in own.items():
        named = {name: of(sae) for name, of in shared.items()} | rest
        save_file({name: one.detach().contiguous() for name, one in named.items()}, tmp_path / "ae.safetensors")
        assert torch.allclose(interchange.load(tmp_path / "ae.safetensors")(x[:200]), sae(x[:200]), atol=1e-6)


def test_saelens_files_of_versions_before_6_are_read_as_what_they_are(tmp_path):
    shutil.copytree(PEER / "topk", tmp_path / "old")
    settings = json.loads((tmp_path / "old" / "cfg.json").read_text())
    wanted = interchange.load(PEER / "topk")
    for name in ("k", "apply_b_dec_to_input", "normalize_activations", "reshape_activations"):
        settings.pop(name)
    settings |= {"architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}}
    (tmp_path / "old" / "cfg.json").write_text(json.dumps(settings))
    x = load_file(PEER / "topk" / "answers.safetensors")["x"]
    assert torch.equal(interchange.load(tmp_path / "old").encode(x), wanted.encode(x))


def test_what_cannot_be_saved_or_read_is_refused_in_one_sentence(x, tmp_path):
    others = [registry.make(name, 64, 256, 5) for name in ("switch", "prolu")]
    for sae in (*others, Transcoder(64, 256, 5, skip=True)):
        with pytest.raises(SAEError, match="SAELens' layout has no"):
            interchange.save(sae, tmp_path / "no")
    good = interchange.save(registry.make("topk", 64, 256, 5), tmp_path / "good")
    with pytest.raises(SAEError, match="for activations of 64 numbers, but the model has 576"):
        interchange.load(good, d_model=576)
    (tmp_path / "ae.pt").write_bytes(b"pickle")
    with pytest.raises(SAEError, match=r"a \.pt file is a pickle"):
        interchange.load(tmp_path / "ae.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    with pytest.raises(SAEError, match="not a safetensors file"):
        interchange.load(tmp_path / "cut.safetensors")
    settings = json.loads((good / "cfg.json").read_text())
    for change, said in (
        ({"architecture": "temporal"}, "architecture 'temporal' cannot be read"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations = 'layer_norm' cannot be read"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor = True cannot be read"),
        ({"k": None}, "has to say its k"),
    ):
        (good / "cfg.json").write_text(json.dumps({**settings, **change}))
        with pytest.raises(SAEError, match=said):
            interchange.load(good)
    tensors = load_file(good / interchange.WEIGHTS)
    (good / "cfg.json").write_text(json.dumps(settings))
    save_file({**tensors, "b_enc": torch.zeros(3)}, good / interchange.WEIGHTS)
    with pytest.raises(SAEError, match=r"encoder_bias is \(3,\), where \(256,\) belongs"):
        interchange.load(good)
    save_file({"W_enc": tensors["W_enc"]}, good / interchange.WEIGHTS)
    with pytest.raises(SAEError, match="cannot be read as an SAE: KeyError 'W_dec'"):
        interchange.load(good)
