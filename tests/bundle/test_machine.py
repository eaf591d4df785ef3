"""Memory that a training step freed is used by the next one without page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import resource, sys, torch
from torch import nn
from bundle.machine import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
network = nn.Sequential(nn.Conv3d(1, 8, 1), nn.ReLU(), nn.Conv3d(8, 8, 1), nn.ReLU(), nn.Conv3d(8, 1, 1))
image = torch.rand(1, 1, 96, 96, 96)
faults = []
for _ in range(6):
    network(image).mean().backward()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[2])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has the setting")
def test_freed_memory_is_used_again_without_page_faults():
    environment = os.environ | {"OMP_NUM_THREADS": "2"}  # one thread alone frees less to the system

    def count(mode: str) -> int:
        command = [sys.executable, "-c", PROGRAM, mode]
        return int(subprocess.check_output(command, cwd=ROOT, env=environment, text=True))

    faults = {mode: count(mode) for mode in ("keep", "leave")}
    assert faults["keep"] < faults["leave"] / 10, faults
