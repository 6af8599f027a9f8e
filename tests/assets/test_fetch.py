"""fetch: sources in order, hashes, joined parts, healing, two processes, full and read-only disks."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import pytest
from loopback import asset_of, noise, sha256, write_wheel

from papercore.assets import (
    Asset,
    AssetError,
    AssetUnavailable,
    cache_entries,
    catalogue,
    fetch,
    models_table,
    obtain,
    opened,
)

DATA = b"some measured bytes\n" * 500


def three_parts(index):
    """An asset joined from three wheels, whose parts' names do not sort as they must be joined."""
    pieces = [noise(4000, seed) for seed in (3, 1, 2)]
    parts = [
        index.wheel(f"pack-{letter}==1.0", f"pack/{letter}.bin", piece) | {"sha256": sha256(piece)}
        for letter, piece in zip("zay", pieces, strict=True)
    ]
    return asset_of(b"".join(pieces), {"join": parts}), b"".join(pieces)


def files_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("archive", ["wheel", "sdist"])
def test_delivers_the_member_and_leaves_nothing_else(index, cache, archive):
    asset = asset_of(DATA, getattr(index, archive)("some-data==1.2", "some_data/files/thing.bin", DATA))
    path = obtain(asset)
    assert path.read_bytes() == DATA
    assert [f for f in files_in(cache) if not f.endswith(".lock")] == ["assets/thing/thing.bin"]
    assert {"name": "thing", "revision": "some-data==1.2", "sha256": sha256(DATA)} in opened()


def test_without_a_member_the_archive_itself_is_the_file(index):
    source = index.wheel("some-data==1.2", "x", DATA)
    archive = (index.folder / "some_data-1.2-py3-none-any.whl").read_bytes()
    assert obtain(asset_of(archive, source | {"member": None})).read_bytes() == archive


def test_a_cached_file_needs_no_index(index, monkeypatch):
    asset = asset_of(DATA, index.wheel("some-data==1.2", "x", DATA))
    path = obtain(asset)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setattr("subprocess.run", None)  # not even pip's settings are asked for
    assert obtain(asset) == path
    assert len(index.downloads) == 1


def test_wrong_bytes_are_refused_in_one_sentence_and_not_kept(index, cache):
    asset = asset_of(DATA, index.wheel("some-data==1.2", "x", DATA[:-1] + b"?"))
    with pytest.raises(AssetUnavailable, match=r"^thing could not be fetched: some-data==1\.2 .*other bytes") as error:
        obtain(asset)
    assert "\n" not in str(error.value)
    assert all(f.endswith(".lock") for f in files_in(cache))


def test_a_member_larger_than_catalogued_is_not_unpacked(index):
    asset = asset_of(DATA, index.wheel("bomb==1.0", "x", DATA + bytes(3_000_000)))
    with pytest.raises(AssetUnavailable, match="larger than the catalogued 10000 bytes"):
        obtain(asset)


def test_the_next_source_is_tried(index):
    wrong = index.wheel("wrong==1.0", "x", DATA[::-1])
    gone = {"package": "gone==1.0", "archive": "wheel", "member": "x"}
    no_member = index.wheel("other==1.0", "x", DATA) | {"member": "y"}
    right = index.sdist("right==1.0", "right-1.0/x", DATA)
    assert obtain(asset_of(DATA, wrong, gone, no_member, right)).read_bytes() == DATA


def test_the_next_place_is_tried_when_the_first_has_other_bytes(index, tmp_path, monkeypatch):
    source = index.wheel("some-data==1.2", "x", DATA)
    links = tmp_path / "links"
    links.mkdir()
    other = write_wheel(links / "some_data-1.2-py3-none-any.whl", "x", b"stale")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    assert obtain(asset_of(DATA, source)).read_bytes() == DATA
    assert other.is_file()  # a user's own archive is read where it lies


