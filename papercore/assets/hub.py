"""snapshot(model): a model's folder, local or from the hub (safetensors, tokenizer, config). Floor: assets."""

import hashlib
import os
from pathlib import Path

from papercore.assets.cache import cache_dir
from papercore.assets.errors import AssetError, AssetUnavailable, redacted
from papercore.assets.opened import record
from papercore.assets.progress import in_notebook

# Weights come as safetensors or not at all: pickles can run code.
_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
_COPIES = ["original/*", "onnx/*", "consolidated*"]  # the same weights again, in other layouts
_WHY = {  # the first that fits
    "GatedRepoError": "is gated: accept its terms on its hub page, log in (hf auth login), then call again",
    "RepositoryNotFoundError": "is not on the hub, or private: check the spelling, or log in (hf auth login)",
    "LocalEntryNotFoundError": "is not cached and the hub cannot be reached: go online once, or give a local folder",
    "OfflineModeIsEnabled": "is not cached and HF_HUB_OFFLINE is set: unset it, or give a local folder",
}


def snapshot(model: str | Path) -> Path:
    """Folder of a model: a local folder as it is, or the hub repository `owner/name`, downloaded to the cache.

    Raises AssetError for a folder or name that cannot be one, AssetUnavailable when the hub does not deliver.
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
    # A hub cache that the user named is shared with other tools: models already there are not fetched twice.
    shared = os.environ.get("HF_HUB_CACHE") or os.environ.get("HF_HOME")
    try:
        found = snapshot_download(
            str(model),
            allow_patterns=_FILES,
            ignore_patterns=_COPIES,
            cache_dir=None if shared else cache_dir("hub"),
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    except errors.HFValidationError:
        raise AssetError(f"{model!r} is no hub name: it is owner/name, or a local folder") from None
    except OSError as error:
        reason = (
            f"could not be fetched from the hub ({redacted(' '.join(str(error).split()))}): mend that, then call again"
        )
        fitting = (why for name, why in _WHY.items() if isinstance(error, getattr(errors, name)))
        raise AssetUnavailable(f"{model} {next(fitting, reason)}") from None
    found = Path(found)
    if not any(found.glob("*.safetensors")):
        raise AssetUnavailable(
            f"{model} has no safetensors weights, and no other kind is read: choose another repository"
        )
    record(str(model), found.name, _digest(found))
    return found


def _digest(snapshot: Path) -> str:
    """sha256 over file names and the content hashes that the hub's cache names its files by; reads no weights."""
    files = sorted(path for path in snapshot.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(snapshot).as_posix()} {path.resolve().name}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
