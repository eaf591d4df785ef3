"""Everything that a user can mend: one family of errors and one of warnings, each of one line.

An error says where, what was found, and what is wanted: ``<path>: <found>; <wanted>``. Programs print that line,
records keep its ``code``. What only a programmer can get wrong (a tensor of another shape) stays a ``ValueError``.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bundle.process import encode_whatever_is_printed, end_on_sigterm, interrupted_line

CODES = {
    "missing": "no such file or folder",
    "unreadable": "a file that cannot be opened or read",
    "format": "a file of another kind than is wanted",
    "damaged": "a file that is truncated or corrupt",
    "memory": "a volume that does not fit in memory",
    "shape": "not one 3D volume",
    "type": "voxels that are no real numbers",
    "geometry": "no affine, or one that cannot be trusted",
    "intensities": "voxels without contrast, or NaN or Inf among them",
    "labels": "a label map or label table that cannot be used",
    "grid": "two files that must share a grid and do not",
    "pairs": "files that should belong together and do not",
    "dataset": "a data set with problems",
    "option": "an option or config id with a value that is not legal",
    "exists": "a file that is there and may not be replaced",
    "write": "a file that cannot be written",
    "weights": "a checkpoint that cannot be used",
    "conversion": "a checkpoint that cannot be converted without loss",
    "export": "an exported model, or an engine, that cannot be made or used here",
    "training": "a training that cannot start or go on",
    "cohort": "a run over many scans that cannot start or go on",
    "worker": "a scan whose process ended while it was segmented",
}
"""Every ``code`` of an error, for records and tables."""


class BundleError(ValueError):
    """What a user can mend; ``str()`` is one line, ``<path>: <found>; <wanted>``.

    Args:
        path: the file, or the option or id.
        found: what is wrong with it, as a clause.
        wanted: what would be accepted or helps, as a clause; may be empty.
        code: one of ``CODES``; that of the class when ``None``.
    """

    code = "option"

    def __init__(self, path: str | Path, found: str, wanted: str = "", code: str | None = None) -> None:
        # Positional, all of them, so that an error goes to another process and back as it is.
        self.args = (str(path), found, wanted, code or self.code)
        self.path = Path(path)
        self.found = found
        self.wanted = wanted
        self.code = code or self.code

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made anew from ``args``, whatever a library registers for exceptions (Dask's tblib does)."""
        return type(self), self.args

    def __str__(self) -> str:
        reason = "; ".join(part for part in (self.found, self.wanted) if part)
        return " ".join(f"{self.args[0]}: {reason}".split("\n"))


class InputError(BundleError):
    """A file that cannot be used as input."""

    code = "format"


class MissingError(InputError, FileNotFoundError):
    """A file or folder that is not there."""

    code = "missing"


class ExistsError(BundleError, FileExistsError):
    """A file that is there and may not be replaced.

    Args:
        path: the file.
        wanted: what helps.
        found: what is there.
    """

    code = "exists"

    def __init__(
        self,
        path: str | Path,
        found: str = "exists already",
        wanted: str = "a free name, or overwrite, is wanted",
        code: str | None = None,
    ) -> None:
        super().__init__(path, found, wanted, code)


class OptionError(BundleError):
    """An option, argument or config id whose value is not legal."""


class WriteError(BundleError, OSError):
    """A file or folder that cannot be written."""

    code = "write"


