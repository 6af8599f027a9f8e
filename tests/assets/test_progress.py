"""What a download says, and where it says nothing."""

import sys
from types import SimpleNamespace

from loopback import asset_of

from papercore.assets.progress import progress

ASSET = asset_of(b"x" * 2_000_000, {"package": "a==1", "archive": "wheel"}, note="Terms: be kind.")


def test_a_log_gets_plain_lines_with_the_terms(capfd):
    with progress(ASSET) as there:
        there(1000)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "fetching thing: 2 MB, CC0-1.0. Terms: be kind.\nthing is in the cache\n"


def test_a_terminal_gets_a_bar(capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(ASSET) as there:
        there(1_000_000)
    assert "be kind" in capfd.readouterr().err


def test_a_notebook_gets_nothing(capfd, monkeypatch):
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    with progress(ASSET) as there:
        there(1000)
    assert capfd.readouterr() == ("", "")
