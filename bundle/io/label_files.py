"""A label table in the forms in which viewers read names and colours.

``tests/bundle/io/test_label_files.py`` reads each of them back by the rules of its program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from bundle.io.whole import whole_set
from bundle.labels import Label

ENDINGS = (".ctbl", "_lut.txt", "_itksnap.txt", "_terminology.json")
"""3D Slicer's colour table, FreeSurfer's, ITK-SNAP's label descriptions, and a terminology for 3D Slicer."""
SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#"
STRUCTURE = {"CodeMeaning": "Anatomical Structure", "CodingSchemeDesignator": "SCT", "CodeValue": "123037004"}
SCHEME = "99FREESURFER"
"""Designators of coding schemes that are nobody's begin with 99 (DICOM PS3.16, section 8)."""
OPAQUE = 255


def write_label_files(
    table: Sequence[Label], folder: str | Path, name: str = "labels", overwrite: bool = False
) -> list[Path]:
    """Write ``NAME.ctbl``, ``NAME_lut.txt``, ``NAME_itksnap.txt`` and ``NAME_terminology.json`` and return the paths.

    Args:
        table: the structures.
        folder: where they go; made where it is missing.
        name: what the files' names begin with.
        overwrite: replace existing files.

    Raises:
        ExistsError: when one of them exists and ``overwrite`` is false.
    """
    paths = [Path(folder) / f"{name}{ending}" for ending in ENDINGS]
    contents = (slicer_colours(table), freesurfer_lut(table), itksnap_labels(table), slicer_terminology(table))
    with whole_set(paths, overwrite) as unfinished:
        for path, content in zip(unfinished, contents, strict=True):
            path.write_text(content, encoding="utf-8")
    return paths


def slicer_colours(table: Sequence[Label]) -> str:
    """Return a colour table of 3D Slicer, ``code name red green blue alpha``; the background is transparent."""
    rows = [f"{label.code} {_word(label.name)} {_colour(label, ' ')} {_alpha(label)}" for label in _by_code(table)]
    return "\n".join(["# Color", *rows, ""])


def freesurfer_lut(table: Sequence[Label]) -> str:
    """Return a colour table as FreeSurfer's ``FreeSurferColorLUT.txt``, whose last column is 0 for opaque."""
    rows = [f"{label.code:<7} {_word(label.name):<40} {_colour(label, ' ')} 0" for label in _by_code(table)]
    return "\n".join(["#No.    Label Name:                              R G B A", *rows, ""])


def itksnap_labels(table: Sequence[Label]) -> str:
    """Return label descriptions of ITK-SNAP: ``index red green blue alpha visible mesh "name"``, alpha 0 to 1."""
    rows = []
    for label in _by_code(table):
        shown = int(label.code != 0)
        name = "Clear Label" if label.code == 0 else label.name.replace('"', "'")
        rows.append(f'{label.code:5} {_colour(label, " ")} {shown} {shown} {shown} "{name}"')
    return "\n".join(["# ITK-SnAP Label Description File", "# IDX R G B A VIS MSH LABEL", *rows, ""])


def slicer_terminology(table: Sequence[Label]) -> str:
    """Return a terminology of 3D Slicer, whose types are the structures, coded by the values of label files."""
    types = [
        {
            "CodeMeaning": label.name,
            "CodingSchemeDesignator": SCHEME,
            "CodeValue": str(label.code),
            "recommendedDisplayRGBValue": list(label.colour),
            "3dSlicerLabel": label.name,
        }
        for label in _by_code(table)
        if label.code != 0
    ]
    content = {
        "SegmentationCategoryTypeContextName": "Brain MRI transformer segmentation",
        "@schema": SCHEMA,
        "SegmentationCodes": {"Category": [{**STRUCTURE, "showAnatomy": False, "Type": types}]},
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _by_code(table: Sequence[Label]) -> list[Label]:
    return sorted(table, key=lambda label: label.code)


def _word(name: str) -> str:
    """Return a name without what parts the columns of a table."""
    return re.sub(r"\s+", "_", name.strip()) or "unnamed"


def _colour(label: Label, gap: str) -> str:
    return gap.join(map(str, label.colour))


def _alpha(label: Label) -> int:
    return 0 if label.code == 0 else OPAQUE
