"""Make a folder of label maps ready for training: one voxel size, cropped, small, with warps between them.

``python -m scripts.prepare_label_maps FOLDER [FOLDER ...] --output PREPARED [--spacing 1] [--warps]``

PREPARED then holds a folder of the same name for each FOLDER and, with ``--warps``, ``warps.pt``: how each anatomy of
the first folder lies to the others, from which a training leads one part of the way to another (docs/training.md).
What is there is kept, so that the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scripts.command import make_parser, run_program


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("prepare_label_maps", __doc__)
    parser.add_argument("folder", nargs="+", type=Path, help="folders with NIfTI label maps")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--spacing", type=float, default=1.0, help="edge of a voxel in mm (default: 1)")
    parser.add_argument("--warps", action="store_true", help="register those of the first folder: seconds for each")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Write the folders; return 0."""
    from tqdm import tqdm

    from bundle.errors import OptionError
    from bundle.io.packed import write_packed
    from bundle.labels import read_labels
    from bundle.synthesis import find_label_maps
    from bundle.synthesis.anatomy import load_label_maps
    from bundle.synthesis.resampling import resampled_codes
    from bundle.synthesis.warps import write_warps

    if not 0.3 <= options.spacing <= 5:
        raise OptionError("--spacing", f"found {options.spacing:g}", "0.3 to 5 mm is wanted")
    names = [folder.resolve().name for folder in options.folder]
    if len(set(names)) != len(names):
        raise OptionError("folder", "found two of the same name", "folders of different names are wanted")
    tasks = [(Path(path), options.output / name) for folder, name in zip(options.folder, names, strict=True)
             for path in find_label_maps(folder)]  # fmt: skip
    written = []
    for path, folder in tqdm(tasks, unit="map", disable=None):
        target = folder / f"{path.name.removesuffix('.gz').removesuffix('.nii')}.nii.gz"
        written.append(target)
        if not target.exists():
            write_packed(*resampled_codes(path, options.spacing), target)
    warps = options.output / "warps.pt"
    if options.warps and not warps.exists():
        heads = [path for path in written if path.parent.name == names[0]]
        write_warps(*load_label_maps(heads, read_labels()), warps)
    size = sum(path.stat().st_size for path in written)
    print(f"{options.output}: {len(written)} label maps at {options.spacing:g} mm, {size / 2**20:.1f} MiB")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
