"""SAEs as files: SAELens' layout to save and load, Gemma Scope's and dictionary_learning's to load. Floor: sae.

Only safetensors and plain numpy arrays are read, never a pickle. An SAE is saved for activations at the model's own
scale: fold it first (`SAE.folded`).
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from papercore.assets import catalogue, fetch, snapshot
from papercore.sae.base import SAE, SAEError
from papercore.sae.batch_topk import BatchTopK
from papercore.sae.feature_choice import FeatureChoice
from papercore.sae.gated import Gated
from papercore.sae.jumprelu import JumpReLU
from papercore.sae.relu import ReLU
from papercore.sae.topk import TopK

LAYOUT = "6.54.0"  # SAELens' version whose files these are
WEIGHTS, SETTINGS = "sae_weights.safetensors", "cfg.json"
Tensors = Mapping[str, torch.Tensor]


def save(sae: SAE, folder: str | os.PathLike, about: Mapping[str, object] | None = None, dtype=torch.float32) -> Path:
    """Write SAELens' cfg.json and sae_weights.safetensors into `folder`; returns it.

    Selection by a threshold (BatchTopK, Matryoshka, Feature Choice) is saved as what it is in evaluation: JumpReLU.
    about: metadata, such as model_name and hook_name. Raises SAEError for an architecture that the layout lacks.
    """
    from safetensors.torch import save_file

    kind, own = _layout(sae)
    tensors = {"W_enc": sae.encoder.T, "W_dec": sae.decoder, "b_dec": sae.decoder_bias, **own}
    settings = {
        "d_in": sae.d_model,
        "d_sae": sae.n_latents,
        "dtype": str(dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.centred,
        "normalize_activations": "none",
        "reshape_activations": "none",
        # Without a version SAELens takes a file for one of its old ones, and drops what metadata says.
        "metadata": {"sae_lens_version": LAYOUT, **(about or {})},
        **({"k": sae.k, "rescale_acts_by_decoder_norm": False} if kind == "topk" else {}),
        "architecture": kind,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plain = {name: one.detach().to("cpu", dtype).contiguous() for name, one in tensors.items()}
    save_file(plain, folder / WEIGHTS)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return folder


def _layout(sae: SAE) -> tuple[str, dict[str, torch.Tensor]]:
    """SAELens' name of the architecture and the tensors that it alone has."""
    bias = {"b_enc": sae.encoder_bias}
    if isinstance(sae, Gated):
        return "gated", {"b_gate": sae.encoder_bias, "b_mag": sae.magnitude_bias, "r_mag": sae.log_gain}
    if isinstance(sae, JumpReLU | BatchTopK | FeatureChoice):
        return "jumprelu", {**bias, "threshold": sae.threshold.expand(sae.n_latents)}
    # A subclass that computes otherwise, such as a transcoder's skip, is no TopK to SAELens.
    if isinstance(sae, TopK) and type(sae).decode is SAE.decode and sae.d_out == sae.d_model:
        return "topk", bias
    if isinstance(sae, ReLU) and type(sae).values is SAE.values:
        return "standard", bias
    raise SAEError(f"SAELens' layout has no {type(sae).__name__}; it takes ReLU, Gated, TopK, JumpReLU and thresholds")


def find(name: str, *, d_model: int | None = None) -> SAE:
    """The SAE called `name`, fetched where it has to be: a catalogued one, a local folder or file, or a folder of a hub
    repository, owner/repository/folder. As `load`; raises AssetError where it cannot be had.
    """
    if name in catalogue():
        return load(fetch(name).parent, d_model=d_model)
    if (path := Path(name).expanduser()).exists():
        return load(path, d_model=d_model)
    owner, _, rest = name.partition("/")
    repository, _, under = rest.partition("/")
    return load(snapshot(f"{owner}/{repository}" if rest else owner, under), d_model=d_model)


def card(name: str) -> dict:
    """The quality card of a catalogued SAE, as measured when it was trained."""
    return json.loads((fetch(name).parent / "card.json").read_text(encoding="utf-8"))


def load(path: str | os.PathLike, *, d_model: int | None = None) -> SAE:
    """The SAE in a folder or file, float32, ready for activations at the model's own scale.

    A folder with cfg.json and sae_weights.safetensors (SAELens); params.npz or its folder (Gemma Scope); a .safetensors
    file with dictionary_learning's names. d_model: refuse an SAE for another width. Raises SAEError where it does not
    fit.
    """
    path = Path(path)
    path = path / "params.npz" if (path / "params.npz").is_file() else path
    try:
        if path.is_dir() and (path / SETTINGS).is_file():
            sae = _saelens(json.loads((path / SETTINGS).read_text(encoding="utf-8")), _tensors(path / WEIGHTS))
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                sae = _gemma_scope({name: torch.from_numpy(file[name]) for name in file.files})
        elif path.suffix == ".safetensors":
            sae = _dictionary_learning(_tensors(path), _dict_class(path.with_name("config.json")))
        else:
            raise SAEError(
                f"{path.name} is no SAE that can be read: give a folder with {SETTINGS}, Gemma Scope's params.npz or a "
                ".safetensors file (a .pt file is a pickle: convert it where you trust it)"
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, SAEError):
            raise
        raise SAEError(f"{path.name} cannot be read as an SAE: {type(error).__name__} {error}") from None
    if d_model is not None and sae.d_model != d_model:
        raise SAEError(f"{path.name} is for activations of {sae.d_model} numbers, but the model has {d_model}")
    return sae.eval()


