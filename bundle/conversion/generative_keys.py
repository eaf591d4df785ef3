"""GenerativeModels' name of attention's output projection, ``proj_attn``, and this bundle's, ``out_proj``."""

from __future__ import annotations

import re

from bundle.conversion.state import SUBJECT, State
from bundle.errors import ConversionError

OURS = re.compile(r"((?:.*\.)?)out_proj\.(weight|bias)")
THEIRS = re.compile(r"((?:.*\.)?)proj_attn\.(weight|bias)")


def _rename(state: State, names: re.Pattern[str], taken: re.Pattern[str], new: str) -> State:
    """Rename all output projections; none may bear the new name already, or the way back would rename it too."""
    clashes = [key for key in state if taken.fullmatch(key)]
    if clashes:
        found = f"an output projection has the other family's name already: {', '.join(clashes)}"
        raise ConversionError(SUBJECT, found)
    return {
        (f"{match[1]}{new}.{match[2]}" if (match := names.fullmatch(key)) else key): value
        for key, value in state.items()
    }


def generative_to_bundle(state: State) -> State:
    """Rename every ``proj_attn`` to ``out_proj``; the other keys stay.

    Raises:
        ConversionError: when there is an ``out_proj`` too.
    """
    return _rename(state, THEIRS, OURS, "out_proj")


def bundle_to_generative(state: State) -> State:
    """Rename every ``out_proj`` to ``proj_attn``; the other keys stay.

    Raises:
        ConversionError: when there is a ``proj_attn`` too.
    """
    return _rename(state, OURS, THEIRS, "proj_attn")
