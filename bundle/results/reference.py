"""How large structures are in heads that were labelled by others, as shares of the intracranial volume, and where.

``configs/reference_volumes.tsv`` holds them; ``python -m benchmarks.reference_volumes`` makes it. They say how unusual
a volume is among those heads, which are few: no norm for patients.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log
from pathlib import Path

from bundle.errors import InputError, MissingError
from bundle.io.whole import whole_file

DEFAULT_REFERENCES = Path(__file__).resolve().parents[2] / "configs" / "reference_volumes.tsv"
COLUMNS = ("code", "name", "heads", "fraction", "fraction_sd", "log_mean", "log_sd", "x_mm", "y_mm", "z_mm", "source")


@dataclass(frozen=True)
class Reference:
    """What is known of one structure.

    Attributes:
        code: its code in label maps.
        name: its name.
        heads: how many heads were measured.
        fraction: mean share of the intracranial volume.
        fraction_sd: standard deviation of the share.
        log_mean: mean of the natural logarithm of the share.
        log_sd: standard deviation of that logarithm.
        centre: where its centre lies in the mean of the heads, mm towards R, A, S from the middle of all structures.
        source: where the heads come from.
    """

    code: int
    name: str
    heads: int
    fraction: float
    fraction_sd: float
    log_mean: float
    log_sd: float
    centre: tuple[float, float, float]
    source: str

    def z(self, volume: float, expected: float) -> float | None:
        """Return by how many standard deviations a volume lies off the expected one; ``None`` for no volume.

        Of the logarithms, since shares of ventricles are skewed: the largest of healthy ones are tens of times the
        smallest, and half and double lie equally far off.
        """
        return log(volume / expected) / self.log_sd if volume > 0 else None

    @property
    def typical(self) -> float:
        """The geometric mean of the share, which a ventricle that is large in one head does not move."""
        return exp(self.log_mean)


def read_references(path: str | Path = DEFAULT_REFERENCES) -> dict[int, Reference]:
    """Read a table of reference volumes, by code.

    Raises:
        MissingError: when there is no such file.
        InputError: when it is no such table, or a spread or share is not above 0.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(path, "not found", "a table of reference volumes is wanted")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [_reference(row) for row in csv.DictReader(file, delimiter="\t")]
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        wanted = f"the columns {', '.join(COLUMNS)} are wanted"
        raise InputError(path, f"cannot be read as reference volumes ({error})", wanted) from error
    return {row.code: row for row in rows}


def write_references(rows: Sequence[Reference], path: str | Path, overwrite: bool = False) -> None:
    """Write a table of reference volumes as tab-separated text.

    Raises:
        ExistsError: when the file exists and ``overwrite`` is false.
    """
    with whole_file(path, overwrite) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            numbers = [f"{number:.6g}" for number in (row.fraction, row.fraction_sd, row.log_mean, row.log_sd)]
            writer.writerow(
                (row.code, row.name, row.heads, *numbers, *(f"{place:.1f}" for place in row.centre), row.source)
            )


def _reference(row: Mapping[str, str]) -> Reference:
    numbers = [float(row[column]) for column in COLUMNS[3:10]]
    if not all(map(isfinite, numbers)) or min(numbers[0], numbers[3]) <= 0:
        raise ValueError(f"{row['name']}: shares and spreads above 0 are wanted")
    fraction, fraction_sd, log_mean, log_sd, x, y, z = numbers
    code, heads = int(row["code"]), int(row["heads"])
    return Reference(code, row["name"], heads, fraction, fraction_sd, log_mean, log_sd, (x, y, z), row["source"])
