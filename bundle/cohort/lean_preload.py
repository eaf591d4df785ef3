"""Loaded by workers of this machine as they start, where nothing but the shipped config runs: see ``bundle.lean``.

It must come before anything of the bundle that loads MONAI, which what a worker is asked to do does.
"""

from __future__ import annotations

from bundle.lean import load_monai_alone

load_monai_alone()
