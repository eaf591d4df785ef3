"""MONAI without the packages that it can do without, for a program that starts often and needs none of them.

MONAI loads all of its modules at once, and with them every optional package that is installed: half of the time that
``scripts.segment`` took to start. Each of them may be missing by MONAI's own rules (``optional_import``), and so they
are while it is loaded. ``tests/bundle/test_lean.py`` holds this.
"""

from __future__ import annotations

import gc
import sys

WITHHELD = (
    *("einops", "ignite", "matplotlib", "pandas", "psutil", "requests", "sklearn"),
    *("tensorboard", "torch.utils.tensorboard"),
    *("scipy.optimize", "scipy.signal", "scipy.spatial", "scipy.stats"),
)
"""What MONAI's workflows, plots, downloads and metrics are made with; its transforms and inferers use none of it."""


def load_monai_alone() -> None:
    """Load MONAI as if ``WITHHELD`` were not installed; for good, in this process.

    For programs whose process is theirs: what trains, or runs an evaluator, finds MONAI's parts for that unusable
    afterwards. The packages themselves can be loaded as ever. Does nothing where MONAI is loaded already.
    """
    if "monai" in sys.modules:
        return
    withheld = [name for name in WITHHELD if name not in sys.modules]
    sys.modules.update(dict.fromkeys(withheld))  # type: ignore[arg-type]  # None makes its import an ImportError
    collecting = gc.isenabled()
    gc.disable()  # hundreds of thousands of objects that stay: to look through them again and again costs 0.1 s
    try:
        import monai.bundle  # noqa: F401
    finally:
        for name in withheld:
            if sys.modules.get(name, sys) is None:
                del sys.modules[name]
        if collecting:
            gc.enable()
    gc.freeze()
