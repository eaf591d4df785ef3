"""Where the bundle is that a config belongs to: ``bundle_root`` when nobody says so.

The contract is held by ``tests/bundle/test_from_any_folder.py``.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from monai.bundle import ConfigParser, ConfigWorkflow

CODE = Path(__file__).resolve().parents[1]
"""The bundle that this code is a part of."""


def bundle_root() -> str:
    """Return the folder of the bundle whose config is being evaluated, as the config's own path leads there.

    MONAI tells an expression nothing of the file that it stands in, so the callers are asked: the workflow that has its
    parser evaluate it, or who holds that workflow in a variable. A config that lies in no bundle, or that a bare
    ``ConfigParser`` reads, belongs to the bundle of this code. A ``bundle_root`` that is given in place of this
    expression wins, as any override does.
    """
    parser, frame = None, inspect.currentframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if parser is None and isinstance(value, ConfigParser):
                parser = value
            if isinstance(value, ConfigWorkflow) and parser is not None and value.parser is parser:
                return str(_bundle_of(Path(value.config_root_path)))
        frame = frame.f_back
    return str(CODE)


def _bundle_of(folder: Path) -> Path:
    """Return the bundle whose configs lie in a folder, by MONAI's rules; that of this code where it is none's."""
    root = folder.parent if folder.name == "configs" else folder
    return root if (root / "configs" / "metadata.json").is_file() else CODE
