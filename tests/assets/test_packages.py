"""Where archives are looked for: pip's own settings, and what goes wrong there, without secrets."""

import os
import shutil
import subprocess
import sys

import pytest
from loopback import Index, asset_of, write_wheel

from papercore.assets import AssetUnavailable, clear_cache, obtain
from papercore.assets.errors import redacted
from papercore.assets.packages import pip_settings, silences

DATA = b"bytes" * 100
SOURCE = {"package": "some-data==1.2", "archive": "wheel", "member": "x"}


@pytest.fixture
def links(tmp_path):
    """A plain folder with the wheel."""
    folder = tmp_path / "links"
    folder.mkdir()
    write_wheel(folder / "some_data-1.2-py3-none-any.whl", "x", DATA)
    return folder


def test_an_index_named_only_in_pip_conf_is_used(index, tmp_path, monkeypatch):
    source = index.wheel("some-data==1.2", "x", DATA)
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {index.url}\n")
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert obtain(asset_of(DATA, source)).read_bytes() == DATA


def test_find_links_alone_are_enough(no_pip_settings, links, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    assert obtain(asset_of(DATA, SOURCE)).read_bytes() == DATA


def test_an_extra_index_serves_when_the_first_is_down(index, monkeypatch):
    source = index.wheel("some-data==1.2", "x", DATA)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file:///nowhere/simple {index.url}")
    assert obtain(asset_of(DATA, source)).read_bytes() == DATA


def test_a_place_that_does_not_exist_is_passed_over(index, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere/links")
    assert obtain(asset_of(DATA, index.wheel("some-data==1.2", "x", DATA))).read_bytes() == DATA


def test_nowhere_to_look_is_said(no_pip_settings, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "true")
    with pytest.raises(AssetUnavailable, match="no-index, and no find-links"):
        obtain(asset_of(DATA, SOURCE))


def test_a_missing_certificate_file_is_said(index, monkeypatch):
    monkeypatch.setenv("PIP_CERT", "/nowhere/ca.pem")
    with pytest.raises(AssetUnavailable, match=r"pip's cert /nowhere/ca\.pem cannot be read"):
        obtain(asset_of(DATA, index.wheel("some-data==1.2", "x", DATA)))


@pytest.fixture
def private(tmp_path, no_pip_settings, monkeypatch):
    """An index behind a certificate that nobody vouches for: (index, file of the certificate)."""
    both = tmp_path / "key-and-certificate.pem"
    request = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*request.split(), "-keyout", both, "-out", tmp_path / "ca.pem"], check=True, capture_output=True)
    both.write_text(both.read_text() + (tmp_path / "ca.pem").read_text())
    server = Index(tmp_path / "private", both)
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    yield server, tmp_path / "ca.pem"
    server.close()


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
def test_a_private_certificate_is_believed_when_pip_is_told_so(private, monkeypatch):
    index, certificate = private
    asset = asset_of(DATA, index.wheel("some-data==1.2", "x", DATA))
    with pytest.raises(AssetUnavailable, match="certificate verify failed"):
        obtain(asset)
    monkeypatch.setenv("PIP_CERT", str(certificate))
    assert obtain(asset).read_bytes() == DATA
    clear_cache()
    monkeypatch.delenv("PIP_CERT")
    monkeypatch.setenv("PIP_TRUSTED_HOST", index.url.split("/")[2])
    assert obtain(asset).read_bytes() == DATA


def test_a_password_opens_an_index_and_is_never_printed(index, monkeypatch, capfd):
    source = index.wheel("some-data==1.2", "x", DATA)
    index.require("reader", "s3cret")
    address = index.url.removeprefix("http://")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://reader:wr0ng@{address}")
    with pytest.raises(AssetUnavailable, match=r"\(the package index: it answers 401\)") as error:
        obtain(asset_of(DATA, source))
    monkeypatch.setenv("PIP_INDEX_URL", f"http://reader:s3cret@{address}")
    assert obtain(asset_of(DATA, source)).read_bytes() == DATA
    shown = str(error.value) + "".join(capfd.readouterr())
    assert "wr0ng" not in shown and "s3cret" not in shown


def test_addresses_are_left_out_and_places_named_by_role(index, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", f"{index.url}/t0ken/links file:///nowhere/t0ken")
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/t0ken/simple?key=t0ken")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/t0ken/simple file:///nowhere/t0ken/simple")
    with pytest.raises(AssetUnavailable) as error:
        obtain(asset_of(DATA, SOURCE))
    said = str(error.value)
    for place in ("find-links 1: ", "find-links 2: ", "the package index: ", "extra index 1: ", "extra index 2: "):
        assert place in said
    assert "t0ken" not in said and "://" not in said and "127.0.0.1" not in said


def test_redaction_takes_whole_urls():
    said = redacted("for url 'https://u:p@ss@h/t0ken/x?key=(a)&b=c', (file:///a/b) and socks5://u@h; http://h.")
    assert said == "for url '<URL>', (<URL>) and <URL>; <URL>."
    assert redacted("Request URL is missing an 'http://' or 'https://' protocol.").endswith("protocol.")


def test_stronger_settings_overwrite_weaker_ones(no_pip_settings, tmp_path, monkeypatch):
    conf = "[install]\nindex-url = http://install\n[global]\nindex-url = http://global\nfind-links =\n  /a\n  /b\n"
    (tmp_path / "pip.conf").write_text(conf)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert pip_settings()["index-url"] == "http://install"
    assert pip_settings()["find-links"].split() == ["/a", "/b"]
    monkeypatch.setenv("PIP_INDEX_URL", "http://environment")
    monkeypatch.setenv("PIP_FIND_LINKS", "")  # empty: as if it were not set, for pip too
    assert pip_settings()["index-url"] == "http://environment"
    assert pip_settings()["find-links"].split() == ["/a", "/b"]


def test_without_pip_the_environment_speaks(no_pip_settings, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setenv("PIP_INDEX_URL", "http://environment")
    assert pip_settings()["index-url"] == "http://environment"


def test_importing_the_floor_loads_nothing_heavy():
    heavy = "{'torch', 'transformers', 'unearth', 'huggingface_hub', 'numpy'}"
    script = f"import sys, papercore.assets; print({heavy} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert shown.stdout.strip() == "set()", shown.stderr


def test_each_place_answers_or_says_why_not(index, links, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", f"{links} /nowhere/links")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://user:secret@127.0.0.1:9/simple http://somewhere.invalid/simple")
    said = dict(silences("some-data"))
    assert list(said) == ["find-links 1", "find-links 2", "the package index", "extra index 1", "extra index 2"]
    # Not to have a package is an answer.
    assert said["find-links 1"] == said["the package index"] == ""
    assert said["find-links 2"] == "there is no such folder"
    assert "refused" in said["extra index 1"]
    assert "trusted-host" in said["extra index 2"]
    assert "secret" not in str(said) and "://" not in str(said)
    assert index.downloads == []


def test_a_place_that_wants_a_login_or_is_broken_does_not_answer(index, monkeypatch):
    index.require("user", "right")
    assert silences("some-data") == [("the package index", "it answers 401")]
    monkeypatch.setenv("PIP_CERT", "/nowhere.pem")
    ((name, why),) = silences("some-data")
    assert name == "pip's settings" and "/nowhere.pem cannot be read" in why
