"""What the segmentation of a scan leaves behind: label map, volume table and picture, all of them or none."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.config.type_definitions import KeysCollection
from monai.transforms.io.dictionary import SaveImaged
from monai.transforms.transform import MapTransform

from bundle.errors import GeometryWarning
from bundle.io import output_path, read_volume, write_label_map
from bundle.io.reading import AS_STORED, Reading, reading_of
from bundle.io.whole import refuse_existing, whole_set
from bundle.labels import DEFAULT_TABLE, Label, read_labels, renamed_keywords
from bundle.results.picture import draw_qc
from bundle.results.volumes import LabelArray, structure_volumes, write_volumes


@dataclass(frozen=True)
class OutputPaths:
    """The files that belong to one scan, in one folder; the last one is their commit mark."""

    label_map: Path
    volumes: Path
    picture: Path

    @classmethod
    def of(cls, source: str | Path, output_dir: str | Path) -> OutputPaths:
        """Return ``output_dir/NAME/NAME_seg.nii.gz``, ``NAME_volumes.tsv`` and ``NAME_qc.png``."""
        label_map = output_path(source, output_dir)
        stem = label_map.parent.name
        return cls(label_map, label_map.with_name(f"{stem}_volumes.tsv"), label_map.with_name(f"{stem}_qc.png"))


def check_outputs(items: Sequence[Mapping[str, Any]], output_dir: str | Path, overwrite: bool) -> None:
    """Refuse to start when an output of one of the scans exists and may not be overwritten.

    Raises:
        ExistsError: naming the file.
    """
    if not overwrite:
        refuse_existing([path for item in items for path in astuple(OutputPaths.of(item["image"], output_dir))])


def save_outputs(
    label_map: LabelArray,
    source: str | Path,
    output_dir: str | Path,
    table: Sequence[Label],
    overwrite: bool = False,
    reading: Reading = AS_STORED,
) -> OutputPaths:
    """Write label map, volume table and picture of a scan; they appear together once all are complete.

    Args:
        label_map: codes, shape of the scan.
        source: the scan.
        output_dir: folder of the outputs.
        table: the structures.
        overwrite: replace existing files.
        reading: how the scan was read.

    Raises:
        ExistsError: when an output exists and ``overwrite`` is false.
    """
    paths = OutputPaths.of(source, output_dir)
    with whole_set(astuple(paths), overwrite) as unfinished:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GeometryWarning)  # given when the scan was read for segmentation
            volume = read_volume(source, True, reading.fill_nonfinite, reading.frame, reading.trust)
        written = OutputPaths(*unfinished)
        write_label_map(label_map, source, written.label_map, frame=reading.frame, trust=reading.trust)
        write_volumes(structure_volumes(label_map, volume.affine, table), written.volumes)
        draw_qc(volume.data, label_map, volume.affine, table, written.picture, title=Path(source).name)
    return paths


class SaveOutputsd(MapTransform):
    """Write the outputs of a restored label map, see ``save_outputs``.

    Args:
        keys: label maps of codes, shape of the file that was read.
        image_key: the image, a ``MetaTensor`` that knows its file.
        output_dir: folder of the outputs.
        label_table: path of the label table.
        overwrite: replace existing files.
    """

    @renamed_keywords(labels="label_table")
    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        image_key: str = "image",
        label_table: str | Path = DEFAULT_TABLE,
        overwrite: bool = False,
    ) -> None:
        super().__init__(keys)
        self.output_dir = output_dir
        self.image_key = image_key
        self.table = read_labels(label_table)
        self.overwrite = overwrite

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write and pass the data on."""
        result = dict(data)
        meta = result[self.image_key].meta
        source, reading = meta["filename_or_obj"], reading_of(meta)
        for key in self.key_iterator(result):
            save_outputs(np.asarray(result[key]), source, self.output_dir, self.table, self.overwrite, reading)
        return result


# Programs that write results themselves, such as MONAI Label, leave out every transform that is a SaveImaged.
SaveImaged.register(SaveOutputsd)
