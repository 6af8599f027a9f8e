"""The disk cache of activations: one safetensors file a layer, named by what it holds. Floor: models."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from papercore.models.architecture import Transformer

CAP_BYTES = 10 * 1000**3
FORMAT = 1  # counts up whenever the same question gets other numbers, or another file


def key(model: Transformer, encoded: list[list[int]], layer: int, site: str, position: str | int) -> str:
    """Sha256 of everything the states depend on but the batch size, which moves them by rounding alone."""
    said = [FORMAT, versions(), model.identity, model.device.type, encoded, int(layer), site, position]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def versions() -> list[str]:
    """Versions of the libraries that compute states and draw random weights: another one may give other numbers."""
    return [version(name) for name in ("torch", "transformers")]


def load(name: str, shape: tuple[int, int]) -> torch.Tensor | None:
    """The states kept under `name`, or None where there are none or the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(_folder() / f"{name}.safetensors", framework="pt") as file:
            states, digest = file.get_tensor("states"), (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    whole = states.shape == shape and states.dtype == torch.float32 and _digest(states) == digest
    return states if whole else None


def save(states: Mapping[str, torch.Tensor]) -> None:
    """Keep states by name, each file complete or absent, then let the oldest leave above the cap.

    A disk that is full or read-only keeps nothing, and that is no error: the states are computed again next time.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from papercore.assets import trim

    folder = _folder()
    with contextlib.suppress(OSError, SafetensorError):
        folder.mkdir(parents=True, exist_ok=True)
        for name, tensor in states.items():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
                path = Path(part) / "states"
                save_file({"states": tensor.contiguous()}, path, metadata={"sha256": _digest(tensor)})
                os.replace(path, folder / f"{name}.safetensors")
        trim(folder, CAP_BYTES)


def _folder() -> Path:
    from papercore.assets import cache_dir

    return cache_dir("activations")


def _digest(states: torch.Tensor) -> str:
    # safetensors checks its header, not its data.
    return hashlib.sha256(states.contiguous().numpy().data).hexdigest()
