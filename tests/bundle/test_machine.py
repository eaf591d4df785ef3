"""Memory that a training step freed is used by the next one without page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import resource, sys, torch
from torch import nn
from bundle.memory import keep_freed_memory
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
    faults = {
        mode: int(subprocess.check_output([sys.executable, "-c", PROGRAM, mode], cwd=ROOT, text=True))
        for mode in ("keep", "leave")
    }
    assert faults["keep"] < faults["leave"] / 10, faults
