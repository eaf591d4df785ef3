"""What goes wrong in a conversion."""

from __future__ import annotations

from torch import Tensor

State = dict[str, Tensor]


class ConversionError(ValueError):
    """A checkpoint that cannot be converted without loss: one line that lists the keys."""
