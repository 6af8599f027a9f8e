"""fetch(name): the one verified, atomic, cached file of a catalogue entry. Floor: assets.

Sources are tried in order; a file has a temporary name until its sha256 is right, finished parts of a joined file are
kept for the next call, one process downloads while others wait, and a broken cached file is fetched anew.
"""

import hashlib
import os
import shutil
import tarfile
import zipfile
from contextlib import ExitStack, suppress
from importlib import resources
from pathlib import Path
from time import time_ns

from filelock import FileLock

from papercore.assets.cache import cache_dir
from papercore.assets.catalogue import Asset, Part, Source, catalogue, entry
from papercore.assets.errors import DISK_FULL, AssetError, AssetUnavailable, redacted
from papercore.assets.opened import record
from papercore.assets.packages import NOWHERE, Place, places
from papercore.assets.progress import Report, progress

_CHUNK = 1 << 20


def fetch(name: str) -> Path:
    """Path of the verified file of the catalogue's `name`, downloaded on first use.

    Raises AssetUnavailable when no source delivers it, AssetError for an unknown name or a cache it cannot write to.
    """
    return obtain(entry(name))


def obtain(asset: Asset) -> Path:
    """`fetch` for an asset that stands in no catalogue."""
    if asset.shipped:
        return _own(asset)
    path, parts = _home(asset), cache_dir("parts")
    try:
        if not _intact(path, asset):
            parts.mkdir(parents=True, exist_ok=True)
            with FileLock(parts / f"{asset.name}.lock"):
                if not _intact(path, asset):  # another process may have been faster
                    path.unlink(missing_ok=True)
                    _download(asset, path, parts)
        _sweep(asset, parts)
    except OSError as error:
        cure = "make it writable, or set PAPERCORE_CACHE to a folder that is"
        if error.errno in DISK_FULL:
            cure = f"free {2 * asset.size / 1e6:.0f} MB there, or set PAPERCORE_CACHE to a folder on a larger disk"
        why = error.strerror or error
        raise AssetError(f"{asset.name} cannot be stored in {cache_dir()} ({why}): {cure}") from None
    record(asset.name, asset.revision, asset.sha256)
    return path


def models_table() -> list[tuple[str, str, int, str, bool, str]]:
    """The catalogue, language models first: name, kind, size in bytes, licence, whether it is cached, note."""
    assets = sorted(catalogue().values(), key=lambda asset: asset.kind != "language_model")
    return [(a.name, a.kind, a.size, a.licence, _has_size(_home(a), a.size), a.note) for a in assets]


def _home(asset: Asset) -> Path:
    if asset.shipped:
        return Path(str(resources.files("papercore"))) / asset.shipped
    return cache_dir("assets", asset.name, asset.filename)


def _own(asset: Asset) -> Path:
    """The file that ships with the package, its bytes checked."""
    path = _home(asset)
    if not _has_size(path, asset.size) or _sha256(path) != asset.sha256:
        state = "has other bytes than catalogued" if path.is_file() else "is missing"
        raise AssetError(f"{asset.name}: papercore/{asset.shipped} {state}; install papercore again")
    record(asset.name, asset.revision, asset.sha256)
    return path


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _intact(path: Path, asset: Asset) -> bool:
    """Whether `path` holds the asset's exact bytes; hashed only if its size or time changed since it was sealed."""
    if not _has_size(path, asset.size):
        return False
    changed = path.stat().st_mtime_ns
    seal, stamp = path.with_name(path.name + ".seal"), f"{asset.sha256} {asset.size} {changed}"
    with suppress(OSError, ValueError):
        if seal.read_text() == stamp:
            return True
    if _sha256(path) != asset.sha256:
        return False
    # A file this young could still change within one tick of the file system's clock: it is sealed on a later call.
    if time_ns() - changed > 2_000_000_000:
        with suppress(OSError):  # a read-only cache serves all the same, only slower
            seal.write_text(stamp)
    return True


