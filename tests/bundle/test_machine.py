"""Memory: that which a training step freed is used by the next one, and that which is left is told."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys

import pytest

from bundle.machine import _cgroup_room, _cgroups, allow_open_files, available_memory
from tests.conftest import ROOT

PROGRAM = """
import resource, sys, torch
torch.set_num_threads(2)  # one thread alone frees less to the system
from torch import nn
from bundle.machine import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
network = nn.Sequential(nn.Conv3d(1, 8, 1), nn.ReLU(), nn.Conv3d(8, 8, 1), nn.ReLU(), nn.Conv3d(8, 1, 1))
image = torch.rand(1, 1, 64, 64, 64)
faults = []
for _ in range(6):
    network(image).mean().backward()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[2])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has the setting")
def test_freed_memory_is_used_again_without_page_faults(host):
    faults = {mode: int(host.run("-c", PROGRAM, mode).stdout) for mode in ("keep", "leave")}
    assert faults["keep"] < faults["leave"] / 10, faults


LIMITED = """
import resource, sys
from bundle.machine import available_memory
before = available_memory()
used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
print(before, available_memory(), "torch" in sys.modules)
"""
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="the system has no /proc")


@needs_proc
def test_memory_that_is_left_follows_the_limit_of_the_process():
    before, after, torch_loaded = subprocess.check_output([sys.executable, "-c", LIMITED], cwd=ROOT, text=True).split()
    assert int(before) > 2**28
    assert 0.9 * 2**28 < int(after) <= 2**28
    assert torch_loaded == "False"  # whoever reads a file does not wait for it


@needs_proc
def test_memory_that_is_left_is_no_more_than_the_machine_has():
    assert 0 < available_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("line", "files", "room"),
    [
        ("0::/a/b", {"a/memory.max": "1000", "a/memory.current": "700", "a/memory.stat": "inactive_file 50"}, 350),
        ("0::/a/b", {"a/b/memory.max": "max", "a/b/memory.current": "700", "a/b/memory.stat": ""}, None),
        (
            "4:cpu,memory:/a",
            {
                "memory/a/memory.limit_in_bytes": "900",
                "memory/a/memory.usage_in_bytes": "600",
                "memory/a/memory.stat": "cache 5\ntotal_inactive_file 100",
            },
            400,
        ),
        ("3:cpu:/a", {"memory.max": "1", "memory.current": "1", "memory.stat": ""}, None),
    ],
)
def test_control_groups_of_both_versions_limit_the_memory(tmp_path, line, files, room):
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    (tmp_path / "own").write_text(line)
    rooms = [_cgroup_room(folder) for folder in _cgroups(tmp_path / "fs", tmp_path / "own")]
    assert min((size for size in rooms if size is not None), default=None) == room


def test_open_files_are_allowed_up_to_the_hard_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
        allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
