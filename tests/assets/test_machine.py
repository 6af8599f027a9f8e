"""What the machine has, with control groups read from a made-up file tree."""

import psutil
import pytest

from papercore.assets import machine

GB = 10**9


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(str(text))


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """A machine of 64 GB, 60 of them free."""
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(total=64 * GB, available=60 * GB))


def test_without_control_groups_it_is_the_machine(tmp_path):
    assert machine.memory(tmp_path) == (64 * GB, 60 * GB)


def test_version_2_and_the_tightest_group_counts(tmp_path):
    groups = tmp_path / "sys/fs/cgroup"
    write(tmp_path / "proc/self", cgroup="0::/jobs/one\n")
    stat = f"anon {5 * GB}\nactive_file {GB}\ninactive_file {2 * GB}\n"
    write(groups / "jobs/one", memory__max="max\n", memory__current=f"{GB}\n", memory__stat=stat)
    write(groups / "jobs", memory__max=f"{16 * GB}\n", memory__current=f"{9 * GB}\n", memory__stat=stat)
    # 7 GB are unused, and 3 GB of cached files make room.
    assert machine.memory(tmp_path) == (16 * GB, 10 * GB)


def test_version_1_and_a_path_that_only_the_host_sees(tmp_path):
    write(tmp_path / "proc/self", cgroup="5:cpu:/docker/abc\n4:memory:/docker/abc\n0::/\n")
    here = {"memory__limit_in_bytes": 8 * GB, "memory__usage_in_bytes": 3 * GB}
    write(tmp_path / "sys/fs/cgroup/memory", **here, memory__stat=f"total_active_file 0\ntotal_inactive_file {GB}\n")
    assert machine.memory(tmp_path) == (8 * GB, 6 * GB)


def test_no_limit_is_none_and_nothing_is_below_zero(tmp_path):
    write(tmp_path / "proc/self", cgroup="4:memory:/\n")
    group = tmp_path / "sys/fs/cgroup/memory"
    write(group, memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=5 * GB, memory__stat="")
    assert machine.memory(tmp_path) == (64 * GB, 60 * GB)
    write(group, memory__limit_in_bytes=GB, memory__usage_in_bytes=2 * GB)
    assert machine.memory(tmp_path) == (GB, 0)


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    assert machine.free_disk(tmp_path / "not" / "yet") > 0
    assert machine.cores() >= 1
