"""Libraries that do more than they are asked for when they are imported: here that is kept from them.

``tests/test_privacy.py`` segments a scan with sockets refused and a fresh home to hold this.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

TELEMETRY = "openvino_telemetry"
"""What OpenVINO reports to its maker with; without this package it uses a stub of its own that does nothing."""


def load_openvino() -> ModuleType:
    """Return OpenVINO, which neither looks up a host nor writes an id into the home folder.

    Its import starts both where ``openvino_telemetry`` can be imported, consent or none; a documented opt-out is a file
    in the home folder.

    Raises:
        ImportError: when OpenVINO is not installed.
    """
    if "openvino" not in sys.modules:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # makes its import an ImportError
    import openvino

    module: ModuleType = openvino
    return module


def keep_matplotlib_out_of_home() -> None:
    """Let Matplotlib, which MONAI imports, look for its settings in the cache where the user has none.

    It makes the folder that it looks in.
    """
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "matplotlib"
    if not settings.exists():
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
