"""A package index on loopback, and the made-up archives and assets that it serves."""

import base64
import hashlib
import io
import random
import ssl
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from papercore.assets import Asset


class Index:
    """PEP 503 pages over a folder of archives; notes which files were downloaded."""

    def __init__(self, folder, certificate=None):
        folder.mkdir()
        self.folder, self.downloads = folder, []
        self.cut = set()  # files whose body ends half way
        self.login, self.delay = None, 0.0
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                index.answer(self)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        if self.login and request.headers.get("Authorization") != self.login:
            return self.send(request, 401, b"")
        kind, name = request.path.strip("/").split("/")
        if kind == "files":
            self.downloads.append(name)
            time.sleep(self.delay)
            body = (self.folder / name).read_bytes()
            return self.send(request, 200, body, len(body) // 2 if name in self.cut else None)
        files = [
            f.name for f in sorted(self.folder.iterdir()) if f.name.lower().startswith(name.replace("-", "_") + "-")
        ]
        page = "".join(f'<a href="/files/{f}">{f}</a>' for f in files).encode()
        return self.send(request, 200 if files else 404, page)

    @staticmethod
    def send(request, status, body, end=None):
        request.send_response(status)
        request.send_header("Content-Type", "text/html")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[:end])

    def require(self, user, password):
        """Answer 401 to everybody else."""
        self.login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def wheel(self, package, member, data):
        """Serve a wheel of `name==version` holding `member`; returns its source entry."""
        name, version = package.split("==")
        write_wheel(self.folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", member, data)
        return {"package": package, "archive": "wheel", "member": member}

    def sdist(self, package, member, data):
        """Serve a source archive of `name==version` holding `member`; returns its source entry."""
        name, version = package.split("==")
        with tarfile.open(self.folder / f"{name.replace('-', '_')}-{version}.tar.gz", "w:gz") as tar:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        return {"package": package, "archive": "sdist", "member": member}

    def remove(self, package):
        """Stop serving a package."""
        for file in self.folder.glob(package.replace("-", "_").replace("==", "-") + "*"):
            file.unlink()


def write_wheel(path, member, data):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("decoy.txt", "not this one")
        wheel.writestr(member, data)
    return path


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def noise(size, seed=0):
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def asset_of(data, *sources, name="thing", **fields):
    """An asset whose bytes are `data`."""
    entry = {"name": name, "kind": "dataset", "filename": "thing.bin", "size": len(data), "sha256": sha256(data)}
    return Asset.model_validate(entry | {"licence": "CC0-1.0", "sources": list(sources)} | fields)
