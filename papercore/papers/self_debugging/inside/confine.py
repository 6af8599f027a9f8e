"""The launcher: builds the walls, starts checker and candidate within them, waits, and reports.

Run as `python -I -S -B confine.py` with a JSON specification on stdin; its report is one JSON line on stdout. With
`how: namespaces` it moves into user, mount, pid, network, ipc and uts namespaces of its own, on a root that holds the
interpreter, the system's libraries and an empty /tmp. With `how: within` somebody else built the walls (bubblewrap), or
nobody did (partial).

Processes: this one waits outside; `_attend` is pid 1 inside, so everything inside dies with it; the checker holds the
tests and the token; the candidate holds the program. They share two pipes and nothing else. Started by root, checker
and candidate get uids of their own that own nothing on the machine, because limits on processes do not hold for root.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import sys
import time

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = 1024, 2048, 4096, 16384, 1 << 18, 1 << 21
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
# uids that no account has; the process id keeps sandboxes that run at once apart, so that their limits are their own.
NOBODIES = 1_900_000_000
CHECKER, CANDIDATE = 65533, 65534
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}

libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments) -> None:
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind)]
    _call("mount", *texts, ctypes.c_ulong(flags), data.encode() if data else None)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def main() -> None:
    spec = json.load(sys.stdin)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    report = _attend(spec, None) if spec["how"] == "within" else _namespaces(spec)
    print(json.dumps(report), flush=True)


def _namespaces(spec: dict) -> dict:
    """Move into namespaces and attend there; the report, or {"walls": why not}."""
    pid = os.getpid()
    asks, told = socket.socketpair()
    mapper = os.fork()
    if mapper == 0:  # stays outside, where root may give more than one uid away
        asks.close()
        os._exit(_map_ids(pid, told))
    told.close()
    try:
        _call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
    except OSError as error:
        asks.close()
        os.waitpid(mapper, 0)
        return {"walls": str(error)}
    asks.send(b"!")
    many = asks.recv(1)
    os.waitpid(mapper, 0)
    if many not in (b"1", b"3"):
        return {"walls": "the uid map of a user namespace cannot be written"}
    read, write = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(read)
        try:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            _prctl(PR_SET_DUMPABLE, 0)
            os.setsid()  # a signal to a process group reaches beyond a pid namespace, to the launcher
            _new_root(spec)
            report = _attend(spec, (CHECKER, CANDIDATE) if many == b"3" else None)
        except BaseException as error:  # whatever it is, it is the report
            report = {"walls": f"{type(error).__name__}: {error}"}
        os.write(write, json.dumps(report).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        text = file.read()
    os.waitpid(init, 0)  # returns when every process of the namespace is gone
    return json.loads(text) if text else {"walls": "pid 1 of the sandbox was killed"}


def _map_ids(pid: int, told: socket.socket) -> int:
    """Write the uid and gid maps of process `pid`: three ids where this is root, else the caller's own as nobody's."""
    if not told.recv(1):
        return 0
    first = NOBODIES + 2 * (pid % 1_000_000)
    three = f"0 0 1\n{CHECKER} {first} 1\n{CANDIDATE} {first + 1} 1\n"
    try:
        for name in ("uid_map", "gid_map"):
            _write(f"/proc/{pid}/{name}", three)
        told.send(b"3")
        return 0
    except OSError:
        pass
    try:
        _write(f"/proc/{pid}/setgroups", "deny")
        _write(f"/proc/{pid}/uid_map", f"{CANDIDATE} {os.geteuid()} 1\n")
        _write(f"/proc/{pid}/gid_map", f"{CANDIDATE} {os.getegid()} 1\n")
        told.send(b"1")
    except OSError:
        told.send(b"0")
    return 0


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _new_root(spec: dict) -> None:
    """A root of read-only interpreter and libraries, /dev/null and a small /tmp; nothing else of the host."""
    # Nobody inside may make a further user namespace, in which he would be root again.
    _write("/proc/sys/user/max_user_namespaces", "0")
    _call("sethostname", b"sandbox", 7)
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    root = spec["root"]  # an empty folder of the host's; what is mounted on it is seen in here only
    _mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=755")
    for path in spec["readable"]:
        inside = root + path
        if os.path.islink(path):  # /lib -> usr/lib, where /usr is merged
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            os.symlink(os.readlink(path), inside)
            continue
        if os.path.isdir(path):
            os.makedirs(inside, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            os.close(os.open(inside, os.O_CREAT))
        _mount(path, inside, None, MS_BIND | MS_REC)
        # A mount keeps the restrictions that it had outside; a namespace may add to them only.
        held = os.statvfs(path).f_flag
        keep = sum(
            flag for flag in (MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, MS_NODIRATIME, MS_RELATIME) if held & flag
        )
        device = 0 if path == "/dev/null" else MS_NODEV
        readonly = 0 if path == "/dev/null" else MS_RDONLY
        _mount("none", inside, None, MS_REMOUNT | MS_BIND | MS_NOSUID | readonly | device | keep)
    os.makedirs(f"{root}/inside")
    for name, text in spec["files"].items():
        with open(f"{root}/inside/{name}", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(f"{root}/inside/{name}", 0o444)
    os.makedirs(f"{root}/tmp", exist_ok=True)
    _mount(
        "tmpfs", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"size={spec['limits']['disk']},nr_inodes=512,mode=1777"
    )
    os.mkdir(f"{root}/old")
    _mount("none", root, None, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_RDONLY)
    os.chdir(root)
    _call("syscall", ctypes.c_long(155 if os.uname().machine == "x86_64" else 41), b".", b"old")  # pivot_root
    _call("umount2", b"/old", MNT_DETACH)
    os.chdir("/tmp")


def _attend(spec: dict, uids: tuple[int, int] | None) -> dict:
    """Start checker and candidate, wait for the checker or the wall clock; how both ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asks, answers, task, ready = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    out, told = spec["output"]["candidate"], spec["output"]["checker"]
    null = os.open("/dev/null", os.O_RDWR)
    deadline = time.monotonic() + spec["limits"]["wall"]
    uid = uids or (None, None)
    # Each gets its descriptors as 0, 1, 2, 3, 4. The checker is there first and out of reach before the candidate is.
    checker = _start(spec, "checker.py", [task[0], told, null, answers[0], asks[1], ready[1]], uid[0])
    os.close(ready[1])
    os.read(ready[0], 1)
    candidate = _start(spec, "candidate.py", [null, out, out, asks[0], answers[1]], uid[1])
    for descriptor in (*asks, *answers, task[0]):
        os.close(descriptor)
    try:
        with os.fdopen(task[1], "w", encoding="utf-8") as file:
            json.dump(spec["task"], file)
    except BrokenPipeError:
        pass
    ended: dict[int, tuple[int, float]] = {}  # exit code (minus the signal), seconds of processor time
    late = False

    def reap() -> int:
        pid, status, used = os.wait4(-1, os.WNOHANG)
        if pid:
            ended[pid] = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        return pid

    while checker not in ended and not late:
        if not reap():
            late = time.monotonic() > deadline
            time.sleep(0.002)
    # A candidate that was killed ends the checker too, and may be reaped just after it.
    until = time.monotonic() + 0.1
    failed = not late and ended[checker][0] != 0
    while failed and candidate not in ended and time.monotonic() < until:
        if not reap():
            time.sleep(0.002)
    code, seconds = ended.get(candidate, (None, 0.0))
    return {"checker": ended.get(checker, (None,))[0], "candidate": code, "seconds": seconds, "late": late}


