"""Snapshots: local folders as they are, and every way the hub can refuse, against a hub on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from papercore.assets import AssetError, AssetUnavailable, opened, snapshot
from papercore.assets.hub import access, logged_in, silence

COMMIT = "0123456789" * 4
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"pickle"}


@pytest.fixture
def hub(monkeypatch):
    """A hub on loopback with some/model, pickles/only, gated/model, closed/model and broken/model; notes its requests.

    closed/model shows its facts to everybody and its files to nobody.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            asked.append(f"{self.command} {self.path}")
            path, files = self.path.split("?")[0], dict(FILES)
            repo = "/".join(path.removeprefix("/api/models/").strip("/").split("/")[:2])
            if repo == "pickles/only":
                del files["model.safetensors"]
            if repo == "gated/model":
                return self.send(401, b"", {"X-Error-Code": "GatedRepo"})
            if repo == "broken/model":
                return self.send(500, b"")
            if repo not in ("some/model", "pickles/only", "closed/model"):
                return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
            if self.path.startswith("/api/") and "/tree/" in self.path:
                tree = [{"type": "file", "path": f, "size": len(b), "oid": f"{len(b)}"} for f, b in files.items()]
                return self.send(200, json.dumps(tree).encode())
            if self.path.startswith("/api/"):
                siblings = [{"rfilename": f, "size": len(b)} for f, b in files.items()]
                counts = {"parameters": {"F16": 3, "I64": 1}, "total": 4}
                info = {"id": repo, "sha": COMMIT, "siblings": siblings, "safetensors": counts}
                info |= {"cardData": {"license": "mit"}, "gated": "manual" if repo == "closed/model" else False}
                return self.send(200, json.dumps(info).encode())
            if repo == "closed/model":
                return self.send(403, b"", {"X-Error-Code": "GatedRepo"})
            name = self.path.split("?")[0].rsplit("/", 1)[1]
            return self.send(200, files[name], {"X-Repo-Commit": COMMIT, "ETag": f'"{name}-etag"'})

        def send(self, status, body, headers=None):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = asked
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def test_a_local_folder_is_used_as_it_is(tmp_path):
    assert snapshot(tmp_path) == tmp_path
    assert snapshot(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("folder", ["./missing", "/missing/folder", "~/missing-folder"])
def test_a_missing_local_folder_is_said(folder):
    with pytest.raises(AssetError, match=r"there is no model folder .*missing"):
        snapshot(folder)


def test_a_repository_comes_without_pickles_and_is_recorded(hub, cache):
    folder = snapshot("some/model")
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert folder.is_relative_to(cache / "hub")
    entry = next(e for e in opened() if e["name"] == "some/model")
    assert entry["revision"] == COMMIT and len(entry["sha256"]) == 64


def test_a_cached_repository_needs_no_hub(hub, monkeypatch):
    folder = snapshot("some/model")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert snapshot("some/model") == folder


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gated/model", "gated/model is gated: accept its terms on its hub page, log in"),
        ("missing/model", "missing/model is not on the hub, or private: check the spelling"),
        ("pickles/only", "pickles/only has no safetensors weights"),
        ("broken/model", "broken/model .*hub"),
        ("not a name", "'not a name' is no hub name"),
        ("a/b/c", "'a/b/c' is no hub name"),
    ],
)
def test_every_refusal_is_one_sentence(hub, model, said):
    with pytest.raises(AssetError, match=f"^{said}") as error:
        snapshot(model)
    assert "\n" not in str(error.value)
    assert "://" not in str(error.value)


def test_no_network_is_said(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(AssetUnavailable, match="is not cached and the hub cannot be reached"):
        snapshot("some/model")


def test_a_reachable_model_is_said_with_bytes_numbers_and_licence(hub, cache):
    found = access("some/model")
    # The pickle of FILES is never downloaded.
    assert (found.state, found.why, found.left) == ("reachable", "", len(b"{}") + len(b"weights"))
    assert (found.weights, found.licence) == ({"F16": 3, "I64": 1}, "mit")
    assert not cache.exists()


def test_a_cached_model_is_known_without_a_request(hub):
    folder = snapshot("some/model")
    hub.asked.clear()
    assert access("some/model")[:3] == ("cached", "", 0)
    assert hub.asked == []
    (folder / "model.safetensors").unlink()
    assert access("some/model")[:3] == ("reachable", "", len(b"weights"))


@pytest.mark.parametrize(
    ("model", "state"),
    [
        ("gated/model", "gated"),
        ("missing/model", "missing"),
        ("pickles/only", "missing"),
        ("broken/model", "unreachable"),
        ("not a name", "missing"),
    ],
)
def test_access_says_what_a_download_would_say(hub, model, state):
    found = access(model)
    with pytest.raises(AssetError) as error:
        snapshot(model)
    assert found.state == state
    assert found.why == str(error.value) or state == "unreachable"
    assert found.why.startswith(repr(model) if " " in model else model) and "://" not in found.why


def test_terms_that_were_not_accepted_are_seen_although_the_facts_are_public(hub):
    found = access("closed/model")
    assert found.state == "gated"
    assert found.why.startswith("closed/model is gated: accept its terms")


def test_whether_the_hub_answers_and_knows_us(hub, monkeypatch, tmp_path):
    assert silence() == ""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "refused" in silence()
    assert access("some/model")[:2] == (
        "unreachable",
        "some/model is not cached and the hub cannot be reached: go online once, or give a local folder",
    )
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert logged_in()
