"""Write names and colours for viewers: ``python -m scripts.labels [--model FOLDER] [--output-dir DIR]``.

labels.ctbl is a colour table of 3D Slicer, labels_lut.txt one of FreeSurfer (FreeView), labels_itksnap.txt ITK-SNAP's
label descriptions, labels_terminology.json a terminology of 3D Slicer.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scripts.command import ROOT, make_parser, run_program


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("labels", __doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", type=Path, metavar="FOLDER", help="folder of a model, or a zip of one")
    which.add_argument(
        "--label-table", type=Path, default=ROOT / "configs" / "labels.tsv", help="label table (default: the brain's)"
    )
    parser.add_argument("--output-dir", type=Path, default=Path(), metavar="DIR", help="where to (default: here)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Write the files and print their names."""
    from bundle.io.label_files import write_label_files
    from bundle.labels import read_labels
    from bundle.model import read_model

    path = options.label_table if options.model is None else read_model(options.model).label_table
    for written in write_label_files(read_labels(path), options.output_dir, overwrite=options.overwrite):
        print(written)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
