"""The error of an exported model that cannot be made or used."""

from __future__ import annotations


class ExportError(ValueError):
    """One line with the file or the form, what was found and what is wanted."""


class EngineWarning(UserWarning):
    """A model that runs otherwise than it was meant to: in another engine, or converted anew each time."""
