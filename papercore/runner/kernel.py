"""One kernel a run: its own sockets, its own environment, watched and never left behind. Floor: runner."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

# A socket's path may have about 100 characters, and macOS puts temporary folders deep.
_LONGEST = 60
_LOOK_EVERY = 0.2  # s


class Watch(threading.Thread):
    """Follows a kernel and its children: notes their peak memory, and kills them when `stop` is set."""

    def __init__(self, pid: int, stop: threading.Event):
        super().__init__(daemon=True)
        self.peak = 0  # bytes
        self.over = threading.Event()
        self._kernel, self._halt = psutil.Process(pid), stop

    def run(self) -> None:
        while not self.over.wait(_LOOK_EVERY):
            with contextlib.suppress(psutil.Error):
                self.peak = max(self.peak, sum(process.memory_info().rss for process in _family(self._kernel)))
            if self._halt.is_set():
                self.over.set()
        # The children go too: they have nobody left to answer to.
        _kill(_family(self._kernel))


@contextlib.contextmanager
def started(cwd: Path, env: dict[str, str], record: Path, stop: threading.Event) -> Iterator[tuple[object, Watch]]:
    """A running kernel of this very Python, as (kernel manager, watch).

    It speaks IPC in a short temporary folder of its own, TCP on loopback on Windows. `record` names it for as long as
    it may run, so that `reap` finds what a killed runner left behind.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import KernelManager

    clients = []

    class Manager(KernelManager):
        def client(self, **options):  # nbclient leaves the channels of a kernel that it did not start open
            clients.append(super().client(**options))
            return clients[-1]

    base = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="pc-", dir=base if len(base) <= _LONGEST else "/tmp")
    manager = Manager(
        kernel_name="python3",
        # No folders to search: "python3" is then this interpreter, whatever kernels the user has installed.
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        client_class="jupyter_client.asynchronous.AsyncKernelClient",
        connection_file=str(Path(folder) / "k.json"),
        transport="tcp" if sys.platform == "win32" else "ipc",
    )
    watch = None
    try:
        _note(record, folder=folder)
        manager.start_kernel(
            cwd=str(cwd), env={**os.environ, **env}, extra_arguments=["--HistoryManager.hist_file=:memory:"]
        )
        pid = manager.provisioner.pid
        _note(record, folder=folder, pid=pid, started=psutil.Process(pid).create_time())
        watch = Watch(pid, stop)
        watch.start()
        yield manager, watch
    finally:
        for client in clients:
            client.stop_channels()
        if watch:
            watch.over.set()
            watch.join()
        with contextlib.suppress(RuntimeError, ProcessLookupError):
            manager.shutdown_kernel(now=True)
        shutil.rmtree(folder, ignore_errors=True)
        record.unlink(missing_ok=True)


def reap(record: Path) -> None:
    """End the kernel named in `record` if it still runs: its runner was killed, and it must not write any more."""
    try:
        left = json.loads(record.read_text())
    except (OSError, ValueError):
        return
    if "pid" not in left:  # the runner was killed while the kernel started
        _kill([process for process in psutil.process_iter() if _serves(process, left["folder"])])
    with contextlib.suppress(psutil.NoSuchProcess, KeyError):
        process = psutil.Process(left["pid"])
        if abs(process.create_time() - left["started"]) < 2:  # and not another process with its number
            _kill(_family(process))
    shutil.rmtree(left["folder"], ignore_errors=True)
    record.unlink(missing_ok=True)


def _serves(process: psutil.Process, folder: str) -> bool:
    """Whether the process is the kernel whose connection file is in `folder`."""
    with contextlib.suppress(psutil.Error):
        return str(Path(folder) / "k.json") in process.cmdline()
    return False


def _note(record: Path, **facts) -> None:
    part = record.with_name(f"{record.name}.part")
    part.write_text(json.dumps(facts), encoding="utf-8")
    part.replace(record)


def _family(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return [process]


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
