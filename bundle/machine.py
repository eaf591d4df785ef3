"""What this machine can do: number formats, cores, memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.choices import PRECISIONS
from bundle.errors import OptionError

if TYPE_CHECKING:
    import torch  # in earnest where it is needed: what reads files asks for memory alone, and starts fast

# Parameters of glibc's mallopt, see malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
KEPT = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**28}
GIVEN_BACK = {MMAP_MAX: 65536, TRIM_THRESHOLD: 2**17, TOP_PAD: 2**17}
"""glibc's own values."""


def use_bfloat16(precision: str, device: torch.device | str) -> bool:
    """Tell whether to compute in bfloat16.

    ``"auto"`` does so where the hardware computes in it: on a GPU from NVIDIA's Ampere on, on a processor with
    AVX-512 BF16 (those with AMX have it too). Other processors only emulate it, which is slower than float32.

    Raises:
        ValueError: for an unknown precision.
    """
    import torch

    if precision not in PRECISIONS:
        raise OptionError("precision", f"found {precision!r}", f"one of {', '.join(PRECISIONS)} is wanted")
    if precision != "auto":
        return precision == "bfloat16"
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.device(device).type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def available_cores() -> int:
    """Return the cores that this process may use: its affinity, its cgroup's quota, and PyTorch's own limit."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max": no quota
        pass
    return max(1, min(cores, torch.get_num_threads()))


def allow_open_files() -> None:
    """Raise the limit on open files as far as the system lets this process: each tensor that a worker gets is one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_memory(wanted: int = 0) -> int | None:
    """Return the bytes that this process may still allocate, ``None`` where the system does not say.

    The smallest of what the machine has free, what the control groups of the process leave (``memory.max`` of
    version 2, ``memory.limit_in_bytes`` of version 1) and what its own limit does (``ulimit -v``, RLIMIT_AS). Where
    that is less than ``wanted``, freed memory that was kept is given back first.
    """
    room = [_meminfo("/proc/meminfo", "MemAvailable"), *map(_cgroup_room, _cgroups()), _address_space_room()]
    known = [size for size in room if size is not None]
    if known and min(known) < wanted:
        give_back_freed_memory()
        return available_memory()
    return max(0, min(known)) if known else None


def _meminfo(path: str, field: str) -> int | None:
    """Return a line such as ``VmSize:  1234 kB`` of a file below /proc, in bytes."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None


def _address_space_room() -> int | None:
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = _meminfo("/proc/self/status", "VmSize")
    return None if limit == resource.RLIM_INFINITY or used is None else limit - used


def _cgroups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """Return the control groups that may limit this process: its own and all above it, of both versions."""
    found: list[Path] = []
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers in ("", "memory") or "memory" in controllers.split(","):
                top = root / "memory" if controllers else root
                place = top / name.strip("/")
                found += [folder for folder in (place, *place.parents) if folder.is_relative_to(top)]
    return found


def _cgroup_room(folder: Path) -> int | None:
    """Return what a control group leaves; the cache of files that it holds is given back when it is needed."""
    for limit_name, used_name, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):
            limit = int((folder / limit_name).read_text(encoding="ascii"))  # "max" is no number: no limit
            used = int((folder / used_name).read_text(encoding="ascii"))
            lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            statistics = dict(line.split() for line in lines)
            return limit - used + int(statistics.get(cache, 0))
    return None


_kept_for_good = _kept_in_between = False


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor instead of giving it back to the system each time.

    PyTorch's feature maps are hundreds of megabytes each; fresh memory from the system costs a page fault every 4 KiB,
    up to half of the time of a training step on a CPU. The price is memory that lies between tensors of other sizes,
    which grows with every step whose window is of another size: ``give_back_freed_memory`` now and then. Inference
    keeps it while the network runs, see ``freed_memory_kept``.

    Returns:
        Whether it was done; other C libraries have no such setting.
    """
    global _kept_for_good
    _kept_for_good = _set_malloc(KEPT)
    return _kept_for_good


def keep_freed_memory_from_first_use() -> None:
    """Let what comes after the first ``freed_memory_kept`` keep freed memory too, which that still gives back.

    For programs that segment scan after scan. What is loaded before is left alone: glibc takes address space ahead once
    it keeps, of which there may be little (``ulimit -v``).
    """
    global _kept_in_between
    _kept_in_between = True


def freed_memory_is_kept() -> bool:
    """Tell whether freed memory is kept for good, by ``keep_freed_memory``."""
    return _kept_for_good


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory inside the context, and give back to the system what is free at its end.

    What a scan leaves is not for the next one: small objects would settle between its pieces, so that the next feature
    maps find no place there, and a batch would take more than a scan, how much by chance.
    """
    if _kept_for_good or not _set_malloc(KEPT):
        yield
        return
    try:
        yield
    finally:
        if not _kept_in_between:
            _set_malloc(GIVEN_BACK)
        give_back_freed_memory()


def give_back_freed_memory() -> None:
    """Give back to the system what is free now, wherever it lies; does nothing with another C library than glibc."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set_malloc(settings: Mapping[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(mallopt(name, value) for name, value in settings.items())
