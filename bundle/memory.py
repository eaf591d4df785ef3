"""Memory of the process."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt, see malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
LARGEST_INT = 2**31 - 1
TOP_PAD_BYTES = 2**28


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
