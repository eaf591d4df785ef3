"""The segmentation of a scan that stays in memory: what its files would hold, but for the picture."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Image

from bundle.errors import FlagWarning
from bundle.io.memory import label_image
from bundle.io.read import Volume
from bundle.io.reading import reading_of
from bundle.results.flags import Flag, find_flags, flag_lines, looked_for
from bundle.results.outputs import SaveOutputsd, find_evidence
from bundle.results.quality import limits_for
from bundle.results.record import scan_record
from bundle.results.volumes import StructureVolume
from bundle.warned import warn


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The label map of a scan, and what is known of it.

    Attributes:
        image: codes, int16, with shape, affine and header geometry of the scan.
        record: what ``NAME_record.json`` holds, see ``configs/record.schema.json``; of no files, as none were written.
        flags: reasons to look twice.
        volumes: the structures by name, the rows of ``NAME_volumes.tsv``.
    """

    image: Nifti1Image
    record: Mapping[str, Any]
    flags: tuple[Flag, ...]
    volumes: Mapping[str, StructureVolume]


def keep_outputs(
    save: SaveOutputsd, result: Mapping[Hashable, Any], key: Hashable, volume: Volume, warned: Sequence[str] = ()
) -> Segmentation:
    """Return what ``save`` would write of a restored label map; nothing is written.

    Warns with a ``FlagWarning`` of one line when there is a reason to look twice.

    Args:
        save: what would write it.
        result: label map and image, as ``save`` takes them.
        key: of the label map.
        volume: the scan.
        warned: warnings given while it was read.
    """
    label_map, reading = np.asarray(result[key]), reading_of(result[save.image_key].meta)
    notes = save.notes(result, key)
    evidence = find_evidence(label_map, volume, save.table, notes, save.references)
    limits = limits_for(save.limits, notes.quality)
    flags = find_flags(evidence, limits)
    image = label_image(label_map, volume, reading.trust)
    found = (evidence.totals, evidence.rows, flags, looked_for(save.table, limits))
    record = scan_record(volume, reading, warned, (), *found, notes, save.table)
    if lines := flag_lines(flags):
        warn(FlagWarning(f"{volume.path}: look twice: {'; '.join(lines)}"), stacklevel=2)
    return Segmentation(image, record, tuple(flags), {row.name: row for row in evidence.rows})
