"""The type of a state dict."""

from __future__ import annotations

from torch import Tensor

State = dict[str, Tensor]
SUBJECT = "state"
"""What an error in a state dict is about; who read it from a file puts that file's name in its place."""
