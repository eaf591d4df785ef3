"""Memory that a network freed is used again while it runs, and given back before and after each scan."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from bundle.process import NO_THREAD_CACHE
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has the setting")


def alone(code: str, *arguments: str) -> str:
    """Return what code prints in a process that is set as the programs are, with nothing left to chance."""
    environment = {**os.environ, "GLIBC_TUNABLES": f"{NO_THREAD_CACHE}:glibc.malloc.mxfast=0"}
    return subprocess.check_output([sys.executable, "-c", code, *arguments], env=environment, cwd=ROOT, text=True)


IN_BETWEEN = """
import json, resource, sys
import torch
from bundle.inference.calibration import held_memory
from bundle.machine import freed_memory_kept, keep_freed_memory_from_first_use
if sys.argv[1] == "keep":
    keep_freed_memory_from_first_use()


def faults_of(mebibytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(mebibytes << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


held, faults, before = [], [], held_memory()
for mebibytes in (200, 100, 400):
    with freed_memory_kept():
        faults.append([faults_of(mebibytes), faults_of(mebibytes)])
        held.append(held_memory() - before >> 20)
    held.append(held_memory() - before >> 20)
faults.append([faults_of(100), faults_of(100)])
print(json.dumps([held, faults]))
"""


@pytest.mark.parametrize("mode", ["keep", "leave"])
def test_each_scan_uses_its_memory_again_and_leaves_none(mode):
    held, faults = json.loads(alone(IN_BETWEEN, mode))
    assert held[::2] == pytest.approx([200, 100, 400], abs=8), "a scan holds what it would hold alone"
    assert all(size < 8 for size in held[1::2])
    assert all(second < first / 10 for first, second in faults[:3]), "fresh pages within a scan"
    first, second = faults[3]
    assert (second < first / 10) == (mode == "keep"), "what comes between scans keeps its memory too, if asked to"


SCARCE = """
import torch
from bundle.inference.calibration import held_memory
from bundle.machine import available_memory, keep_freed_memory
keep_freed_memory()
before = held_memory()
tensor = torch.ones(300 << 18)
del tensor
kept = held_memory() - before
assert available_memory(1) > 1
assert held_memory() - before >= kept
available_memory(1 << 60)
print(kept >> 20, held_memory() - before >> 20)
"""


def test_what_is_kept_is_given_back_where_memory_is_scarce(host):
    kept, left = map(int, host.run("-c", SCARCE).stdout.split())
    assert kept >= 290
    assert left < 20


SCANS = """
import json, sys
from pathlib import Path
import torch
from bundle.inference import StreamInferer
from bundle.inference.calibration import Calibrations
from bundle.machine import freed_memory_is_kept, keep_freed_memory_from_first_use
from tests.bundle.inference.plan_process import CPU, Wide, image_of
keep_freed_memory_from_first_use()
assert not freed_memory_is_kept()
inferer, network, found = StreamInferer((120, 120, 140), cache_dir=sys.argv[1]), Wide(), []
for length in (120, 60, 60, 120, 140):
    inferer(image_of((100, 100, length)), network)
    known = Calibrations(network, CPU, Path(sys.argv[1])).find((100, 100, 100), 1)
    found.append([inferer.plan.bytes, known.bytes])
    assert not freed_memory_is_kept()
print(json.dumps(found))
"""


def test_plans_of_scans_of_a_batch_are_those_of_single_ones(tmp_path):
    found = json.loads(alone(SCANS, str(tmp_path)))
    planned = [planned for planned, _ in found]
    known = [known for _, known in found]
    assert max(known) < 1.5 * min(known), "what was kept of one scan is not the next one's"
    assert planned[1] < min(planned[3:]), "a longer scan"
    assert planned[1] == pytest.approx(planned[2], rel=0.2)
