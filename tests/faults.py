"""Faults at every step of an action: at its n-th change below a folder the process is killed, or the disk is full.

A step is a file opened for writing, renamed or deleted, or a folder made or deleted, as Python's audit events report
them. Each fault happens in a fork, so that the audit hook, which cannot be taken back, ends with it.
"""

import errno
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks with threads about, and reads /proc")
FAULTS = ("killed", "torn", "full")
# Event: how many of its arguments are paths, and where the folder stands that they may be relative to.
_CHANGES = {"os.mkdir": (1, 2), "os.rename": (2, 2), "os.remove": (1, 1), "os.rmdir": (1, 1), "os.link": (2, 2)}
_GROWS = ("open", "os.mkdir", "os.link")  # what a full disk refuses


def steps(action: Callable[[], object], below: Path, fault: str) -> Iterator[dict]:
    """Do the action in forks, with the fault at its first step, its second and so on, until it passes undisturbed.

    Yields after each fork, with what it was like: `step`, `at` (what was to be changed), `ended` (the signal's number,
    negative, or 0), `error` (class and text of the exception, or None). killed: SIGKILL; torn: SIGKILL, when half of
    what was being written has reached the disk; full: from that step on nothing can be created.
    """
    for step in range(1, 1000):
        told = _fork(action, below, fault, step)
        if told["at"] is None:
            assert told["error"] is None, told["error"]
            assert step > 1, "the action changes nothing"
            return
        yield told | {"step": step}


def rooms(action: Callable[[], object], by: int) -> Iterator[dict]:
    """Do the action in forks where a file may hold 0 bytes, `by` bytes and so on, until it passes; like `steps`."""
    for room in range(0, 1000 * by, by):
        told = _fork(lambda room=room: _confined(action, room), Path(os.devnull), "full", 0)
        if told["error"] is None:
            assert room, "the action writes nothing"
            return
        yield told | {"step": room}


def _confined(action, room: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    action()


def _fork(action, below: Path, fault: str, step: int) -> dict:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            _act(action, below, fault, step, write)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        lines = pipe.read().splitlines()
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    told = {"at": None, "error": None, "ended": ended}
    for line in lines:
        told |= json.loads(line)
    assert ended in (0, -signal.SIGKILL), f"exit code {ended}: {told}"
    return told


def _act(action, below: Path, fault: str, step: int, write: int) -> None:
    root, seen, opened = os.fspath(below.resolve()), 0, None

    def tell(**what) -> None:
        os.write(write, (json.dumps(what) + "\n").encode())

    def hook(event, arguments) -> None:
        nonlocal seen, opened
        paths = _changed(event, arguments)
        if not any(os.path.abspath(path).startswith(root + os.sep) for path in paths):
            return
        seen += 1
        if seen == step:
            tell(at=f"{event} {os.path.relpath(paths[0], root)}")
            if fault == "torn" and opened and os.path.isfile(opened):
                os.truncate(opened, os.path.getsize(opened) // 2)
            if fault != "full":
                os.kill(os.getpid(), signal.SIGKILL)
        if fault == "full" and seen >= step and event in _GROWS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), paths[0])
        opened = paths[0] if event == "open" else None

    sys.addaudithook(hook)
    try:
        action()
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        tell(error=[type(error).__name__, str(error)], traceback=text)
    os._exit(0)


def _changed(event: str, arguments: tuple) -> list[str]:
    """The paths that an audited event is about to change."""
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return [os.fsdecode(path)] if writes and not isinstance(path, int) else []
    if event not in _CHANGES:
        return []
    count, at = _CHANGES[event]
    folder = os.readlink(f"/proc/self/fd/{arguments[at]}") if arguments[at] >= 0 else ""
    return [os.path.join(folder, os.fsdecode(path)) for path in arguments[:count]]
