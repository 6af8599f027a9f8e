"""Where model-written code runs, and the only place: a fresh interpreter behind walls, with limits and a clock.

Three levels of isolation, and what a machine gives is measured by a probe that tries the walls, not assumed:

- full: namespaces of its own for users, mounts, processes, network and ipc, either made by `inside/confine.py` or by
  bubblewrap; a read-only root that holds interpreter and libraries; an unprivileged user; limits on memory, processor,
  processes, files and disk. Code of a model runs here.
- partial: limits, a session and a folder of its own, but the user's own files and network. Code of a model runs here
  only where a caller says `allow_unsandboxed=True`, and a run's ledger carries a warning.
- none: no limits (no POSIX). Code of a model never runs.

This stops accidents and what a model might plausibly write. It is no boundary against somebody who has a hole in the
kernel.

A verdict takes three things: the checker, a process that the program cannot reach, ran every test; it ended by itself;
and its last line is a fresh random token, which the program never sees. The program's values come to it as plain data.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from papercore.papers.self_debugging.inside import wire

LEVELS = ("none", "partial", "full")
_HOME = Path(__file__).parent
_FILES = {name: _HOME / "inside" / name for name in ("wire.py", "candidate.py", "checker.py")} | {
    "tracer.py": _HOME / "tracer.py"
}
_SPARE = 5.0  # seconds that a launcher gets beyond its wall clock


class SandboxError(RuntimeError):
    """Code was not run, and why."""


@dataclass(frozen=True)
class Limits:
    """What one program may use: bytes, seconds, counts."""

    memory: int = 512 * 2**20  # address space of a process
    cpu: int = 5  # seconds of a process
    wall: float = 20.0  # seconds of the whole; generous, so that a busy machine fails nobody
    file: int = 2**20  # bytes of a file, output included
    disk: int = 16 * 2**20  # bytes of /tmp, at level full
    processes: int = 8  # threads count too; does not hold for root at level partial
    descriptors: int = 32


@dataclass(frozen=True)
class Result:
    """How one run ended.

    end: "passed"; "failed" (an assertion), "error" (an exception reached the test), "cpu", "wall", "crashed" (the
    program's process ended before it answered) or "walls" (the sandbox could not be built; nothing ran). detail: one
    line. lines: what the checker reported. output: what the program printed, cut at the limit.
    """

    end: str
    detail: str = ""
    lines: list[dict] = field(default_factory=list)
    output: str = ""

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.end == "passed"


@dataclass(frozen=True)
class Isolation:
    """What this machine gives: the level, what builds it, and why it is not more."""

    level: str
    builder: str
    why: str = ""


class Sandbox:
    """Runs programs at the machine's level of isolation, or refuses.

    level: the level to build, at most the machine's; none given: the best. allow_unsandboxed: run below full. Raises
    SandboxError at once where code would not be run.
    """

    def __init__(self, *, level: str = "", allow_unsandboxed: bool = False, limits: Limits | None = None):
        found = isolation()
        if level and level not in LEVELS:
            raise SandboxError(f"unknown level {level!r}; choose {', '.join(LEVELS)}")
        if level and LEVELS.index(level) > LEVELS.index(found.level):
            raise SandboxError(f"this machine isolates at level {found.level} ({found.why}), not {level}")
        self.level, self.limits = level or found.level, limits or Limits()
        self.builder = found.builder if self.level == "full" else "within"
        if self.level == "none":
            raise SandboxError(f"no isolation at all ({found.why or 'asked for'}), so no program is run")
        if self.level == "partial" and not allow_unsandboxed:
            why = f" ({found.why})" if found.why else ""
            raise SandboxError(
                f"isolation is only partial{why}, so no program is run; allow_unsandboxed=True runs programs with "
                "your files and network in reach"
            )

    def check(self, program: str, entry_point: str, check: str) -> Result:
        """Run `check(candidate)`, which the trusted code `check` defines, against the program's entry point."""
        return self._run({"program": program, "entry_point": entry_point, "check": check})

    def calls(self, program: str, entry_point: str, calls: Sequence[dict]) -> list[dict]:
        """Each call's outcome: {"value": repr, "right": bool} or {"error": class, "message": ...}.

        A call is {"args": [...], "kwargs": {...}} with plain values, and "expected" where it is a test. One that hangs
        or kills the program reads {"error": "cpu", "wall" or "crashed"}; the others are run in a fresh sandbox.
        """
        found: list[dict] = []
        packed = [_packed(one) for one in calls]
        while len(found) < len(packed):
            ran = self._run({"program": program, "entry_point": entry_point, "calls": packed[len(found) :]})
            if ran.end == "walls":
                raise SandboxError(f"the sandbox could not be built: {ran.detail}")
            told = [line for line in ran.lines if "value" in line or "error" in line]
            found += told
            if not ran.passed:
                found.append({"error": ran.end, "message": ran.detail})
        return [{name: value for name, value in line.items() if name != "call"} for line in found[: len(packed)]]

    def trace(self, program: str, entry_point: str, call: dict) -> dict:
        """The block states of one call (see tracer.trace); {"error": ...} where there are none."""
        packed = _packed(call)
        ran = self._run({"program": program, "entry_point": entry_point, "trace": packed})
        line = ran.lines[-1] if ran.passed and ran.lines else {}
        return line.get("trace") or {
            "error": line.get("error") or ran.end,
            "message": line.get("message") or ran.detail,
        }

    def _run(self, task: dict) -> Result:
        return _execute(self.builder, {**task, "token": secrets.token_hex(16)}, self.limits)


def _packed(call: dict) -> dict:
    said = {
        "args": [wire.encode(a) for a in call["args"]],
        "kwargs": {n: wire.encode(a) for n, a in call["kwargs"].items()},
    }
    return said | ({"expected": wire.encode(call["expected"])} if "expected" in call else {})


@cache
def isolation() -> Isolation:
    """The best level whose walls hold here, tried out once a process."""
    if os.name != "posix":
        return Isolation("none", "", f"{sys.platform} has no resource limits")
    reasons = []
    for builder in ("namespaces", "bubblewrap") if sys.platform == "linux" else ():
        if builder == "bubblewrap" and shutil.which("bwrap") is None:
            reasons.append("bubblewrap is not installed")
        elif why := _hole(builder):
            reasons.append(f"{builder}: {why}")
        else:
            return Isolation("full", builder)
    return Isolation("partial", "within", "; ".join(reasons) or f"{sys.platform} has no namespaces")


_PROBE = """
def probe(files, port, pid):
    import os, signal, socket
    seen = {"uid": os.getuid(), "files": [f for f in files if os.path.exists(f)], "children": 0}
    try:
        socket.create_connection(("127.0.0.1", port), 1)
        seen["network"] = True
    except OSError:
        seen["network"] = False
    try:
        os.kill(pid, 0)
        seen["outside"] = True
    except OSError:
        seen["outside"] = False
    held, seen["memory"] = [], 0
    try:
        while seen["memory"] < 4096:
            held.append(bytearray(64 * 2**20))
            seen["memory"] += 64
    except MemoryError:
        pass
    del held
    gate = os.pipe()
    try:
        while seen["children"] < 40:
            if os.fork() == 0:
                os.close(gate[1])
                os.read(gate[0], 1)
                os._exit(0)
            seen["children"] += 1
    except OSError:
        pass
    return seen
"""


def _hole(builder: str) -> str:
    """Run the probe behind these walls: empty if they hold, else what does not."""
    with tempfile.NamedTemporaryFile() as canary, socket.create_server(("127.0.0.1", 0)) as server:
        files = ["/etc/passwd", "/proc/self", "/sys/kernel", "/dev/zero", canary.name]
        call = _packed({"args": [files, server.getsockname()[1], os.getpid()], "kwargs": {}})
        task = {"program": _PROBE, "entry_point": "probe", "calls": [call], "token": secrets.token_hex(16)}
        ran = _execute(builder, task, Limits())
    told = [line for line in ran.lines if "value" in line or "error" in line]
    if not ran.passed or not told or "value" not in told[-1]:
        return ran.detail or ran.end or "the probe did not end"
    import ast

    seen = ast.literal_eval(told[-1]["value"])
    holes = [f"{seen['files'][0]} is seen"] if seen["files"] else []
    holes += [
        text
        for name, text in (("network", "the network is reached"), ("outside", "other processes are seen"))
        if seen[name]
    ]
    holes += ["memory has no limit"] if seen["memory"] > 1024 else []
    holes += ["the number of processes has no limit"] if seen["children"] > 20 else []
    holes += ["programs run as root"] if seen["uid"] == 0 else []
    return "; ".join(holes)


def _readable() -> list[str]:
    """What the inside sees of the host, read-only: interpreter, its library, the system's shared libraries."""
    python = _python()
    paths = [python, os.path.dirname(os.__file__), sysconfig.get_config_var("DESTSHARED")]
    shared = sysconfig.get_config_var("LDLIBRARY")
    for folder in (sysconfig.get_config_var("LIBDIR"), os.path.join(sys.base_prefix, "lib")):
        if shared and folder:  # a chain of links: libpython3.11.so -> libpython3.11.so.1.0
            paths += [str(file) for file in Path(folder).glob(f"{shared}*") if not file.is_symlink()]
    paths += ["/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/usr/lib32", "/dev/null"]
    kept: list[str] = []
    for path in sorted({path for path in paths if path and os.path.lexists(path)}):
        if not any(path.startswith(f"{above}/") for above in kept):
            kept.append(path)
    return kept


def _python() -> str:
    """The interpreter itself, not a link of a virtual environment, which the inside does not see."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _environment() -> dict[str, str]:
    """Where a shared libpython lies, for an interpreter that is found through a link."""
    return (
        {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")} if sysconfig.get_config_var("Py_ENABLE_SHARED") else {}
    )


def _execute(builder: str, task: dict, limits: Limits) -> Result:
    """Run one task; the launcher's own session is killed whatever happens."""
    with _scratch() as (folder, out, told):
        spec = {
            "how": "namespaces" if builder == "namespaces" else "within",
            "root": str(folder / "root"),
            "inside": "/inside" if builder == "bubblewrap" else str(folder / "inside"),
            "python": _python(),
            "readable": _readable() if builder == "namespaces" else [],
            "files": {name: path.read_text(encoding="utf-8") for name, path in _FILES.items()}
            if builder == "namespaces"
            else {},
            "environment": _environment(),
            "limits": asdict(limits),
            "output": {"candidate": out.fileno(), "checker": told.fileno()},
            "task": task,
        }
        command, where = _command(builder, folder)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(out.fileno(), told.fileno()),
            start_new_session=True,
            cwd=where,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **_environment()},
        )
        try:
            said, complaint = process.communicate(json.dumps(spec).encode(), timeout=limits.wall + _SPARE)
        except subprocess.TimeoutExpired:
            said, complaint = b"", b""
        finally:
            _end(process)
        out.seek(0)
        told.seek(0)
        output = out.read(limits.file).decode(errors="replace")
        lines = told.read(limits.file).decode(errors="replace")
        return _judged(said, complaint, lines, output, task["token"], limits)


