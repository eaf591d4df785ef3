"""Draw a contact sheet of synthetic samples, as training sees them.

``python -m scripts.draw_samples LABEL_MAPS sheet.png [--config configs/train.json] [--count 12] [--options '{...}']``

With ``--config`` voxel size, largest window, seed and options are those of a training; what is given goes first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from scripts.command import make_parser, read_value, run_program


def ranges(text: str) -> dict[str, Any]:
    """Return the ranges that a text holds, for argparse."""
    found = read_value(text)
    if not isinstance(found, dict):
        raise ValueError(f"found {text!r}; an object is wanted")
    return found


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("draw_samples", __doc__)
    parser.add_argument("label_maps", help="folder with NIfTI label maps in FreeSurfer codes")
    parser.add_argument("--brains", help="folder of brain-only label maps: half of the samples are drawn from them")
    parser.add_argument("sheet", type=Path, help="PNG to write")
    parser.add_argument("--config", action="append", metavar="FILE", help="config of a training, and overlays over it")
    parser.add_argument("--spacing", type=float, help="edge of a voxel in mm (default: 1.5)")
    parser.add_argument("--window", type=float, nargs=3, help="mm along X, Y and Z (default: 180 220 180)")
    parser.add_argument("--count", type=int, default=12, help="number of samples")
    parser.add_argument("--seed", type=int, help="default: 0")
    parser.add_argument("--options", type=ranges, help="ranges of the random steps, in braces, as in a config")
    parser.add_argument("--overwrite", action="store_true")
    return parser.parse_args(arguments)


def complete(options: argparse.Namespace) -> None:
    """Set what the command line leaves open to what the config of a training says, or to this program's own.

    Raises:
        MissingError: when a config is not there.
    """
    from bundle.errors import MissingError

    own: dict[str, Any] = {"spacing": 1.5, "window": [180, 220, 180], "seed": 0, "options": {}}
    if options.config:
        from monai.bundle import ConfigParser

        for path in options.config:
            if not Path(path).is_file():
                raise MissingError(path, "no such file", "the config of a training is wanted")
        parser = ConfigParser(ConfigParser.load_config_files(options.config))
        names = {"spacing": "pixdim", "window": "window_mm", "seed": "seed", "options": "train#dataset#options"}
        found = {name: parser.get_parsed_content(id_) for name, id_ in names.items()}
        own = {**found, "spacing": found["spacing"][0], "window": found["window"][1]}
    for name, value in own.items():
        if getattr(options, name) is None:
            setattr(options, name, value)


def run(options: argparse.Namespace) -> int:
    """Draw and write the sheet; return 0."""
    from tqdm import tqdm

    from bundle.io.whole import refuse_existing
    from bundle.labels import read_labels
    from bundle.synthesis import SyntheticBrainDataset, find_label_maps
    from bundle.synthesis.contact_sheet import draw_contact_sheet

    complete(options)
    if not options.overwrite:
        refuse_existing([options.sheet])
    maps = find_label_maps(options.label_maps)
    window = [options.window, options.window]
    brains = {"data": find_label_maps(options.brains)} if options.brains else None
    dataset = SyntheticBrainDataset(
        maps, options.spacing, window, options.count, options.seed, options=options.options, brains=brains
    )
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