def test_when_no_source_delivers_every_reason_is_given(index, monkeypatch):
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/simple")
    sources = [{"package": f"{name}==1.0", "archive": "wheel", "member": "x"} for name in ("gone", "lost")]
    with pytest.raises(AssetUnavailable) as error:
        obtain(asset_of(DATA, *sources))
    text = str(error.value)
    assert "gone==1.0" in text and "lost==1.0" in text and "no such wheel there" in text and "refused" in text
    assert "pip config list" in text and "\n" not in text


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "longer"])
def test_a_broken_cached_file_heals(index, damage, sealed):
    asset = asset_of(DATA, index.wheel("some-data==1.2", "x", DATA))
    path = obtain(asset)
    if sealed:  # an older file, found intact once
        os.utime(path, (time.time() - 60,) * 2)
        obtain(asset)
        assert path.with_name("thing.bin.seal").is_file()
    flipped = bytes([DATA[0] ^ 1]) + DATA[1:]
    path.write_bytes({"truncated": DATA[:-9], "flipped": flipped, "emptied": b"", "longer": DATA + b"x"}[damage])
    assert obtain(asset).read_bytes() == DATA
    assert len(index.downloads) == 2


def test_an_intact_file_is_hashed_once_only(index, monkeypatch):
    asset = asset_of(DATA, index.wheel("some-data==1.2", "x", DATA))
    os.utime(obtain(asset), (time.time() - 60,) * 2)
    obtain(asset)
    monkeypatch.setattr("hashlib.file_digest", None)
    obtain(asset)


def test_a_broken_file_does_not_survive_a_failed_healing(index):
    asset = asset_of(DATA, index.wheel("some-data==1.2", "x", DATA))
    path = obtain(asset)
    path.write_bytes(b"broken")
    index.remove("some-data==1.2")
    with pytest.raises(AssetUnavailable):
        obtain(asset)
    assert not path.exists()


def test_a_download_that_ends_early_is_not_kept_and_heals(index, cache):
    asset = asset_of(DATA, index.wheel("some-data==1.2", "x", DATA))
    index.cut.add("some_data-1.2-py3-none-any.whl")
    with pytest.raises(AssetUnavailable):
        obtain(asset)
    assert all(f.endswith(".lock") for f in files_in(cache))
    index.cut.clear()
    assert obtain(asset).read_bytes() == DATA


def test_parts_are_joined_in_the_order_of_the_catalogue(index, cache):
    asset, data = three_parts(index)
    assert obtain(asset).read_bytes() == data
    assert [f for f in files_in(cache) if not f.endswith(".lock")] == ["assets/thing/thing.bin"]


def test_an_interrupted_join_continues_with_the_finished_parts(index, cache):
    asset, data = three_parts(index)
    index.cut.add("pack_y-1.0-py3-none-any.whl")
    with pytest.raises(AssetUnavailable, match=r"pack-y==1\.0"):
        obtain(asset)
    assert len([f for f in files_in(cache / "parts") if not f.endswith(".lock")]) == 2
    # What a killed process may leave behind besides.
    work = cache / "parts" / "thing.tmp"
    work.mkdir()
    (work / "thing.bin").write_bytes(data[:5000])
    index.cut.clear()
    index.downloads.clear()
    assert obtain(asset).read_bytes() == data
    assert index.downloads == ["pack_y-1.0-py3-none-any.whl"]


def test_a_kept_part_that_broke_is_fetched_again(index, cache):
    asset, data = three_parts(index)
    index.cut.add("pack_y-1.0-py3-none-any.whl")
    with pytest.raises(AssetUnavailable):
        obtain(asset)
    kept = cache / "parts" / asset.sources[0][0].sha256
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    index.cut.clear()
    assert obtain(asset).read_bytes() == data
    assert index.downloads.count("pack_z-1.0-py3-none-any.whl") == 2


def test_parts_that_join_to_something_else_are_refused(index):
    asset, data = three_parts(index)
    wrong = asset.model_copy(update={"sha256": sha256(b"something else")})
    with pytest.raises(AssetUnavailable, match=f"join to sha256 {sha256(data)}"):
        obtain(wrong)