def _dict_class(path: Path) -> str | None:
    """What dictionary_learning's config.json calls the SAE beside it; None where another program's lies there."""
    about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return about.get("trainer", {}).get("dict_class")


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: one.float() for name, one in load_file(path).items()}
    except SafetensorError as error:
        raise SAEError(f"{path.name} is not a safetensors file: {error}") from None


def _saelens(settings: dict, found: Tensors) -> SAE:
    kind, k = settings["architecture"], settings.get("k")
    if settings.get("activation_fn_str", settings.get("activation_fn")) == "topk":  # files of versions before 6
        kind, k = "topk", (settings.get("activation_fn_kwargs") or {}).get("k")
    makers: dict[str, Callable] = {"topk": TopK, "standard": ReLU, "gated": Gated, "jumprelu": JumpReLU}
    if kind not in makers:
        raise SAEError(f"SAELens' architecture {kind!r} cannot be read here; {', '.join(makers)} can")
    for name in ("normalize_activations", "reshape_activations", "finetuning_scaling_factor"):
        if settings.get(name) not in (None, False, "none"):
            raise SAEError(f"an SAE with {name} = {settings[name]!r} cannot be read here, only one without")
    sae = _filled(makers[kind], found, k)
    sae.centred = bool(settings.get("apply_b_dec_to_input", True))
    if settings.get("rescale_acts_by_decoder_norm"):
        # What the rows' norms do to the codes goes into the encoder, and out of the decoder.
        norms = sae.decoder.data.norm(dim=1)
        sae.encoder.data *= norms[:, None]
        sae.encoder_bias.data *= norms
        sae.decoder.data /= norms[:, None].clamp_min(1e-12)
    return sae


def _gemma_scope(found: Tensors) -> SAE:
    sae = _filled(JumpReLU, found)
    sae.centred = False
    return sae


def _dictionary_learning(found: dict[str, torch.Tensor], kind: str | None) -> SAE:
    if "encoder.weight" not in found:
        sae = _filled(JumpReLU, found)
        sae.centred = False
        return sae
    bias = next((found[name] for name in ("b_dec", "bias", "decoder_bias") if name in found), None)
    if bias is None:
        raise SAEError("a dictionary_learning SAE has a decoder bias called b_dec or bias, and this one has none")
    weights = {"W_enc": found["encoder.weight"].T, "W_dec": found["decoder.weight"].T, "b_dec": bias}
    if "gate_bias" in found:
        own = {"b_gate": found["gate_bias"], "b_mag": found["mag_bias"], "r_mag": found["r_mag"]}
        return _filled(Gated, weights | own)
    weights["b_enc"] = found["encoder.bias"]
    if "k" not in found:
        return _filled(ReLU, weights)
    if float(found.get("threshold", torch.tensor(-1.0))) < 0 or kind == "AutoEncoderTopK":
        return _filled(TopK, weights, int(found["k"]))
    if kind != "BatchTopKSAE":
        raise SAEError(
            "k and a threshold fit TopK and BatchTopK: put its config.json, which says dict_class, beside it"
        )
    # In evaluation a score above the threshold is a code.
    return _filled(JumpReLU, weights | {"threshold": found["threshold"].expand(len(found["encoder.weight"]))})


def _filled(make: Callable, found: Tensors, k: int | None = None) -> SAE:
    """An SAE with the weights `found`, under SAELens' names; k only matters for TopK."""
    d_model, n_latents = found["W_enc"].shape
    if make is TopK and not k:
        raise SAEError("a TopK SAE has to say its k")
    sae = make(d_model, n_latents, k or min(32, n_latents))
    gate = make is Gated
    places = {
        "encoder": found["W_enc"].T,
        "decoder": found["W_dec"],
        "decoder_bias": found["b_dec"],
        "encoder_bias": found["b_gate" if gate else "b_enc"],
        **({"magnitude_bias": found["b_mag"], "log_gain": found["r_mag"]} if gate else {}),
    }
    if make is JumpReLU:
        if not (found["threshold"] >= 0).all():
            raise SAEError("a threshold is negative, and a code never is")
        places["log_threshold"] = found["threshold"].float().log()
    for name, value in places.items():
        parameter = getattr(sae, name)
        if parameter.shape != value.shape:
            raise SAEError(f"{name} is {tuple(value.shape)}, where {tuple(parameter.shape)} belongs")
        parameter.data = value.detach().float().clone().contiguous()
    return sae