class DatasetError(InputError):
    """A data set that cannot be used; ``str()`` is one line, ``problems`` says it all.

    Args:
        folder: the data set.
        problems: all that is wrong with it.
    """

    code = "dataset"

    def __init__(self, folder: str | Path, problems: Sequence[InputError]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(folder, f"found {count}, the first being {problems[0]}", "a sound data set is wanted")
        self.args = (str(folder), list(problems))
        self.problems = list(problems)


class WeightsError(BundleError):
    """A checkpoint that cannot be used."""

    code = "weights"


class ConversionError(BundleError):
    """A checkpoint that cannot be converted without loss; the line lists the keys."""

    code = "conversion"


class ExportError(BundleError):
    """An exported model or an engine that cannot be made or used here."""

    code = "export"


class TrainingError(BundleError):
    """A training that cannot start or go on."""

    code = "training"


class CohortError(BundleError):
    """A run over many scans that cannot start or go on."""

    code = "cohort"


class BundleWarning(UserWarning):
    """What a user should know although the work goes on; one line."""


class GeometryWarning(BundleWarning):
    """A file that is used although its header contradicts itself a little; one line that names the file."""


class IntensityWarning(BundleWarning):
    """A scan whose intensities are scaled otherwise than by its percentiles; one line that names the file."""


class EngineWarning(BundleWarning):
    """A model that runs otherwise than it was meant to: in another engine, or converted anew each time."""


class FlagWarning(BundleWarning):
    """A result that somebody should look at twice; one line that names the scan and says why."""


NO_MEMORY = (
    "allocate memory",
    "failed to allocate",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "could not create a memory object",
)
"""Parts of what PyTorch, oneDNN, OpenVINO, ONNX Runtime and CUDA say when an allocation fails, in lower case."""


def lacks_memory(error: BaseException) -> bool:
    """Tell whether an error, or a library's word for it, is that no memory was left."""
    if isinstance(error, BundleError):
        return False
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return any(words in str(error).lower() for words in NO_MEMORY)


def root_cause(error: BaseException, subject: str | Path = "") -> BaseException:
    """Return what a user can act on: the first ``BundleError`` or ``OSError`` among the causes of an error.

    MONAI's ``Compose`` and config parser wrap what goes wrong inside them in a ``RuntimeError``; where no cause is one
    of these, the first that is not such a wrapper is returned. That no memory is left, or that a file has
    gone, becomes an ``InputError``.

    Args:
        error: an error, or a wrapper around it.
        subject: what it is about.
    """
    link: BaseException | None = error
    while link is not None:
        if lacks_memory(link):
            wanted = "more is wanted (close other programs, or raise the limit of the container or of ulimit -v)"
            return InputError(subject or "memory", "found too little memory for it", wanted, "memory")
        if type(link) is FileNotFoundError and link.filename:
            return MissingError(link.filename, "no such file or folder", "one that stays is wanted")
        if isinstance(link, (BundleError, OSError)):
            return link
        link = link.__cause__
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error


def one_line(error: BaseException, subject: str | Path = "") -> str:
    """Return the message of an error's ``root_cause`` in one line, with its subject in front where it lacks it."""
    cause = root_cause(error, subject)
    message, name = (" ".join(str(text).split()) for text in (cause, subject))
    message = message or type(cause).__name__
    return message if name in message else f"{name}: {message}"


def error_line(error: BaseException, subject: str | Path = "", hint: str = "") -> str:
    """Return ``one_line``, which of an error that nobody foresaw names the kind too.

    Args:
        error: an error, or MONAI's wrapper around it.
        subject: what it is about, put in front where the message lacks it.
        hint: put behind what nobody foresaw: how more is found out.
    """
    cause = root_cause(error, subject)
    reason = one_line(error, subject)
    if isinstance(cause, (BundleError, OSError, ValueError, RuntimeError)):
        return reason
    return f"{type(cause).__name__}: {reason}{hint}"


def show_errors_in_one_line() -> None:
    """Let this process print what a user can mend in one line, without its traceback, and end as the programs do.

    For ``monai.bundle run``, whose frame is MONAI's.
    """
    encode_whatever_is_printed()
    end_on_sigterm()
    previous = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(root_cause(error), (BundleError, OSError)):
            print(f"error: {one_line(error)}", file=sys.stderr)
        elif issubclass(kind, KeyboardInterrupt):
            print(interrupted_line(), file=sys.stderr)  # Python ends with SIGINT, which shells call 130
        else:
            previous(kind, error, traceback)

    sys.excepthook = show