def test_two_processes_share_one_download(index, tmp_path):
    asset = asset_of(DATA, index.wheel("some-data==1.2", "x", DATA))
    index.delay = 0.3
    script = (
        "import sys; from papercore.assets import Asset, obtain; "
        "print(obtain(Asset.model_validate_json(sys.stdin.read())).read_bytes().decode(), end='')"
    )
    command = [sys.executable, "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, cwd=Path(__file__).parents[2], **pipes) for _ in range(2)]
    for process in both:
        process.stdin.write(asset.model_dump_json())
        process.stdin.close()
    for process in both:
        assert process.stdout.read() == DATA.decode(), process.stderr.read()
        assert process.wait() == 0
        process.stdout.close(), process.stderr.close()
    assert len(index.downloads) == 1


@contextmanager
def write_protected(folder):
    """`folder` as a user sees it who may only read; root is somebody else meanwhile, whom permissions bind."""
    modes = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")]}
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.fixture
def shared_cache(monkeypatch):
    """A cache that other users can reach, which pytest's own temporary folders are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("PAPERCORE_CACHE", folder)
        yield Path(folder)


def test_a_read_only_cache_that_holds_the_file_serves_it(index, shared_cache):
    asset = asset_of(DATA, index.wheel("some-data==1.2", "x", DATA))
    os.utime(obtain(asset), (time.time() - 60,) * 2)  # not sealed yet, and no seal can be written
    with write_protected(shared_cache):
        assert obtain(asset).read_bytes() == DATA
    assert not list(shared_cache.rglob("*.seal"))


def test_a_read_only_cache_without_the_file_says_so(index, shared_cache):
    asset = asset_of(DATA, index.wheel("some-data==1.2", "x", DATA))
    with (
        write_protected(shared_cache),
        pytest.raises(AssetError, match=r"denied.*set PAPERCORE_CACHE") as error,
    ):
        obtain(asset)
    assert str(shared_cache) in str(error.value) and not isinstance(error.value, AssetUnavailable)


def test_a_cache_root_that_is_a_file_says_so(index, cache):
    cache.write_text("in the way")
    with pytest.raises(AssetError, match=r"cannot be stored in .*set PAPERCORE_CACHE"):
        obtain(asset_of(DATA, index.wheel("some-data==1.2", "x", DATA)))


@pytest.mark.parametrize("room", [100, 3000, 9000])  # fails at the wheel, at the part, at the joined file
def test_a_full_disk_is_one_sentence_and_heals(index, cache, room):
    pieces = [bytes(5000), noise(2500) + bytes(2500)]
    parts = [index.wheel(f"pack-{n}==1.0", "x", piece) | {"sha256": sha256(piece)} for n, piece in enumerate(pieces)]
    asset = asset_of(b"".join(pieces), {"join": parts})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(AssetError, match=r"^thing cannot be stored in .*free 0 MB there"):
            obtain(asset)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = [cache / f for f in files_in(cache) if not f.endswith(".lock")]
    assert all(sha256(file.read_bytes()) == file.name for file in kept)  # whole parts at most
    assert obtain(asset).read_bytes() == b"".join(pieces)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(AssetError, match="no 'smollm2-135m-instuct': did you mean smollm2-135m-instruct"):
        fetch("smollm2-135m-instuct")


def test_models_table_lists_what_is_there(cache):
    rows = {row[0]: row for row in models_table()}
    kind, size, licence, cached, note = rows["gemma-3-270m"][1:]
    assert (kind, size, licence, cached) == ("language_model", 253113024, "Gemma Terms of Use", False)
    assert "https://ai.google.dev/gemma/terms" in note


@pytest.mark.network
def test_the_smallest_asset_comes_from_the_configured_index():
    asset = min(catalogue().values(), key=lambda asset: asset.size)
    assert fetch(asset.name).stat().st_size == asset.size
    assert ("assets", asset.name, 1, asset.size) in cache_entries()


def test_a_file_that_ships_is_used_where_it_lies_and_its_bytes_are_checked():
    path = Path(str(resources.files("papercore"))) / "assets" / "catalogue.yaml"
    raw = path.read_bytes()
    good = {"name": "own", "kind": "sae", "filename": "own.yaml", "licence": "MIT", "size": len(raw)}
    good |= {"shipped": "assets/catalogue.yaml", "sha256": sha256(raw)}
    asset = Asset.model_validate(good)
    assert obtain(asset) == path and asset.revision == "assets/catalogue.yaml"
    for change, said in (
        ({"sha256": "0" * 64}, "has other bytes than catalogued"),
        ({"size": 3}, "has other bytes than catalogued"),
        ({"shipped": "assets/gone.yaml"}, "is missing"),
    ):
        with pytest.raises(AssetError, match=rf"^own: papercore/assets/\w+\.yaml {said}; install papercore again$"):
            obtain(Asset.model_validate(good | change))
