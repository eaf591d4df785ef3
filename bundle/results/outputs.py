"""What the segmentation of a scan leaves behind: label map, volume table and picture, all of them or none."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, SaveImaged

from bundle.errors import GeometryWarning
from bundle.io import output_path, read_volume, write_label_map
from bundle.labels import DEFAULT_TABLE, Label, read_labels
from bundle.results.picture import draw_qc
from bundle.results.volumes import structure_volumes, write_volumes


@dataclass(frozen=True)
class OutputPaths:
    """The files that belong to one scan."""

    label_map: Path
    volumes: Path
    picture: Path

    @classmethod
    def of(cls, source: str | Path, output_dir: str | Path) -> OutputPaths:
        """Return ``output_dir/NAME/NAME_seg.nii.gz``, ``NAME_volumes.tsv`` and ``NAME_qc.png``."""
        label_map = output_path(source, output_dir)
        stem = label_map.parent.name
        return cls(label_map, label_map.with_name(f"{stem}_volumes.tsv"), label_map.with_name(f"{stem}_qc.png"))

    def refuse_existing(self) -> None:
        """Raise ``FileExistsError`` when one of the files is there."""
        for path in astuple(self):
            if path.exists():
                raise FileExistsError(f"{path}: exists already; a free name, or overwrite, is wanted.")


def check_outputs(items: Sequence[Mapping[str, Any]], output_dir: str | Path, overwrite: bool) -> None:
    """Refuse to start when an output of one of the scans exists and may not be overwritten.

    Raises:
        FileExistsError: naming the file.
    """
    if not overwrite:
        for item in items:
            OutputPaths.of(item["image"], output_dir).refuse_existing()


def save_outputs(
    labels: np.ndarray, source: str | Path, output_dir: str | Path, table: list[Label], overwrite: bool = False
) -> OutputPaths:
    """Write label map, volume table and picture of a scan; they appear together once all are complete.

    Args:
        labels: codes, shape of the scan.
        source: the scan.
        output_dir: folder of the outputs.
        table: the structures.
        overwrite: replace existing files.

    Raises:
        FileExistsError: when an output exists and ``overwrite`` is false.
    """
    paths = OutputPaths.of(source, output_dir)
    if not overwrite:
        paths.refuse_existing()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeometryWarning)  # given when the scan was read for segmentation
        volume = read_volume(source, assume_affine=True)
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".unfinished-") as folder:
        unfinished = OutputPaths.of(source, folder)
        unfinished.label_map.parent.mkdir()
        write_label_map(labels, source, unfinished.label_map)
        write_volumes(structure_volumes(labels, volume.affine, table), unfinished.volumes)
        draw_qc(volume.data, labels, volume.affine, table, unfinished.picture, title=Path(source).name)
        paths.label_map.parent.mkdir(exist_ok=True)
        for written, final in zip(astuple(unfinished), astuple(paths), strict=True):
            os.replace(written, final)
    return paths


class SaveOutputsd(MapTransform):
    """Write the outputs of a restored label map, see ``save_outputs``.

    Args:
        keys: label maps of codes, shape of the file that was read.
        image_key: the image, a ``MetaTensor`` that knows its file.
        output_dir: folder of the outputs.
        labels: label table.
        overwrite: replace existing files.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        image_key: str = "image",
        labels: str | Path = DEFAULT_TABLE,
        overwrite: bool = False,
    ) -> None:
        super().__init__(keys)
        self.output_dir = output_dir
        self.image_key = image_key
        self.table = read_labels(labels)
        self.overwrite = overwrite

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write and pass the data on."""
        result = dict(data)
        source = result[self.image_key].meta["filename_or_obj"]
        for key in self.key_iterator(result):
            save_outputs(np.asarray(result[key]), source, self.output_dir, self.table, self.overwrite)
        return result


# Programs that write results themselves, such as MONAI Label, leave out every transform that is a SaveImaged.
SaveImaged.register(SaveOutputsd)
