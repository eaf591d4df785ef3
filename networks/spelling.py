"""Names that an argument can have, in capitals or not: MONAI's constants are in capitals, its documents are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def one_of(argument: str, value: Any, legal: Sequence[str]) -> str:
    """Return the name among ``legal`` that ``value`` spells, whatever its case and the blanks around it.

    Args:
        argument: what the value is given for, for the message.
        value: what was given.
        legal: the names, in small letters.

    Raises:
        ValueError: when it is none of them.
    """
    name = value.strip().lower() if isinstance(value, str) else None
    if name not in legal:
        raise ValueError(f"{argument} must be one of {', '.join(legal)}, got {value!r}.")
    return str(name)
