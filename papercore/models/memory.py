"""Whether a model's weights fit into memory, known before any of them is read. Floor: models."""

import gc
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from papercore.assets import machine
from papercore.models.errors import ModelError

_FORMATS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}  # as safetensors calls them


def stored(folder: Path) -> dict[str, int]:
    """How many numbers of each format a model's safetensors hold, by their headers; empty where those do not tell."""
    from safetensors import SafetensorError, safe_open

    counts: Counter[str] = Counter()
    try:
        files = {folder / "model.safetensors"}
        if not folder.joinpath("model.safetensors").is_file():
            index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
            files = {folder / name for name in index["weight_map"].values()}
        for path in files:
            with safe_open(path, framework="pt") as file:
                for part in map(file.get_slice, file.keys()):
                    counts[part.get_dtype()] += math.prod(part.get_shape())
    except (OSError, ValueError, KeyError, SafetensorError):  # whoever loads it says what is wrong
        return {}
    return dict(counts)


def quantised(gguf: Path) -> dict[str, int]:
    """How many numbers a GGUF file holds, by its header, as the float32 ones that they become."""
    from gguf import GGUFReader

    return {"F32": sum(int(tensor.n_elements) for tensor in GGUFReader(gguf).tensors)}


def size(weights: Mapping[str, int], dtype: str) -> int:
    """Bytes of weights, counted by the format that they are stored in, once they are loaded as `dtype`."""
    wide = getattr(torch, dtype).itemsize
    return sum(n * (wide if form in _FORMATS.values() else _own(form)) for form, n in weights.items())


def check(name: str, weights: Mapping[str, int], dtype: str, place: torch.device, fresh: bool = False) -> None:
    """Refuse with ModelError a model whose weights (`stored` in any format, or `fresh` ones) cannot fit on `place`.

    Weights pass through main memory. On their way, those that keep their format stay in the file, which is mapped; only
    the others need free memory.
    """
    needed, main = size(weights, dtype), machine.memory()
    copied = needed if fresh else size({form: n for form, n in weights.items() if form != _FORMATS[dtype]}, dtype)
    limits = [(copied, main.free, f"{_gb(main.free)} are free on cpu")]
    if place.type == "cuda":
        gc.collect()  # models that nobody holds any more
        # What torch keeps for later tensors is free for these.
        kept = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        free = torch.cuda.mem_get_info(place)[0] + kept
        limits.append((needed, free, f"{_gb(free)} are free on {place}"))
    else:
        limits.append((needed, main.total, f"this machine has {_gb(main.total)}"))
    for wanted, there, said in limits:
        if wanted > there:
            smaller = 'dtype="bfloat16", ' if dtype == "float32" else ""
            raise ModelError(
                f"{name!r} needs {_gb(needed)} of memory for its weights in {dtype}, and {said}: "
                f"choose a smaller model, {smaller}or a larger machine"
            )


def gpu(device: str = "cuda") -> tuple[str, int] | None:
    """Name and memory in bytes of the GPU that `device` (cuda, cuda:N or auto) means, or None where there is none."""
    number = int(device.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        return None
    about = torch.cuda.get_device_properties(number)
    return about.name, about.total_memory


def _own(form: str) -> int:
    """Bytes of a number that stays as it is: I64, BOOL, or what a quantised model has, such as F8_E4M3."""
    bits = re.search(r"\d+", form)
    return max(1, int(bits[0]) // 8) if bits else 1


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
