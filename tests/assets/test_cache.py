"""The cache folder: where it is, what it holds, how it shrinks; and the list of what was opened."""

import os
from pathlib import Path

import pytest

from papercore.assets import AssetError, cache_dir, cache_entries, clear_cache, opened, record, trim


def fill(folder, sizes):
    """Files of these sizes, the first one the oldest."""
    folder.mkdir(parents=True, exist_ok=True)
    for age, size in enumerate(sizes):
        path = folder / f"{age}.bin"
        path.write_bytes(bytes(size))
        os.utime(path, (1_000_000 + age,) * 2)


def test_cache_dir_follows_the_environment_and_creates_nothing(cache, monkeypatch):
    assert cache_dir("assets", "x") == cache / "assets" / "x"
    assert not cache.exists()
    monkeypatch.setenv("PAPERCORE_CACHE", "~/somewhere")
    assert cache_dir() == Path.home() / "somewhere"
    monkeypatch.delenv("PAPERCORE_CACHE")
    assert cache_dir().is_absolute() and cache_dir().name == "papercore"


def test_trim_lets_the_oldest_leave(cache):
    fill(cache, [10, 20, 30, 40])
    assert trim(cache, 75) == 30
    assert sorted(p.name for p in cache.iterdir()) == ["2.bin", "3.bin"]
    assert trim(cache, 75) == 0
    assert trim(cache, 0) == 70
    assert trim(cache / "missing", 0) == 0


def test_trim_passes_over_a_file_that_another_process_deleted(cache, monkeypatch):
    fill(cache, [10, 20, 30])
    unlink = Path.unlink

    def racing(path, **how):
        if path.name == "0.bin":
            unlink(path)
        unlink(path, **how)

    monkeypatch.setattr(Path, "unlink", racing)
    trim(cache, 35)
    assert [p.name for p in cache.iterdir()] == ["2.bin"]


def test_entries_and_clearing(cache):
    fill(cache / "activations", [10, 20])
    fill(cache / "models" / "tiny-0123", [5])
    (cache / "hub" / "snapshots").mkdir(parents=True)
    fill(cache / "hub" / "blobs", [7])
    (cache / "hub" / "snapshots" / "weights").symlink_to(cache / "hub" / "blobs" / "0.bin")
    assert cache_entries() == [
        ("models", "tiny-0123", 1, 5),
        ("activations", "(files)", 2, 30),
        ("hub", "blobs", 1, 7),
    ]
    assert clear_cache("activations") == 30
    assert clear_cache() == 12
    assert cache_entries() == []


def test_an_unknown_kind_is_refused():
    with pytest.raises(AssetError, match="no 'model': choose one of assets, parts, models, activations, hub, or all"):
        clear_cache("model")


def test_what_was_opened_is_listed_once_and_cannot_be_changed_from_outside():
    record("a-model", "1", "00")
    record("a-model", "2", "11")
    assert opened().count({"name": "a-model", "revision": "2", "sha256": "11"}) == 1
    opened()[0]["name"] = "other"
    assert "other" not in [entry["name"] for entry in opened()]