def _start(spec: dict, script: str, descriptors: list[int], uid: int | None) -> int:
    """Fork and become `script` in a fresh interpreter under limits; `descriptors` become 0, 1, 2, ..."""
    pid = os.fork()
    if pid:
        return pid
    try:
        spare = [os.dup(d) for d in descriptors]  # above all targets: nothing is overwritten before it is copied
        while spare and min(spare) < len(descriptors):
            spare = [os.dup(d) for d in spare]
        for target, descriptor in enumerate(spare):
            os.dup2(descriptor, target, inheritable=True)
        os.closerange(len(descriptors), 256)
        limits = spec["limits"]
        for name, (soft, hard) in {
            "AS": (limits["memory"],) * 2,
            "CPU": (limits["cpu"], limits["cpu"] + 1),
            "FSIZE": (limits["file"],) * 2,
            "NOFILE": (limits["descriptors"],) * 2,
            "CORE": (0, 0),
            "NPROC": (limits["processes"],) * 2,
        }.items():
            _limit(getattr(resource, f"RLIMIT_{name}", None), soft, hard)
        if uid is not None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
        folder = "/inside" if spec["how"] == "namespaces" else spec["inside"]
        os.execve(
            spec["python"], [spec["python"], "-I", "-S", "-B", f"{folder}/{script}"], ENVIRONMENT | spec["environment"]
        )
    except BaseException as error:
        os.write(2, f"{script} could not start: {error}".encode())
    finally:
        os._exit(127)


def _limit(kind: int | None, soft: int, hard: int) -> None:
    """Lower a limit; one that is lower already stays."""
    if kind is None:
        return
    now = resource.getrlimit(kind)
    least = [
        value if held == resource.RLIM_INFINITY else min(value, held)
        for value, held in zip((soft, hard), now, strict=True)
    ]
    try:
        resource.setrlimit(kind, tuple(least))
    except (OSError, ValueError) as error:
        if getattr(error, "errno", errno.EPERM) != errno.EPERM:
            raise


if __name__ == "__main__":
    main()
