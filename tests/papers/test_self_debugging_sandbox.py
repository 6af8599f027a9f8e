"""The sandbox: what it stops at each level of isolation, and that nobody forges a verdict.

PAPERCORE_REQUIRE_ISOLATION=full makes a machine below full a failure; without it, what a machine lacks is skipped by
name.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

import psutil
import pytest
import yaml

from papercore.papers.self_debugging import sandbox
from papercore.papers.self_debugging.sandbox import Limits, Sandbox, SandboxError

HOSTILE = yaml.safe_load((resources.files("papercore.papers.self_debugging") / "hostile.yaml").read_text())
SHORT = Limits(cpu=1, wall=4.0)
HERE = sandbox.isolation()


def need(level: str) -> None:
    if sandbox.LEVELS.index(HERE.level) < sandbox.LEVELS.index(level):
        pytest.skip(f"isolation here is {HERE.level}, not {level}: {HERE.why}")


def made(level: str, limits: Limits = SHORT) -> Sandbox:
    need(level)
    return Sandbox(level=level, allow_unsandboxed=level == "partial", limits=limits)


def test_this_machine_isolates_as_well_as_it_must():
    required = os.environ.get("PAPERCORE_REQUIRE_ISOLATION", "none")
    assert sandbox.LEVELS.index(HERE.level) >= sandbox.LEVELS.index(required), HERE


@pytest.fixture
def host(monkeypatch):
    """A file with a secret, ports and sockets that listen, a process, a secret in the environment."""
    monkeypatch.setenv("PAPERCORE_TEST_SECRET", "known")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="papercore-host-")))
        canary = folder / "canary"
        canary.write_text("secret")
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for place in (f"{canary}.socket", f"\0{canary}"):
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(place)
            listening.listen()
        victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        yield canary, server.getsockname()[1], victim


def left(canary: Path) -> list[psutil.Process]:
    """Processes that carry the canary's name on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(canary) in (process.info["cmdline"] or []):
            found.append(process)
    return found


def folders() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("papercore-sandbox-")}


@pytest.mark.parametrize("level", ["full", "partial"])
@pytest.mark.parametrize("one", HOSTILE, ids=[one["name"] for one in HOSTILE])
def test_a_hostile_program_ends_as_stated(one, level, host):
    if one[level] == "not run":
        pytest.skip("harms the host below full")
    canary, port, victim = host
    box = made(level)
    secret = "nobody knows " + os.urandom(16).hex()
    wanted = f"== {secret!r}" if one.get("forge") else "is True"
    check = f"def check(candidate):\n    assert candidate({str(canary)!r}, {port}, {victim.pid}) {wanted}\n"
    before, started = folders(), time.monotonic()
    ended = box.check(one["program"], "f", check)
    assert ended.end in one[level], ended
    assert time.monotonic() - started < SHORT.wall + 2
    assert len(ended.output.encode()) <= SHORT.file
    assert victim.poll() is None and folders() <= before
    leaves = one.get("leaves") if level == "partial" else None
    try:
        assert bool(left(canary)) == (leaves == "process")
    finally:
        for process in left(canary):
            process.kill()
    assert (canary.read_text() == "secret") == (leaves != "text")


def test_the_programs_are_of_many_kinds_and_told_apart():
    assert len({one["name"] for one in HOSTILE}) == len(HOSTILE) >= 40
    assert len({one["program"] for one in HOSTILE}) == len(HOSTILE)
    ends = {"failed", "error", "cpu", "wall", "crashed"}
    assert all(set(one["full"]) <= ends for one in HOSTILE)


def test_no_process_of_a_run_outlives_it():
    box = made("full")
    box.check("import time\ndef f():\n    time.sleep(60)", "f", "def check(candidate):\n    candidate()")
    mine = psutil.Process().children(recursive=True)
    assert not [p for p in mine if any("confine.py" in part for part in p.cmdline())]


