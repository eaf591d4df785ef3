"""What the processes of a cohort tell one another; nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bundle.cohort.rows import Row
    from bundle.labels import Label

DONE, SKIPPED, FAILED = "done", "skipped", "failed"
TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
"""How tables and lists are read and written: a file's name may be any bytes."""


@dataclass(frozen=True)
class Case:
    """A scan.

    Attributes:
        id: its name in tables; that of its file, without the suffix, unless a table gives another.
        image: path of the scan.
    """

    id: str
    image: str

    def folder(self, output_dir: str | Path) -> Path:
        """Return the output folder that ``OutputPaths`` is to be asked with.

        Results lie in ``output_dir/STEM``, as ``scripts.segment`` has it; where the id is another one, which it must be
        where many files are called ``T1.nii.gz``, in ``output_dir/ID/STEM``.
        """
        from bundle.io.names import volume_stem

        return Path(output_dir) if self.id == volume_stem(self.image) else Path(output_dir) / self.id


@dataclass(frozen=True)
class Settings:
    """How scans are segmented; the same for all workers.

    Attributes:
        config: the inference config and its overlays, absolute paths.
        overrides: pairs of ids and values that replace the config's; sorted, and no lists, so that they can be hashed.
        output_dir: folder of the results, absolute.
        trust_mtime: tell by times, and not by hashes, whether a result still holds.
        overwrite: do every scan again.
        threads: of a worker, ``None`` for what the process has.
        resume: the output folder is this run's: results that hold are skipped, and what a killed run left is swept.
            Without it every scan is segmented, and one that has results is refused unless ``overwrite`` is set.
    """

    config: tuple[str, ...]
    overrides: tuple[tuple[str, Any], ...]
    output_dir: str
    trust_mtime: bool = False
    overwrite: bool = False
    threads: int | None = None
    resume: bool = True


@dataclass(frozen=True)
class Readiness:
    """What a worker says once its model is loaded.

    Attributes:
        host: of the machine.
        pid: of the process.
        engine: what computes the network, as a clause.
        maker: hashes of weights and config and the version of the bundle: what all workers must have in common.
        table: the structures of the model, background first.
        error: why it cannot work, empty otherwise.
        code: of that error.
    """

    host: str
    pid: int
    engine: str = ""
    maker: Mapping[str, Any] = field(default_factory=dict)
    table: tuple[Label, ...] = ()
    error: str = ""
    code: str = ""

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures, without the background."""
        return tuple(label.name for label in self.table[1:])


@dataclass(frozen=True)
class Result:
    """What became of a scan.

    Attributes:
        status: ``done``, ``skipped`` (an earlier result holds) or ``failed``.
        row: what the table says of a result, ``None`` where there is none.
        code: of an error.
        reason: of an error; or why an earlier result was made again.
        again: whether another attempt may end otherwise.
        warnings: of the scan, a line each.
        seconds: that the attempt took.
    """

    status: str
    row: Row | None = None
    code: str | None = None
    reason: str = ""
    again: bool = False
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What became of a scan.

    Attributes:
        case: the scan.
        result: of the last attempt.
        worker: that made it.
        attempts: how many there were.
    """

    case: Case
    result: Result
    worker: str
    attempts: int
