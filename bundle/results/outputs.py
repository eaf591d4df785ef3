"""What the segmentation of a scan leaves behind: label map, volumes, picture, sidecar and record, all or none."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.config.type_definitions import KeysCollection
from monai.transforms.compose import Compose
from monai.transforms.io.dictionary import SaveImaged
from monai.transforms.transform import MapTransform

from bundle.errors import FlagWarning
from bundle.io import Volume, output_path, write_label_map
from bundle.io.kept import read_again
from bundle.io.names import printable
from bundle.io.reading import AS_STORED, Reading, reading_of
from bundle.io.scale import scale_of
from bundle.io.whole import whole_set
from bundle.labels import DEFAULT_TABLE, Label, read_labels, renamed_keywords
from bundle.provenance import sha256
from bundle.results.evidence import Evidence
from bundle.results.flags import (
    DEFAULT_LIMITS,
    find_flags,
    flag_lines,
    flags_by_structure,
    looked_for,
    read_limits,
)
from bundle.results.picture import draw_qc
from bundle.results.probabilities import ENDINGS, soft_key, write_probabilities
from bundle.results.quality import limits_for, quality_key
from bundle.results.record import (
    STAGES_KEY,
    Maker,
    Notes,
    Stages,
    apart_key,
    confidence_key,
    dropped_key,
    scan_record,
    write_json,
)
from bundle.results.reference import DEFAULT_REFERENCES, Reference, read_references
from bundle.results.rules import Limit
from bundle.results.sidecar import bids_sidecar
from bundle.results.volumes import LabelArray, structure_volumes, write_volumes
from bundle.warned import warn


@dataclass(frozen=True)
class OutputPaths:
    """The files that belong to one scan, in one folder; the last one is their commit mark."""

    label_map: Path
    volumes: Path
    picture: Path
    sidecar: Path
    record: Path

    @classmethod
    def of(cls, source: str | Path, output_dir: str | Path) -> OutputPaths:
        """Return ``output_dir/NAME/NAME_seg.nii.gz`` and, beside it, the files of the other endings."""
        label_map = output_path(source, output_dir)
        stem = label_map.parent.name
        endings = ("volumes.tsv", "qc.png", "seg.json", "record.json")
        return cls(label_map, *(label_map.with_name(f"{stem}_{ending}") for ending in endings))

    def map_files(self) -> list[Path]:
        """Return where probability maps and their sidecar go, should there be some."""
        stem = self.label_map.parent.name
        return [self.label_map.with_name(f"{stem}_{ending}") for ending in ENDINGS]


def save_outputs(
    label_map: LabelArray,
    source: str | Path,
    output_dir: str | Path,
    table: Sequence[Label],
    overwrite: bool = False,
    notes: Notes | None = None,
    limits: Mapping[str, Limit] | None = None,
    reading: Reading = AS_STORED,
    references: Mapping[int, Reference] | None = None,
) -> OutputPaths:
    """Write the label map of a scan, and its volumes, picture, sidecar and record; they appear together once complete.

    Warns with a ``FlagWarning`` of one line when there is a reason to look twice.

    Args:
        label_map: codes, shape of the scan.
        source: the scan.
        output_dir: folder of the outputs.
        table: the structures.
        overwrite: replace existing files.
        notes: what the record is to say beside what the scan and the label map do.
        limits: thresholds of the flags; none are looked for by default.
        reading: how the scan was read.
        references: volumes that are usual, by code.

    Raises:
        ExistsError: when an output exists and ``overwrite`` is false.
    """
    paths = OutputPaths.of(source, output_dir)
    notes = notes or Notes()
    limits = limits_for(limits or {}, notes.quality)
    map_files = paths.map_files() if notes.maps is not None else []
    with whole_set([*map_files, *astuple(paths)], overwrite) as unfinished:
        volume, given = read_again(source, reading)  # its warnings were given when it was segmented
        warned = [without_folder(warning, volume) for warning in given]
        maps, written = unfinished[: len(map_files)], OutputPaths(*unfinished[len(map_files) :])
        write_label_map(label_map, source, written.label_map, frame=reading.frame, trust=reading.trust)
        evidence = find_evidence(label_map, volume, table, notes, references)
        rows, flags = evidence.rows, find_flags(evidence, limits)
        lines = flag_lines(flags)
        write_volumes(rows, written.volumes, flags=flags_by_structure(flags, table))
        title = printable(Path(source).name)
        draw_qc(volume.data, label_map, volume.affine, table, written.picture, title=title, remarks=lines)
        if notes.maps is not None:
            write_probabilities(notes.maps, source, reading.frame, table, maps)
        others, searched = (written.label_map, written.volumes, written.picture, *maps), looked_for(table, limits)
        record = scan_record(volume, reading, warned, others, evidence.totals, rows, flags, searched, notes, table)
        write_json(bids_sidecar(record), written.sidecar)
        record["outputs"][paths.sidecar.name] = sha256(written.sidecar)
        write_json(record, written.record)
    if overwrite and not map_files:
        for path in paths.map_files():  # of the result that was replaced
            path.unlink(missing_ok=True)
    if lines:
        message = f"{source}: look twice: {'; '.join(lines)}; see {paths.record.name}"
        warn(FlagWarning(message), stacklevel=2)
    return paths


def find_evidence(
    label_map: LabelArray,
    volume: Volume,
    table: Sequence[Label],
    notes: Notes,
    references: Mapping[int, Reference] | None = None,
) -> Evidence:
    """Return what flags of a label map are judged by, the volumes of its structures among it."""
    soft = None if notes.maps is None else notes.maps.volumes(table, volume.affine)
    quality = notes.quality.by_code() if notes.quality else None
    rows = structure_volumes(label_map, volume.affine, table, references, notes.confidence, soft, quality)
    found = (notes.dropped_mm3(), notes.apart_mm3(), references or {}, volume.grid.source)
    return Evidence(volume.data, label_map, volume.affine, table, rows, *found)


def without_folder(message: Warning | str, volume: Volume) -> str:
    """Return what a warning says, without the folder that the scan lies in."""
    return " ".join(str(message).replace(str(volume.path), volume.path.name).split())


class SaveOutputsd(MapTransform):
    """Write the outputs of a restored label map, see ``save_outputs``.

    ``maker`` is what the records say of the network; it stays unknown unless ``name_maker`` or somebody else sets it.

    Args:
        keys: label maps of codes, shape of the file that was read.
        image_key: the image, a ``MetaTensor`` that knows its file.
        output_dir: folder of the outputs.
        label_table: path of the label table.
        overwrite: replace existing files.
        flags: path of the thresholds of flags, see ``bundle.results.flags``; ``None`` looks for none.
        flags_left_out: codes of flags that are not looked for all the same.
        reference_volumes: path of the volumes that are usual, see ``bundle.results.reference``; ``None`` compares with
            none.
    """

    @renamed_keywords(labels="label_table")
    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        image_key: str = "image",
        label_table: str | Path = DEFAULT_TABLE,
        overwrite: bool = False,
        flags: str | Path | None = DEFAULT_LIMITS,
        reference_volumes: str | Path | None = DEFAULT_REFERENCES,
        flags_left_out: Sequence[str] = (),
    ) -> None:
        super().__init__(keys)
        self.output_dir = output_dir
        self.image_key = image_key
        self.table = read_labels(label_table)
        self.overwrite = overwrite
        self.maker = Maker()
        self.limits = {} if flags is None else read_limits(flags, flags_left_out)
        self.references = {} if reference_volumes is None else read_references(reference_volumes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write and pass the data on."""
        result = dict(data)
        meta = result[self.image_key].meta
        source, reading = meta["filename_or_obj"], reading_of(meta)
        for key in self.key_iterator(result):
            given = (self.overwrite, self.notes(result, key), self.limits, reading, self.references)
            save_outputs(np.asarray(result[key]), source, self.output_dir, self.table, *given)
        return result

    def notes(self, result: Mapping[Hashable, Any], key: Hashable) -> Notes:
        """Return what a record says of how a label map was made; what comes after is the stage of writing."""
        image = result[self.image_key]
        stages = result.get(STAGES_KEY)
        if stages is not None and stages.content["restore"]["seconds"] is None:
            stages.end("restore")
        dropped, apart, confidence = (result.get(name(key)) for name in (dropped_key, apart_key, confidence_key))
        found = (scale_of(image.meta), apart, confidence, result.get(soft_key(key)), result.get(quality_key(key)))
        return Notes(self.maker, dropped, image.affine, stages or Stages(), *found)


def name_maker(postprocessing: Compose, maker: Maker) -> None:
    """Tell what writes results what makes them, for the records.

    A config does so when it runs, lest whoever takes only its postprocessing would have to load its network.
    """
    for transform in postprocessing.transforms:
        if isinstance(transform, SaveOutputsd):
            transform.maker = maker


class SaveImageOutputsd(SaveOutputsd):
    """``SaveOutputsd`` as configs name it, for programs that know what writes by its name.

    MONAI Deploy leaves out every transform with ``SaveImage`` in the name of its class.
    """


# Programs that write results themselves, such as MONAI Label, leave out every transform that is a SaveImaged.
SaveImaged.register(SaveOutputsd)
