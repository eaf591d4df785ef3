"""The one error that unusable input raises, and the warning for input that is used all the same."""

from __future__ import annotations

from pathlib import Path


class GeometryWarning(UserWarning):
    """A file that is used although its header contradicts itself a little; one line that names the file."""


class InputError(ValueError):
    """A file that cannot be used; ``str()`` is one line, ``<path>: <what was found>; <what is wanted>``.

    Args:
        path: the file, or the argument that lists files.
        found: what is wrong with it, as a clause.
        wanted: what would be accepted, as a clause.
    """

    def __init__(self, path: str | Path, found: str, wanted: str) -> None:
        super().__init__(str(path), found, wanted)
        self.path = Path(path)

    def __str__(self) -> str:
        path, found, wanted = self.args
        return " ".join(f"{path}: {found}; {wanted}".splitlines())

    @classmethod
    def within(cls, error: BaseException | None) -> InputError | None:
        """Return the input error that led to ``error``, or None: MONAI's ``Compose`` wraps it in a ``RuntimeError``."""
        while error is not None and not isinstance(error, cls):
            error = error.__cause__ or error.__context__
        return error
