"""Memory that is kept from scan to scan is used again, told apart from what is held, and given back for larger ones."""

from __future__ import annotations

import json
import platform

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has the setting")

ONE_AFTER_ANOTHER = """
import json, resource, sys
import torch
from bundle.inference.kept_memory import KeptMemory, held_memory
from bundle.machine import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
kept, found = KeptMemory(), []
for mebibytes in (200, 150, 100, 400):
    anew = kept.make_ready(mebibytes << 20)
    held = kept.held()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensor = torch.ones(mebibytes << 18)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    del tensor
    found.append([anew, held, held_memory(), faults])
print(json.dumps(found))
"""


def test_what_takes_no_more_than_before_gets_what_was_kept(host):
    found = json.loads(host.run("-c", ONE_AFTER_ANOTHER, "keep").stdout)
    assert [anew for anew, *_ in found] == [True, False, False, True]
    held = [held for _, held, *_ in found]
    after = [after for *_, after, _ in found]
    faults = [faults for *_, faults in found]
    assert max(held) - min(held) < 20 << 20, "what is kept is not held"
    assert all(190 << 20 < size - held[0] < 230 << 20 for size in after[:3])
    assert after[3] - held[0] > 390 << 20
    assert max(faults[1:3]) < faults[0] / 10


def test_nothing_is_kept_where_nobody_asked_for_it(host):
    found = json.loads(host.run("-c", ONE_AFTER_ANOTHER, "leave").stdout)
    assert all(anew for anew, *_ in found)
    assert all(after - found[0][1] < 20 << 20 for *_, after, _ in found)


SCARCE = """
import torch
from bundle.inference.kept_memory import held_memory
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
    assert freed_memory_is_kept()
print(json.dumps(found))
"""


def test_plans_of_scans_that_use_kept_memory_are_those_of_others(host, tmp_path):
    found = json.loads(host.run("-c", SCANS, str(tmp_path)).stdout)
    planned = [planned for planned, _ in found]
    known = [known for _, known in found]
    assert max(known) < 1.3 * min(known), "a window that used what was kept says nothing of its memory"
    assert planned[1] < planned[3] < planned[4]
    assert planned[1] == pytest.approx(planned[2], rel=0.05)
