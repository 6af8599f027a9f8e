"""nbval over an executed copy: the checked cell must print the same again, and no cell may need the network."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

OFFLINE = Path(__file__).parents[1] / "offline"


def nbval(tree, path, offline: bool = True) -> subprocess.CompletedProcess:
    options = ["--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", "-o", "timeout=0"]
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    env = tree.env | {"PYTHONPATH": f"{OFFLINE}:{tree.env['PYTHONPATH']}"} if offline else tree.env
    return subprocess.run(command, cwd=tree.root, env=env, capture_output=True, text=True)


@pytest.fixture
def executed(tree) -> Path:
    """The executed copy of demo's smoke run."""
    return tree.root / tree("list", "--executed", "smoke").strip()


def test_a_true_copy_passes_and_an_altered_checked_cell_fails(tree, executed):
    result = executed.with_name("ledger.json").read_bytes()
    done = nbval(tree, executed)
    assert done.returncode == 0, done.stdout
    assert executed.with_name("ledger.json").read_bytes() == result
    nb = json.loads(executed.read_text())
    (cell,) = (c for c in nb["cells"] if "# NBVAL_CHECK_OUTPUT" in "".join(c["source"]))
    text = json.dumps(cell["outputs"])
    assert "satisfied" in text
    cell["outputs"] = json.loads(text.replace("satisfied", "undecided", 1))
    executed.write_text(json.dumps(nb))
    done = nbval(tree, executed)
    assert done.returncode == 1
    assert "1 failed" in done.stdout


@pytest.mark.parametrize(
    ("use", "event"),
    [
        ("socket.create_connection(('127.0.0.1', {port})).close()", "socket.getaddrinfo to ('127.0.0.1', {port})"),
        ("socket.socket().connect(('127.0.0.1', {port}))", "socket.connect to ('127.0.0.1', {port})"),
    ],
)
def test_a_cell_that_uses_the_network_fails_and_says_why(tree, executed, use, event):
    nb = json.loads(executed.read_text())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cell = {"cell_type": "code", "execution_count": None, "id": "network", "metadata": {}, "outputs": []}
        nb["cells"] = [cell | {"source": f"import socket\n{use.format(port=port)}"}]
        executed.write_text(json.dumps(nb))
        assert nbval(tree, executed, offline=False).returncode == 0  # somebody listens there
        done = nbval(tree, executed)
    assert done.returncode == 1
    assert f"no network in this step, it runs on what the cache holds: {event.format(port=port)}" in done.stdout


@pytest.mark.parametrize(
    "use",
    [
        "socket.socket().connect(('127.0.0.1', 9))",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'?', ('127.0.0.1', 9))",
        "socket.socket(type=socket.SOCK_DGRAM).sendmsg([b'?'], [], 0, ('127.0.0.1', 9))",
        "socket.getaddrinfo('127.0.0.1', 9)",
        "socket.gethostbyname('127.0.0.1')",
        "socket.gethostbyaddr('127.0.0.1')",
        "socket.getnameinfo(('127.0.0.1', 9), 0)",
    ],
)
def test_every_way_out_is_closed(use):
    code = f"import socket\na, b = socket.socketpair()\na.sendmsg([b'here'])\nprint(b.recv(4))\n{use}"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(OFFLINE)}, capture_output=True, text=True
    )
    assert done.stdout == "b'here'\n"  # processes of one machine may talk
    assert "RuntimeError: no network in this step" in done.stderr