def _download(asset: Asset, path: Path, parts: Path) -> None:
    """Put the asset at `path` from the first source that delivers it; raises AssetUnavailable if none does."""
    problems, work = [], _work(parts, asset)
    try:
        with places() as where, progress(asset) as there:
            for source in asset.sources:
                try:
                    whole = _assemble(asset, source, parts, work, where, there)
                except AssetUnavailable as problem:
                    problems.append(str(problem))
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(whole, path)
                return
            raise AssetUnavailable(
                f"{asset.name} could not be fetched: {'; '.join(problems)}; "
                "check the network and pip's settings (python -m pip config list), then call again"
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sweep(asset: Asset, parts: Path) -> None:
    """Delete the pieces of a finished download; a call that was killed at its very end left them to the next."""
    pieces = [_kept(parts, asset, part) for source in asset.sources for part in source]
    if any(piece.exists() for piece in (_work(parts, asset), *pieces)):
        with suppress(OSError), FileLock(parts / f"{asset.name}.lock"):
            shutil.rmtree(_work(parts, asset), ignore_errors=True)
            for piece in pieces:
                piece.unlink(missing_ok=True)


def _work(parts: Path, asset: Asset) -> Path:
    """Folder of an unfinished download."""
    return parts / f"{asset.name}.tmp"


def _kept(parts: Path, asset: Asset, part: Part) -> Path:
    """Where a finished part waits for the others, under the name of its content."""
    return parts / (part.sha256 or asset.sha256)


def _assemble(asset: Asset, source: Source, parts: Path, work: Path, where: list[Place], there: Report) -> Path:
    """The source's parts, joined in order: a temporary file that has the asset's sha256."""
    pieces = []
    for number, part in enumerate(source):
        piece = _kept(parts, asset, part)
        if not (piece.is_file() and _sha256(piece) == piece.name):
            piece.unlink(missing_ok=True)

            def report(share: float, number: int = number) -> None:
                there(asset.size * (number + share) / len(source))

            os.replace(_deliver(part, piece.name, asset.size, work, where, report), piece)
        pieces.append(piece)
    if len(pieces) == 1:
        return pieces[0]
    joined = _emptied(work) / asset.filename
    with joined.open("wb") as out:
        for piece in pieces:
            with piece.open("rb") as file:
                shutil.copyfileobj(file, out, _CHUNK)
    if (digest := _sha256(joined)) != asset.sha256:
        raise AssetUnavailable(f"its parts, each as catalogued, join to sha256 {digest}")
    return joined


def _deliver(part: Part, sha256: str, limit: int, work: Path, where: list[Place], report: Report) -> Path:
    """The part, read from the first place whose archive holds its exact bytes: a file in `work`."""
    problems = [] if where else [NOWHERE]
    for place in where:
        try:
            for archive in place.download(part, _emptied(work), report):
                raw = work / "part"
                _unpack(archive, part.member, raw, limit)
                if (digest := _sha256(raw)) == sha256:
                    return raw
                problems.append(f"{place.name} has other bytes (sha256 {digest[:12]}..., not {sha256[:12]}...)")
        except Exception as error:  # networks, proxies and damaged archives each fail in their own way: try the next
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            problems.append(f"{place.name}: {reason}")
    raise AssetUnavailable(redacted(f"{part.package} ({'; '.join(problems)})"))


def _unpack(archive: Path, member: str | None, target: Path, limit: int) -> None:
    """Copy one member of a zip or tar, or the archive itself, to `target`, and no more than `limit` bytes of it."""
    with ExitStack() as stack:
        if member is None:
            stream = stack.enter_context(archive.open("rb"))
        elif archive.suffix in (".whl", ".zip"):
            stream = stack.enter_context(stack.enter_context(zipfile.ZipFile(archive)).open(member))
        else:
            stream = stack.enter_context(tarfile.open(archive)).extractfile(member)
        out = stack.enter_context(target.open("wb"))
        while chunk := stream.read(_CHUNK):
            if out.tell() + len(chunk) > limit:
                raise ValueError(f"{member or archive.name} is larger than the catalogued {limit} bytes")
            out.write(chunk)


def _emptied(folder: Path) -> Path:
    """`folder`, there and empty: an interrupted call may have left anything in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
