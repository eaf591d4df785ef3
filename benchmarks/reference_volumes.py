"""Write the table of reference volumes: size and place of each structure in label maps of whole heads.

``python -m benchmarks.reference_volumes LABEL_MAPS [--output FILE] [--overwrite]``. LABEL_MAPS is a folder of NIfTI
label maps in FreeSurfer codes. Codes are merged as training merges them (``configs/tissues.tsv``), volumes and the
intracranial volume are those of the bundle's own tables. Both sides of a pair count as samples of one structure.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import ROOT, make_parser

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bundle.results.reference import Reference

OUTPUT = ROOT / "configs" / "reference_volumes.tsv"


def measure_head(path: str | Path) -> tuple[dict[int, float], dict[int, NDArray[Any]]]:
    """Return share of the intracranial volume and centre (mm, RAS+) of each structure of a label map, by code."""
    import numpy as np
    from nibabel.affines import apply_affine
    from scipy.ndimage import center_of_mass

    from bundle.io.label_map import read_label_map
    from bundle.labels import read_labels
    from bundle.results import structure_volumes
    from bundle.synthesis.tissues import read_tissues

    table, tissues = read_labels(), read_tissues()
    known = {label.code for label in table}
    label_map = read_label_map(path)
    merged = np.zeros(int(label_map.codes.max()) + 1, dtype=np.int16)
    for code in np.flatnonzero(np.bincount(label_map.codes.ravel())).tolist():
        merged[code] = tissues[code].part_of if tissues[code].part_of in known else 0
    codes = merged[label_map.codes]
    rows = [row for row in structure_volumes(codes, label_map.grid.affine, table) if row.fraction]
    order = [row.code for row in rows]
    coarse = codes[::2, ::2, ::2]  # an eighth of the voxels gives the same centres in a tenth of the time
    places = 2 * np.array(center_of_mass(coarse > 0, coarse, order))
    centres = apply_affine(label_map.grid.affine, places)
    return {row.code: row.fraction or 0.0 for row in rows}, dict(zip(order, centres, strict=True))


def mean_layout(heads: Sequence[dict[int, NDArray[Any]]], codes: Sequence[int]) -> NDArray[Any]:
    """Return the mean places of structures, each head shifted, turned and scaled onto the mean, shape (codes, 3)."""
    import numpy as np

    from bundle.results.layout import fit_places

    places = [np.stack([head[code] for code in codes]) for head in heads]
    centred = [head - head.mean(axis=0) for head in places]
    mean = np.mean(centred, axis=0)
    size = np.mean([np.linalg.norm(head) for head in centred])
    for _ in range(5):
        mean = np.mean([fit_places(head, mean).places for head in places], axis=0)
        mean *= size / np.linalg.norm(mean)
    return np.asarray(mean)


def references(heads: Sequence[tuple[dict[int, float], dict[int, NDArray[Any]]]], source: str) -> list[Reference]:
    """Return the reference of each structure from several heads; both sides of a pair share their volumes."""
    import numpy as np

    from bundle.labels import read_labels, side_partners
    from bundle.results.reference import Reference

    table = read_labels()
    codes = [label.code for label in table[1:]]
    found = []
    layout = mean_layout([centres for _, centres in heads], codes)
    for label, partner, place in zip(table[1:], side_partners(table)[1:], layout, strict=True):
        pair = sorted({label.code, table[partner].code})
        values = np.array([fractions[code] for code in pair for fractions, _ in heads if code in fractions])
        (mean, sd), (log_mean, log_sd) = (
            (float(samples.mean()), float(samples.std(ddof=1))) for samples in (values, np.log(values))
        )
        x, y, z = (float(part) for part in place)
        numbers = (mean, sd, log_mean, log_sd, (x, y, z))
        found.append(Reference(label.code, label.name, len(heads), *numbers, source))
    return found


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("label_maps")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--source", default="20 label maps of SynthSeg's training (Apache-2.0)")
    return parser.parse_args()


def main() -> None:
    """Measure the label maps and write the table."""
    options = parse_arguments()
    from tqdm import tqdm

    from bundle.results.reference import write_references
    from bundle.synthesis import find_label_maps

    heads = [measure_head(path) for path in tqdm(find_label_maps(options.label_maps), unit="map", disable=None)]
    write_references(references(heads, options.source), options.output, options.overwrite)
    print(options.output)


if __name__ == "__main__":
    main()
