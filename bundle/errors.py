"""Everything that a user can mend, as errors and warnings of one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType


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


class DatasetError(InputError):
    """A data set that cannot be used; ``str()`` is one line, ``problems`` says it all.

    Args:
        folder: the data set.
        problems: all that is wrong with it.
    """

    def __init__(self, folder: str | Path, problems: Sequence[InputError]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(folder, f"found {count}, the first being {problems[0]}", "a sound data set is wanted")
        self.problems = list(problems)


class WeightsError(ValueError):
    """A checkpoint that cannot be used: one line with the file, what was found and what is wanted."""


class ConversionError(ValueError):
    """A checkpoint that cannot be converted without loss: one line that lists the keys."""


class ExportError(ValueError):
    """One line with the file or the form, what was found and what is wanted."""


class EngineWarning(UserWarning):
    """A model that runs otherwise than it was meant to: in another engine, or converted anew each time."""


class TrainingError(RuntimeError):
    """A training that cannot start or go on; the message is one line that says what to do."""


def show_errors_in_one_line() -> None:
    """Let this process print a ``TrainingError``, ``InputError`` or ``OSError`` without its traceback.

    MONAI wraps what a config raises in an error of its own; the first of these kinds among the causes is shown.
    """
    previous = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        link: BaseException | None = error
        while link is not None and not isinstance(link, TrainingError | InputError | OSError):
            link = link.__cause__
        if link is None:
            previous(kind, error, traceback)
        else:
            print(f"error: {' '.join(str(link).split())}", file=sys.stderr)

    sys.excepthook = show
