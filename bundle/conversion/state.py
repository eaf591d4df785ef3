"""The type of a state dict."""

from __future__ import annotations

from torch import Tensor

State = dict[str, Tensor]
