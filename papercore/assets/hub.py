"""snapshot(model): a model's folder, local or from the hub (safetensors, tokenizer, config). Floor: assets.

access(model) says beforehand how it could be had.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

from papercore.assets.cache import cache_dir
from papercore.assets.errors import AssetError, AssetUnavailable, said
from papercore.assets.opened import record
from papercore.assets.progress import in_notebook

# Weights come as safetensors or not at all: pickles can run code.
_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
_PARTS = (".safetensors", ".npz", ".json")  # numpy's archives hold arrays, and are read without pickles
_COPIES = ["original/*", "onnx/*", "consolidated*"]  # the same weights again, in other layouts
_WHY = {  # the first that fits
    "GatedRepoError": "is gated: accept its terms on its hub page, log in (hf auth login), then call again",
    "RepositoryNotFoundError": "is not on the hub, or private: check the spelling, or log in (hf auth login)",
    "LocalEntryNotFoundError": "is not cached and the hub cannot be reached: go online once, or give a local folder",
    "OfflineModeIsEnabled": "is not cached and HF_HUB_OFFLINE is set: unset it, or give a local folder",
}
_NO_WEIGHTS = "has no safetensors weights, and no other kind is read: choose another repository"
_PATIENCE = 5  # s, for a question; a download waits longer


class Access(NamedTuple):
    """How a hub model can be had; `why` not, in one sentence, where it cannot."""

    state: Literal["cached", "reachable", "gated", "missing", "unreachable"]
    why: str = ""
    left: int | None = None  # bytes to download; None: the hub does not say
    weights: dict[str, int] | None = None  # numbers by format (F32, BF16, ...), as the hub counts them
    licence: str = ""


def snapshot(model: str | Path, under: str = "") -> Path:
    """Folder of a model: a local folder as it is, or the hub repository `owner/name`, downloaded to the cache.

    under: one folder of the repository, alone (its safetensors, npz and json), where it holds many models. Raises
    AssetError for a folder or name that cannot be one, AssetUnavailable when the hub does not deliver.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or str(model).startswith((".", "~")):
        raise AssetError(f"there is no model folder {model}: give an existing folder or a hub name such as owner/name")

    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()  # hints that would land in a notebook's outputs
    if in_notebook():
        disable_progress_bars()
    try:
        what = {"allow_patterns": [f"{under}/*{kind}" for kind in _PARTS]} if under else _what()
        found = Path(snapshot_download(str(model), **what, **_where()))
    except errors.HFValidationError:
        raise AssetError(_no_name(model)) from None
    except OSError as error:
        raise AssetUnavailable(f"{model} {_why(error)}") from None
    here = found / under
    if not any(path for kind in _PARTS[:2] for path in here.glob(f"*{kind}")):
        raise AssetUnavailable(f"{model}{f'/{under}' if under else ''} {_NO_WEIGHTS}")
    record(str(model), found.name, _digest(here))
    return here


def cached(model: str) -> Path | None:
    """Folder of a hub model that is here as a whole, else None; asks nobody."""
    from huggingface_hub import errors, snapshot_download

    try:
        found = Path(snapshot_download(model, local_files_only=True, **_what(), **_where()))
    except (OSError, errors.HFValidationError):
        return None
    return found if any(found.glob("*.safetensors")) else None


def access(model: str) -> Access:
    """How the hub model `model` can be had, without downloading it; waits a few seconds at most, and never raises."""
    from huggingface_hub import HfApi, errors, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import filter_repo_objects

    if cached(model):
        return Access("cached", left=0)
    where = _where()
    try:
        info = HfApi(endpoint=where["endpoint"]).model_info(model, files_metadata=True, timeout=_PATIENCE)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        wanted = list(filter_repo_objects(sizes, **_what()))
        if info.gated:  # its facts are public; whether its files are, only a file tells
            url = hf_hub_url(model, "config.json", revision=info.sha, endpoint=where["endpoint"])
            get_hf_file_metadata(url, timeout=_PATIENCE, endpoint=where["endpoint"])
    except errors.HFValidationError:
        return Access("missing", _no_name(model))
    except Exception as error:  # networks and proxies each fail in their own way
        known = {"gated": errors.GatedRepoError, "missing": errors.RepositoryNotFoundError}
        state = next((state for state, kind in known.items() if isinstance(error, kind)), "unreachable")
        return Access(state, f"{model} {_why(error)}")
    if not any(name.endswith(".safetensors") for name in wanted):
        return Access("missing", f"{model} {_NO_WEIGHTS}")
    here = {"cache_dir": where["cache_dir"], "revision": info.sha}
    missing = [name for name in wanted if not isinstance(try_to_load_from_cache(model, name, **here), str)]
    weights = dict(info.safetensors.parameters) if info.safetensors else None
    licence = (info.card_data and info.card_data.license) or ""
    # Without sizes in its answer, nothing is known of them.
    left = sum(sizes[name] for name in missing) if any(sizes.values()) else None
    return Access("reachable", left=left, weights=weights, licence=str(licence))


def silence() -> str:
    """Why the hub does not answer, or nothing where it does."""
    from huggingface_hub import constants, get_session

    try:
        status = get_session().head(_where()["endpoint"] or constants.ENDPOINT, timeout=_PATIENCE).status_code
    except Exception as error:
        return said(error)
    return "" if status < 400 or status == 404 else f"it answers {status}"


def logged_in() -> bool:
    """Whether a token for the hub is set."""
    from huggingface_hub import get_token

    return get_token() is not None


def _what() -> dict[str, list[str]]:
    return {"allow_patterns": _FILES, "ignore_patterns": _COPIES}


def _where() -> dict[str, Any]:
    # A hub cache that the user named is shared with other tools: models already there are not fetched twice.
    shared = os.environ.get("HF_HUB_CACHE") or os.environ.get("HF_HOME")
    return {"cache_dir": None if shared else cache_dir("hub"), "endpoint": os.environ.get("HF_ENDPOINT")}


def _no_name(model: str | Path) -> str:
    return f"{model!r} is no hub name: it is owner/name, or a local folder"


def _why(error: Exception) -> str:
    """The cause and its cure, to stand behind the model's name."""
    from huggingface_hub import errors

    if isinstance(error, errors.HTTPError) and not isinstance(error, errors.HfHubHTTPError):
        return _WHY["LocalEntryNotFoundError"]  # nobody answered
    fitting = (why for name, why in _WHY.items() if isinstance(error, getattr(errors, name)))
    return next(fitting, f"could not be fetched from the hub ({said(error)}): mend that, then call again")


def _digest(snapshot: Path) -> str:
    """sha256 over file names and the content hashes that the hub's cache names its files by; reads no weights."""
    files = sorted(path for path in snapshot.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(snapshot).as_posix()} {path.resolve().name}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
