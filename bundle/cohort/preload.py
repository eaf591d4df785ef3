"""Loaded by workers of this machine as they start: Ctrl-C is for the process that they work for, which ends them."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
