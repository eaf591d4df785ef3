"""Draw a contact sheet of synthetic samples, as training sees them.

``python -m scripts.draw_samples LABEL_MAPS sheet.png [--spacing 1.5] [--count 12] [--seed 0] [--options '{...}']``
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from scripts.command import make_parser, run_program


def json_object(text: str) -> dict[str, Any]:
    """Return the object that a JSON text holds, for argparse."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"found {text!r}; an object is wanted")
    return found


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("draw_samples", __doc__)
    parser.add_argument("label_maps", help="folder with NIfTI label maps in FreeSurfer codes")
    parser.add_argument("sheet", type=Path, help="PNG to write")
    parser.add_argument("--spacing", type=float, default=1.5, help="edge of a voxel in mm")
    parser.add_argument("--window", type=float, nargs=3, default=[180, 220, 180], help="mm along X, Y and Z")
    parser.add_argument("--count", type=int, default=12, help="number of samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", type=json_object, default={}, help="ranges of the random steps, as a JSON object")
    parser.add_argument("--overwrite", action="store_true")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Draw and write the sheet; return 0."""
    from tqdm import tqdm

    from bundle.io.whole import refuse_existing
    from bundle.labels import read_labels
    from bundle.synthesis import SyntheticBrainDataset, find_label_maps
    from bundle.synthesis.contact_sheet import draw_contact_sheet

    if not options.overwrite:
        refuse_existing([options.sheet])
    maps = find_label_maps(options.label_maps)
    window = [options.window, options.window]
    dataset = SyntheticBrainDataset(maps, options.spacing, window, options.count, options.seed, options=options.options)
    samples = [
        (sample["image"][0].numpy(), sample["label"][0].numpy())
        for sample in (dataset[index] for index in tqdm(range(options.count), unit="sample", disable=None))
    ]
    title = f"{options.count} synthetic samples at {options.spacing:g} mm, seed {options.seed}"
    draw_contact_sheet(samples, read_labels(), options.sheet, title, options.overwrite)
    print(options.sheet)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
