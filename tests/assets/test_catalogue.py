"""The catalogue: what is in it is complete, and what does not fit is refused in a sentence."""

import pytest
import yaml

from papercore.assets import AssetError, catalogue
from papercore.assets.catalogue import read_catalogue

GOOD = {
    "kind": "dataset",
    "filename": "thing.bin",
    "size": 5,
    "sha256": "a" * 64,
    "licence": "MIT",
    "sources": [{"package": "thing==1.0", "archive": "wheel", "member": "thing/thing.bin"}],
}
PART = GOOD["sources"][0]


@pytest.fixture
def read(tmp_path):
    """Reads a catalogue with the one entry `thing`."""

    def reader(entry):
        (tmp_path / "assets.yaml").write_text(entry if isinstance(entry, str) else yaml.safe_dump({"thing": entry}))
        return read_catalogue(tmp_path / "assets.yaml", "demo")

    return reader


def test_every_entry_is_complete():
    known = catalogue()
    assert {"smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct"} <= set(known)
    for asset in known.values():
        assert len(asset.sha256) == 64 and asset.size > 0 and asset.licence and asset.note
        assert asset.shipped or "==" in asset.revision


def test_rooms_own_their_assets(tmp_path, monkeypatch):
    for file, name in {"assets/catalogue.yaml": "shared", "papers/one/assets.yaml": "own"}.items():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(yaml.safe_dump({name: GOOD}))
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    assert {name: asset.room for name, asset in catalogue().items()} == {"shared": None, "own": "one"}


def test_a_good_entry_is_read_and_frozen(read):
    (asset,) = read(GOOD)
    assert (asset.name, asset.room, asset.revision) == ("thing", "demo", "thing==1.0")
    with pytest.raises(ValueError):
        asset.size = 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, r"colour: Extra inputs are not permitted \(given 'red'\)"),
        ({"sha256": "a" * 63}, "sha256: String should match pattern"),
        ({"sha256": None}, "sha256: Input should be a valid string"),
        ({"size": 0}, r"size: Input should be greater than 0 \(given 0\)"),
        ({"filename": "../thing.bin"}, "filename: String should match pattern"),
        ({"kind": "toy"}, "kind: Input should be 'language_model', 'dataset'"),
        ({"sources": []}, "entry: an asset has sources, or it is shipped"),
        ({"shipped": "sae/thing.bin"}, "entry: an asset has sources, or it is shipped"),
        ({"sources": [], "shipped": "../thing.bin"}, "shipped: String should match pattern"),
        ({"sources": [PART | {"package": "thing>=1"}]}, r"sources\.0\.0\.package: String should match"),
        ({"sources": [PART | {"archive": "egg"}]}, r"sources\.0\.0\.archive: Input should be 'wheel' or 'sdist'"),
        ({"sources": [PART | {"url": "x"}]}, r"sources\.0\.0\.url: Extra inputs"),
        ({"sources": [{"join": [PART, PART]}]}, "entry: each part of a joined file needs its own sha256"),
        ({"sources": [{"join": []}]}, "sources.0: .*at least 1 item"),
    ],
)
def test_a_bad_entry_is_one_sentence(read, change, said):
    with pytest.raises(AssetError, match=r"^papers/demo/assets\.yaml, thing: " + said) as error:
        read(GOOD | change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["- a list", "thing: 3", "thing: [", "a: {b: 1}\n\tc: 2"])
def test_a_file_of_another_shape_is_one_sentence(read, text):
    with pytest.raises(AssetError, match=r"^papers/demo/assets\.yaml") as error:
        read(text)
    assert "\n" not in str(error.value)


def test_an_empty_file_is_an_empty_catalogue(read):
    assert read("# nothing yet\n") == []


def test_one_name_cannot_mean_two_things(tmp_path, monkeypatch):
    for folder in ("assets", "papers/one", "papers/two"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "assets" / "catalogue.yaml").write_text("")
    for slug in ("one", "two"):
        (tmp_path / "papers" / slug / "assets.yaml").write_text(yaml.safe_dump({"thing": GOOD}))
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(AssetError, match=r"two catalogue files name thing: rename the one in papers/two/assets\.yaml"):
        catalogue()