def test_a_killed_parent_takes_its_sandbox_along(tmp_path):
    need("full")
    script = tmp_path / "parent.py"
    script.write_text(
        "from papercore.papers.self_debugging.sandbox import Sandbox\n"
        "Sandbox().check('import time\\ndef f():\\n    time.sleep(600)', 'f', 'def check(candidate):\\n    candidate()')\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)])
    inside = []
    for _ in range(200):
        inside = psutil.Process(parent.pid).children(recursive=True)
        if any("candidate.py" in " ".join(p.cmdline()) for p in inside if p.is_running()):
            break
        time.sleep(0.05)
    assert inside
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(inside, timeout=5)
    assert not alive


@pytest.mark.parametrize("level", ["full", "partial"])
def test_a_verdict_passes_fails_or_errs(level):
    box = made(level)
    check = (
        "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate([3, (4, 'x')]) == [3, (4, 'x')]\n"
    )
    assert box.check("def f(x):\n    return x + 1 if isinstance(x, int) else x", "f", check).passed
    failed = box.check("def f(x):\n    return x", "f", check)
    assert (failed.end, failed.detail) == ("failed", "line 2 of the tests")
    erred = box.check("def f(x):\n    return 1 / 0", "f", check)
    assert (erred.end, erred.detail) == ("error", "ZeroDivisionError: division by zero")
    assert box.check("def g(x): return x", "f", check).end == "error"
    assert box.check("def f(x) return x", "f", check).detail.startswith("SyntaxError")


VALUES = [
    None,
    True,
    0,
    -5,
    2**5000,
    1.5,
    float("inf"),
    1 + 2j,
    "é\ud800",
    b"\0x",
    [1, [2]],
    (1, (2,)),
    {1, 2},
    frozenset("a"),
]
VALUES += [{"a": [1], (1, 2): None}, range(3, 9, 2), [[]] * 3]


def test_plain_values_cross_as_they_are():
    box = made(HERE.level if HERE.level != "none" else "partial")
    told = box.calls("def f(x):\n    return x", "f", [{"args": [v], "kwargs": {}, "expected": v} for v in VALUES])
    assert [one["right"] for one in told] == [True] * len(VALUES)
    (one,) = box.calls("def f(x, y=0):\n    return x - y", "f", [{"args": [5], "kwargs": {"y": 2}, "expected": 3}])
    assert one == {"value": "3", "right": True}


def test_a_call_that_ends_the_program_spares_the_others():
    box = made(HERE.level if HERE.level != "none" else "partial")
    program = "import os\ndef f(x):\n    while x == 1: pass\n    if x == 2: os._exit(3)\n    return x"
    told = box.calls(program, "f", [{"args": [n], "kwargs": {}, "expected": n} for n in range(4)])
    assert [one.get("right") or one["error"] for one in told] == [True, "cpu", "crashed", True]


def test_floats_are_compared_with_a_tolerance_and_nothing_else_is():
    box = made(HERE.level if HERE.level != "none" else "partial")
    pairs = [(0.1 + 0.2, 0.3, True), (1.0, 1.1, False), ([0.1 + 0.2], [0.3], True), (1, True, True), ([1], (1,), False)]
    pairs += [(True, 1.0, False), ("1", 1, False), ({"a": 0.1 + 0.2}, {"a": 0.3}, True)]
    told = box.calls("def f(x):\n    return x", "f", [{"args": [a], "kwargs": {}, "expected": b} for a, b, _ in pairs])
    assert [one["right"] for one in told] == [same for _, _, same in pairs]


def test_nothing_runs_below_full_unless_it_is_said(monkeypatch):
    here = {level: sandbox.Isolation(level, "within", "for a test") for level in sandbox.LEVELS}
    monkeypatch.setattr(sandbox, "isolation", lambda: here["partial"])
    with pytest.raises(SandboxError, match=r"only partial \(for a test\).*allow_unsandboxed=True"):
        Sandbox()
    assert Sandbox(allow_unsandboxed=True).level == "partial"
    with pytest.raises(SandboxError, match="not full"):
        Sandbox(level="full")
    monkeypatch.setattr(sandbox, "isolation", lambda: here["none"])
    for allowed in (False, True):
        with pytest.raises(SandboxError, match="no isolation at all"):
            Sandbox(allow_unsandboxed=allowed)
    with pytest.raises(SandboxError, match="unknown level 'most'; choose none, partial, full"):
        Sandbox(level="most")


def test_at_none_no_program_runs_whatever_is_asked():
    with pytest.raises(SandboxError, match="no isolation at all"):
        Sandbox(level="none", allow_unsandboxed=True)


def test_walls_that_cannot_be_built_are_an_end_of_their_own(monkeypatch):
    box = made("full")
    monkeypatch.setattr(sandbox, "_readable", lambda: ["/etc/hostname/not/there"])
    ended = box.check("def f(): return 1", "f", "def check(candidate):\n    assert candidate() == 1")
    assert ended.end == "walls" and "FileNotFoundError" in ended.detail
    with pytest.raises(SandboxError, match="could not be built"):
        box.calls("def f(): return 1", "f", [{"args": [], "kwargs": {}}])
