"""What this machine can do: number formats, cores, memory."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

import torch

from bundle.choices import PRECISIONS
from bundle.errors import OptionError

# Parameters of glibc's mallopt, see malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
LARGEST_INT = 2**31 - 1
TOP_PAD_BYTES = 2**28


def use_bfloat16(precision: str, device: torch.device | str) -> bool:
    """Tell whether to compute in bfloat16.

    ``"auto"`` does so where the hardware computes in it: on a GPU from NVIDIA's Ampere on, on a processor with
    AVX-512 BF16 (those with AMX have it too). Other processors only emulate it, which is slower than float32.

    Raises:
        ValueError: for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise OptionError("precision", f"found {precision!r}", f"one of {', '.join(PRECISIONS)} is wanted")
    if precision != "auto":
        return precision == "bfloat16"
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.device(device).type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def available_cores() -> int:
    """Return the cores that this process may use: its affinity, its cgroup's quota, and PyTorch's own limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max": no quota
        pass
    return max(1, min(cores, torch.get_num_threads()))


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor instead of giving it back to the system each time.

    PyTorch's feature maps are hundreds of megabytes each; fresh memory from the system costs a page fault every 4 KiB,
    up to half of the time of a training step on a CPU. The price is memory that lies between tensors of other sizes: a
    training may hold twice as much. Inference on scans of any size does without.

    Returns:
        Whether it was done; other C libraries have no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((MMAP_MAX, 0), (TRIM_THRESHOLD, LARGEST_INT), (TOP_PAD, TOP_PAD_BYTES))
    return all(mallopt(name, value) for name, value in settings)
