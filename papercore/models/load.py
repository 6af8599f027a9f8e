"""Loading a language model by catalogue name, hub id or local folder. Floor: models.

A GGUF file is de-quantised once and kept as safetensors; later loads map that file into memory. Weights are only
ever read from safetensors, and no model brings code of its own.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from unittest import mock

import torch

from papercore.assets import DISK_FULL
from papercore.models import memory
from papercore.models.errors import ModelError
from papercore.models.model import Model
from papercore.models.store import versions

DTYPES = ("float32", "bfloat16", "float16")
_MANIFEST = "sha256.json"
_UNSTORED = (*DISK_FULL, errno.EACCES, errno.EPERM, errno.EROFS)


def load_model(
    name: str | os.PathLike, *, device: str = "auto", dtype: str = "float32", random_weights: int | None = None
) -> Model:
    """The model called `name`: a catalogued language model, a hub id or a local folder.

    device: "auto" is CUDA where there is one. dtype: float32, bfloat16 or float16. random_weights: a seed; same
    configuration and tokenizer, every weight freshly initialised. Raises ModelError, for weights that cannot fit into
    memory before any is read, and AssetError for missing files.
    """
    name = os.fspath(name)
    place = _device(device)
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}; choose {', '.join(DTYPES)}")
    if isinstance(random_weights, bool) or not isinstance(random_weights, int | None):
        raise ModelError(f"random_weights takes a seed, an integer, not {random_weights!r}")
    check = partial(memory.check, name, dtype=dtype, place=place, fresh=random_weights is not None)
    folder, digests = _folder(name, check)
    with quiet():
        from nnsight import TransformersModel
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        local = {"pretrained_model_name_or_path": folder, "local_files_only": True}
        kind = {"dtype": getattr(torch, dtype)}
        try:
            tokenizer = AutoTokenizer.from_pretrained(**local)
            if random_weights is None:
                kind |= {"use_safetensors": True, "output_loading_info": True}
                module, told = AutoModelForCausalLM.from_pretrained(**local, **kind)
                # transformers fills a hole with random numbers and a warning.
                if holes := told["missing_keys"] or told["mismatched_keys"]:
                    raise ValueError(f"its weights lack {min(holes)}")
            else:
                config = AutoConfig.from_pretrained(**local)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(random_weights)
                    module = AutoModelForCausalLM.from_config(config, **kind)
        except Exception as error:
            raise ModelError(f"{name!r} cannot be loaded as a causal language model: {_reason(error)}") from error
        module.to(place).eval()
        nn = TransformersModel(module, tokenizer=tokenizer, task="text-generation", device=place)
    if random_weights is not None:
        digests = {"config.json": digests["config.json"], "random_weights": [random_weights, *versions()]}
    identity = hashlib.sha256(json.dumps([digests, dtype], sort_keys=True).encode()).hexdigest()
    return Model(nn, name, identity, dtype)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if re.fullmatch(r"cpu|mps|cuda(:\d+)?", str(name)):
            return torch.empty(0, device=name).device
    except (AssertionError, RuntimeError):
        pass
    raise ModelError(f"this machine has no device {name!r}; choose auto, cpu, cuda, cuda:N or mps")


def _folder(name: str, check: Callable[[Mapping[str, int]], None]) -> tuple[Path, dict[str, str]]:
    """The folder to load from, and the sha256 of its configuration and weights; `check` hears early of how many."""
    from papercore.assets import cache_dir, catalogue, fetch, snapshot
    from papercore.assets.hub import access

    entry = catalogue().get(name)
    if entry is None:
        if not Path(name).expanduser().is_dir():
            check(access(name).weights or {})  # before a long download
        folder = Path(snapshot(name))
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name!r} holds no config.json, so it is not a model's folder")
        check(memory.stored(folder))
        return folder, file_digests(folder)
    if entry.kind != "language_model":
        raise ModelError(f"{name!r} is a {entry.kind} in the catalogue, not a language model")
    folder, digests = dequantised(fetch(name), cache_dir("models") / f"{name}-{entry.sha256[:12]}")
    check(memory.stored(folder))
    return folder, digests


def dequantised(gguf: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    """`folder` holding the GGUF file's model in float32 safetensors, made where it is missing or damaged.

    Raises ModelError where it cannot be converted or stored.
    """
    from filelock import FileLock
    from safetensors import SafetensorError

    if digests := _intact(folder):  # before anything is written: a read-only cache serves what it holds
        return folder, digests
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            return folder, _intact(folder) or _converted(gguf, folder)
    except ModelError:
        raise
    except Exception as error:  # safetensors and tokenizers tell of a full disk in errors of their own
        full = os.strerror(errno.ENOSPC) in str(error) or isinstance(error, SafetensorError)
        if not full and getattr(error, "errno", None) not in _UNSTORED:
            raise ModelError(f"{gguf.name} cannot be converted: {_reason(error)}") from error
        need = 8 * gguf.stat().st_size / 1e6  # four bits become 32
        raise ModelError(
            f"{folder.name} cannot be stored in {folder.parent} ({_reason(error)}): free about {need:.0f} MB there, "
            "or set PAPERCORE_CACHE to a folder with room that can be written to"
        ) from None


def _converted(gguf: Path, folder: Path) -> dict[str, str]:
    """Make `folder` anew, whole or not at all; its digests."""
    part = folder.with_name(f"{folder.name}.part")
    for stale in (part, folder):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        _dequantise(gguf, part)
        digests = file_digests(part)
        (part / _MANIFEST).write_text(json.dumps(digests))
        os.replace(part, folder)
        return digests
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _intact(folder: Path) -> dict[str, str] | None:
    try:
        digests = json.loads((folder / _MANIFEST).read_text())
        return digests if file_digests(folder) == digests else None
    except (OSError, ValueError):
        return None


def _dequantise(gguf: Path, folder: Path) -> None:
    memory.check(gguf.parent.name, memory.quantised(gguf), "float32", torch.device("cpu"), fresh=True)
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name, "local_files_only": True}
    # This bar alone does not listen to transformers' own switch.
    with quiet(), mock.patch("transformers.modeling_gguf_pytorch_utils.tqdm", lambda items, **_: items):
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        how = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
        AutoModelForCausalLM.from_pretrained(**source, **how).save_pretrained(folder)
        AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def file_digests(folder: Path) -> dict[str, str]:
    """Sha256 of each file of configuration, tokenizer and weights in a model's folder."""
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".jinja", ".safetensors") and path.name != _MANIFEST:
            with path.open("rb") as file:
                # The hub's cache names a large file by its sha256 already.
                named = re.fullmatch(r"[0-9a-f]{64}", path.resolve().name)
                digests[path.name] = named.group() if named else hashlib.file_digest(file, "sha256").hexdigest()
    return digests


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the bars, warnings and log lines of transformers and nnsight, so that a notebook shows none of them."""
    silence = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        warnings.simplefilter("ignore")
        from transformers.utils import logging

        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
