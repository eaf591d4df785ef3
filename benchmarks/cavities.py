"""What a cavity full of fluid does to the structures around it: Dice outside it to the scan without it, and flags.

``python -m benchmarks.cavities [DATASET_DIR] [--places N] [--seed N] [--pixdim MM] [--json FILE]``: the MNI152 T1 at
1 mm and every NAME_T1.nii.gz of DATASET_DIR, N places in each, every second one touching the ventricles. Radius (10 to
35 mm), place, filling (from the ventricles' darkest voxels to 0.12 of the brightest tissue) and edge (sharp to 4 mm)
are drawn from the seed. Each cavity is segmented three times from the same logits: every piece kept (what the network
says), the largest of each structure alone, and the bundle's rule.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import make_parser, met_or_missed, positive, sample_scan, silence, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bundle.inference.segmenter import Segmenter

RADII = (10, 15, 20, 25, 30, 35)  # mm
EDGES = (0.0, 2.0, 4.0)  # mm
BAR = 0.9
SMALLEST_MM3 = 500.0
"""What is left of a structure outside the cavity has to be that large to be scored."""
RULES = ("network", "largest", "likely")
"""All pieces; the largest of each structure; those that are likely the structure."""


@dataclass(frozen=True)
class Cavity:
    """A ball of fluid.

    Attributes:
        centre: world coordinates, mm.
        radius: mm.
        edge: width of its border, mm; 0 is sharp.
        filling: intensity.
    """

    centre: tuple[float, float, float]
    radius: float
    edge: float
    filling: float

    def distance(self, shape: Sequence[int], affine: NDArray[Any]) -> NDArray[Any]:
        """Return how far each voxel lies from the centre, mm, shape (X, Y, Z)."""
        import numpy as np

        start = affine[:3, 3] - np.array(self.centre)
        x, y, z = np.ogrid[tuple(slice(length) for length in shape)]
        squares = ((row[0] * x + row[1] * y + row[2] * z + first) ** 2
                   for row, first in zip(affine[:3, :3], start, strict=True))  # fmt: skip
        return np.asarray(np.sqrt(sum(squares)))

    def fill(self, image: NDArray[Any], affine: NDArray[Any], head: float) -> NDArray[Any]:
        """Return the image with the cavity where it is brighter than ``head``."""
        import numpy as np

        beyond = self.distance(image.shape, affine) - self.radius
        inside = 1 / (1 + np.exp(np.clip(4 * beyond / self.edge, -50, 50))) if self.edge else beyond <= 0
        return np.asarray(np.where(image > head, image + inside * (self.filling - image), image), dtype=np.float32)

    def outside(self, shape: Sequence[int], affine: NDArray[Any]) -> NDArray[np.bool_]:
        """Return the voxels that the cavity leaves as they were."""
        return self.distance(shape, affine) > self.radius + self.edge


@dataclass(frozen=True)
class Outcome:
    """One cavity in one scan.

    Attributes:
        scan: name of the scan.
        cavity: what was put into it.
        ventricles: lowest Dice of a ventricle outside the cavity by rule.
        others: lowest Dice of another structure.
        volumes: volume of the lateral ventricles over that without the cavity by rule.
        flags: codes of the flags under the bundle's rule.
    """

    scan: str
    cavity: Cavity
    ventricles: dict[str, float]
    others: dict[str, float]
    volumes: dict[str, float]
    flags: list[str]


def draw_cavities(
    image: NDArray[Any], affine: NDArray[Any], codes: NDArray[Any], places: int, seed: int
) -> Iterator[Cavity]:
    """Yield cavities in a scan whose structures are known; every second one touches the ventricles."""
    import numpy as np
    from nibabel.affines import apply_affine, voxel_sizes
    from scipy.ndimage import distance_transform_edt

    rng = np.random.default_rng(seed)
    ventricles = np.isin(codes, ventricle_codes())
    away = distance_transform_edt(~ventricles, sampling=voxel_sizes(affine))
    dark, bright = np.percentile(image[ventricles], 5), 0.12 * np.percentile(image[image > 0], 99.8)
    for place in range(places):
        radius = float(rng.choice(RADII))
        anywhere = (codes > 0) & ((np.abs(away - radius) < 4) | (place % 2 == 0))
        centre = apply_affine(affine, rng.choice(np.argwhere(anywhere)))
        filling = dark + rng.uniform() * (bright - dark)
        yield Cavity(tuple(centre.round(1).tolist()), radius, float(rng.choice(EDGES)), float(filling))


def ventricle_codes() -> list[int]:
    """Return the codes of the ventricles that are of one piece."""
    from bundle.labels import read_labels
    from bundle.results.totals import VENTRICLES

    return [label.code for label in read_labels() if label.region == VENTRICLES and label.one_piece]


def segmented(segmenter: Segmenter, scan: Path, rules: Sequence[str]) -> Iterator[tuple[NDArray[Any], list[str]]]:
    """Yield the label map of a scan and the codes of its flags under each rule."""
    from unittest.mock import patch

    from bundle.inference import KeepLargestComponentsd, RestoreLabelMapd, components
    from bundle.io import read_volume
    from bundle.labels import read_labels
    from bundle.results import structure_volumes
    from bundle.results.evidence import Evidence
    from bundle.results.flags import find_flags, read_limits
    from bundle.results.record import Notes

    data, table, volume = segmenter.preprocessing({"image": str(scan)}), read_labels(), read_volume(scan)
    logits = segmenter.logits(data)
    one_piece = [label.code for label in table if label.channel and label.one_piece]
    for rule in rules:
        keep = KeepLargestComponentsd("pred", [] if rule == "network" else one_piece)
        small, rival = (1e9, 1.0) if rule == "largest" else (components.SMALL, components.RIVAL)
        with patch.object(components, "SMALL", small), patch.object(components, "RIVAL", rival):
            result = RestoreLabelMapd("pred")(keep({"image": data["image"], "pred": logits.clone()}))
        notes = Notes(dropped=result["pred_dropped"], apart=result["pred_apart"], network_affine=data["image"].affine)
        rows = structure_volumes(result["pred"], volume.affine, table)
        found = (volume.data, result["pred"], volume.affine, table, rows, notes.dropped_mm3(), notes.apart_mm3())
        yield result["pred"], sorted({flag.code for flag in find_flags(Evidence(*found), read_limits())})


def lowest_dice(found: NDArray[Any], expected: NDArray[Any], codes: Sequence[int], voxel_mm3: float) -> float:
    """Return the lowest Dice of the structures that are large enough to be scored; NaN without any."""
    import numpy as np

    from benchmarks.overlap import dice_by_code

    large = [code for code in codes if (expected == code).sum() * voxel_mm3 >= SMALLEST_MM3]
    return float(np.min(dice_by_code(found, expected, large))) if large else float("nan")


def try_scan(segmenter: Segmenter, path: str, places: int, seed: int, folder: Path) -> Iterator[Outcome]:
    """Yield the outcome of each cavity in a scan."""
    import nibabel as nib
    import numpy as np

    from bundle.labels import read_labels

    scan: Any = nib.load(path)
    image, affine, ventricles = scan.get_fdata(dtype=np.float32), scan.affine, ventricle_codes()
    others = [label.code for label in read_labels()[1:] if label.one_piece and label.code not in ventricles]
    lateral = [label.code for label in read_labels() if label.name_without_side == "Lateral-Ventricle"]
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    ((sound, _),) = segmented(segmenter, Path(path), RULES[-1:])
    for cavity in draw_cavities(image, affine, sound, places, seed):
        filled = nib.Nifti1Image(cavity.fill(image, affine, 0.03 * float(np.percentile(image, 99.8))), affine)
        filled.header.set_xyzt_units("mm")
        filled.to_filename(folder / "scan.nii")
        outside = cavity.outside(image.shape, affine)
        results = dict(zip(RULES, segmented(segmenter, folder / "scan.nii", RULES), strict=True))
        inner, outer = (
            {
                rule: lowest_dice(codes[outside], sound[outside], scored, voxel_mm3)
                for rule, (codes, _) in results.items()
            }
            for scored in (ventricles, others)
        )
        size = np.isin(sound, lateral).sum()
        volumes = {rule: float(np.isin(codes, lateral).sum() / size) for rule, (codes, _) in results.items()}
        yield Outcome(Path(path).name.split(".")[0], cavity, inner, outer, volumes, results["likely"][1])


def print_outcome(outcome: Outcome) -> None:
    """Print the row of a cavity."""
    cavity = outcome.cavity
    place = " ".join(f"{value:.0f}" for value in cavity.centre)
    columns = [outcome.ventricles, outcome.others, outcome.volumes]
    values = "  ".join(" ".join(f"{column[rule]:5.2f}" for rule in RULES) for column in columns)
    start = f"{outcome.scan:12}{cavity.radius:4.0f}  {place:16}{cavity.filling:8.3g}{cavity.edge:5.0f}"
    print(f"{start}  {values}  {', '.join(outcome.flags)}", flush=True)


def print_summary(outcomes: Sequence[Outcome]) -> None:
    """Print how many cavities meet the bar under each rule, and how many of those that break it are flagged."""
    for name in ("ventricles", "others"):
        for rule in RULES:
            values = [getattr(outcome, name)[rule] for outcome in outcomes]
            low = sum(value < BAR for value in values)
            print(f"{name}, {rule}: {low} of {len(values)} below {BAR}")
    unsaid = [outcome for outcome in outcomes if outcome.ventricles["likely"] < BAR and not outcome.flags]
    lost = [o for o in outcomes if o.ventricles["likely"] < BAR <= o.ventricles["network"]]
    print(f"ventricles that the network found and the rule lost: {len(lost)} {met_or_missed(not lost)}")
    print(f"ventricles below {BAR} without a flag: {len(unsaid)} {met_or_missed(not unsaid)}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("dataset_dir", nargs="?", type=Path)
    parser.add_argument("--places", type=positive, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pixdim", type=float, default=1.0)
    parser.add_argument("--json")
    return parser.parse_args()


def main() -> None:
    """Print a row for each cavity, then how many meet the bar."""
    options = parse_arguments()
    from bundle.inference.segmenter import Segmenter

    silence()
    three = " ".join(f"{rule[:5]:>5}" for rule in RULES)
    print(f"{'':47}{'ventricles':19}{'other structures':19}{'lateral volume':19}")
    print(f"{'scan':12}{'mm':>4}  {'centre':16}{'filling':>8}{'edge':>5}  {three}  {three}  {three}  flags")
    outcomes = []
    with sample_scan(None) as sample, tempfile.TemporaryDirectory() as folder:
        found = sorted(options.dataset_dir.glob("*_T1.nii.gz")) if options.dataset_dir else []
        segmenter = Segmenter(output_dir=folder, pixdim=[options.pixdim] * 3, precision="float32")
        for number, path in enumerate([sample, *map(str, found)]):
            for outcome in try_scan(segmenter, path, options.places, options.seed + 1000 * number, Path(folder)):
                print_outcome(outcome)
                outcomes.append(outcome)
    print_summary(outcomes)
    if options.json:
        write_json([asdict(outcome) for outcome in outcomes], options.json)


if __name__ == "__main__":
    main()