def _judged(said: bytes, complaint: bytes, told: str, output: str, token: str, limits: Limits) -> Result:
    """From the launcher's report and the checker's lines to a result."""
    report = json.loads(said) if said.strip() else {"late": True}
    if "walls" in report or (not report.get("late") and report.get("checker") is None):
        return Result("walls", report.get("walls") or complaint.decode(errors="replace").strip()[-200:])
    *texts, last = told.splitlines() or [""]
    complete = last == token and report.get("checker") == 0
    lines = [line for text in (texts if complete else [*texts, last]) if (line := _line(text))]
    final = lines[-1] if lines else {}
    if complete:
        return Result("passed", "", lines, output)
    if report.get("late"):
        return Result("wall", "the wall clock ran out", lines, output)
    if final.get("end") == "failed":
        return Result("failed", f"line {final['line']} of the tests {final['message']}".strip(), lines, output)
    if final.get("end") == "error":
        return Result("error", f"{final['error']}: {final['message']}", lines, output)
    code = report.get("candidate")
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and report["seconds"] >= limits.cpu):
        return Result("cpu", "the processor's time ran out", lines, output)
    how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    return Result("crashed", f"the program ended early: {how}", lines, output)


def _line(text: str) -> dict | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _command(builder: str, folder: Path) -> tuple[list[str], str]:
    """The launcher's command line and working folder."""
    python = [_python(), "-I", "-S", "-B"]
    if builder == "namespaces":
        return [*python, str(_HOME / "inside" / "confine.py")], str(folder)
    inside = folder / "inside"
    for name, path in {**_FILES, "confine.py": _HOME / "inside" / "confine.py"}.items():
        shutil.copy(path, inside / name)
    if builder == "within":
        return [*python, str(inside / "confine.py")], str(folder / "tmp")
    walls = ["bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    walls += ["--disable-userns", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--clearenv"]
    for path in _readable():
        if os.path.islink(path):
            walls += ["--symlink", os.readlink(path), path]
        else:
            walls += ["--dev-bind" if path == "/dev/null" else "--ro-bind", path, path]
    walls += ["--ro-bind", str(inside), "/inside", "--size", str(Limits().disk), "--tmpfs", "/tmp"]
    walls += ["--remount-ro", "/", "--chdir", "/tmp"]
    for name, value in _environment().items():
        walls += ["--setenv", name, value]
    return [*walls, *python, "/inside/confine.py"], str(folder)


@contextlib.contextmanager
def _scratch() -> Iterator[tuple]:
    """A folder that is gone afterwards, with the files that output goes to."""
    folder = Path(tempfile.mkdtemp(prefix="papercore-sandbox-"))
    try:
        for name in ("root", "inside", "tmp"):
            (folder / name).mkdir()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
            yield folder, out, told
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end(process: subprocess.Popen) -> None:
    """Kill the launcher's session and wait for the launcher."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
