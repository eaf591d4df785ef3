"""All odd inputs, and the table of them in docs/inputs.md: ``python -m tests.inputs.corpus`` writes it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.conftest import ROOT
from tests.inputs import damaged, headers, not_volumes, places, sound, values
from tests.inputs.case import Case

DOCUMENT = ROOT / "docs" / "inputs.md"
REFUSED = {
    "Other things, other formats, other names": not_volumes.CASES,
    "Damaged": damaged.CASES,
    "Headers that cannot be true": headers.CASES,
    "Where the volume lies": places.CASES,
    "Intensities": values.CASES,
}
ACCEPTED = sound.CASES
ALL = [*(case for cases in REFUSED.values() for case in cases), *ACCEPTED]
INTRODUCTION = """# Inputs

What becomes of odd files: every line is a file that the tests make (`tests/inputs`) and give to the reader, and this
page is made from them (`python -m tests.inputs.corpus`). A refusal is one line, `path: what was found; what is wanted`,
with a code, before anything large is allocated; the other scans of a batch are still done.

Read are NIfTI-1 and NIfTI-2 (`.nii`, `.nii.gz`, `.hdr` with `.img`, both compressed or neither) and FreeSurfer's `.mgh`
and `.mgz`; for all of them the label map is a `.nii.gz` on the scan's grid. The rules that a name cannot tell:

- A file ends with its last voxel (an MGH file with its tags), and gzip data with its checksum: what follows is refused.
- Where sform and qform both have a code above 0, the sform is used. A rotation or shift between them is recorded: they
  may lead to two spaces. Left and right, and the closest axes, have to be the same: else one of them is wrong, and
  `--trust-sform` or `--trust-qform` has to say which is right. The label map then carries the trusted one alone.
- `--frame N` counts from 0 over all axes beyond the third, in the order in which the volumes are stored.
- `--fill-nonfinite` sets NaN and Inf to 0 and counts them.
- Two slices at least along each axis have to differ from the constant rest: a single hot slab, row or voxel is no head.
  A scan of more than 512 MiB that gzip makes more than 250 times smaller is a bomb, or zeros.
"""


def table() -> str:
    """Return the document."""
    parts = [INTRODUCTION, f"## Refused ({len(ALL) - len(ACCEPTED)})\n"]
    for title, cases in REFUSED.items():
        parts += [f"### {title}\n", _table(cases, ("input", "name", "code", "the line says"))]
    parts += [f"## Accepted ({len(ACCEPTED)})\n", "Values and affine are those that nibabel reads.\n"]
    parts.append(_table(ACCEPTED, ("input", "name", "", "with, or how")))
    return "\n".join(parts)


def _table(cases: Sequence[Case], columns: tuple[str, ...]) -> str:
    shown = [column for column in columns if column]
    lines = ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    for case in cases:
        row = [case.name, _code(case.file), *([_code(case.code)] if columns[2] else []), _cell(case)]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def _cell(case: Case) -> str:
    options = "".join(f" (`{name} {value}`)" for name, value in case.reading.items()) if case.code else ""
    return case.says.replace("|", "\\|") + options


def _code(text: str) -> str:
    """Return a name as code; what cannot be printed, or would end the cell, is escaped, and a long one is cut."""
    shown = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    shown = shown if len(shown) < 60 else f"{shown[:3]}...{shown[-10:]}"
    return f"`{shown}`".replace("|", "\\|")


if __name__ == "__main__":
    DOCUMENT.write_text(table(), encoding="utf-8")
