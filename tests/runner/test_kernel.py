"""A kernel has sockets of its own, does not outlive its run, and is ended when its runner was killed."""

import json
import sys
import threading
from pathlib import Path

import psutil
import pytest

from papercore.runner import kernel


@pytest.mark.skipif(sys.platform == "win32", reason="TCP on loopback there")
def test_kernels_speak_ipc_in_folders_of_their_own_and_end(tmp_path):
    stop, records = threading.Event(), [tmp_path / "a.json", tmp_path / "b.json"]
    with (
        kernel.started(tmp_path, {}, records[0], stop) as (one, _),
        kernel.started(tmp_path, {}, records[1], stop) as (two, _),
    ):
        assert one.transport == two.transport == "ipc"
        folders = [Path(json.loads(record.read_text())["folder"]) for record in records]
        assert folders[0] != folders[1]
        assert [Path(manager.ip).parent for manager in (one, two)] == folders
        assert all(len(f"{manager.ip}-5") < 100 for manager in (one, two))
        processes = [psutil.Process(json.loads(record.read_text())["pid"]) for record in records]
    assert not any(process.is_running() for process in processes)
    assert not any(path.exists() for path in (*folders, *records))


def test_the_kernel_of_a_killed_runner_is_ended(tmp_path):
    record = tmp_path / "kernel.json"
    folder = tmp_path / "sockets"
    folder.mkdir()
    left = psutil.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    record.write_text(json.dumps({"pid": left.pid, "started": left.create_time(), "folder": str(folder)}))
    kernel.reap(record)
    assert not left.is_running()
    assert not folder.exists()
    assert not record.exists()
    kernel.reap(record)  # nothing to do


def test_a_kernel_whose_number_was_not_noted_yet_is_found_by_its_connection_file(tmp_path):
    record, folder = tmp_path / "kernel.json", tmp_path / "sockets"
    folder.mkdir()
    sleep = [sys.executable, "-c", "import time; time.sleep(60)", "-f"]
    left, other = psutil.Popen([*sleep, str(folder / "k.json")]), psutil.Popen([*sleep, str(tmp_path / "k.json")])
    try:
        record.write_text(json.dumps({"folder": str(folder)}))
        kernel.reap(record)
        assert not left.is_running()
        assert other.is_running()
        assert not folder.exists() and not record.exists()
    finally:
        other.kill()
        other.wait()


def test_another_process_with_the_same_number_is_left_alone(tmp_path):
    record = tmp_path / "kernel.json"
    other = psutil.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        record.write_text(json.dumps({"pid": other.pid, "started": other.create_time() - 100, "folder": "none"}))
        kernel.reap(record)
        assert other.is_running()
    finally:
        other.kill()
        other.wait()
