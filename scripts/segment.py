"""Segment T1-weighted brain MRI: ``python -m scripts.segment INPUT [INPUT ...] --output-dir DIR``.

Each scan NAME.nii.gz gives DIR/NAME/NAME_seg.nii.gz (FreeSurfer codes on the scan's grid), NAME_volumes.tsv and
NAME_qc.png. A scan that cannot be used is reported in one line, the others are still done, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from pathlib import Path

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "inference.json"
# Those of bundle.inference and bundle.precision, which take seconds to import: --help must not.
ENGINES = ("auto", "torch", "torchscript", "onnxruntime", "openvino")
PRECISIONS = ("float32", "bfloat16", "auto")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.segment", description=__doc__.split("\n\n")[0])
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="NIfTI file, or a folder of them")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--device", help="torch device, such as cpu or cuda:0 (default: a GPU when there is one)")
    parser.add_argument("--engine", choices=ENGINES, help="what computes the network (default: auto)")
    parser.add_argument("--precision", choices=PRECISIONS, help="numbers it computes in (default: auto)")
    parser.add_argument(
        "--mirror-averaging",
        action="store_true",
        default=None,
        help="average with the mirror image: a little better, for twice the network's time",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    parser.add_argument("--assume-affine", action="store_true", help="accept files without an orientation")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights, or an exported model (default: models/model.pt)")
    parser.add_argument(
        "--config",
        action="append",
        metavar="FILE",
        help="inference config; given again, an overlay that goes over it (default: configs/inference.json)",
    )
    options = parser.parse_args(arguments)
    options.config = options.config or [str(CONFIG)]
    return options


def one_line(error: BaseException, path: str = "") -> str:
    """Return the reason that a user can act on, without the ``RuntimeError`` that MONAI puts around it."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    message = " ".join(str(error).split()) or type(error).__name__
    return message if str(path) in message else f"{path}: {message}"


def expand(inputs: list[str]) -> list[str]:
    """Replace folders by the scans in them and refuse two scans of one name."""
    from bundle.io import datalist_items, find_volumes

    paths = [path for entry in inputs for path in (find_volumes(entry) if os.path.isdir(entry) else [entry])]
    return [item["image"] for item in datalist_items(paths, ".")]


def run(options: argparse.Namespace) -> int:
    """Segment all inputs and return the number of those that failed."""
    from tqdm import tqdm

    from bundle.inference.segmenter import Segmenter

    overrides = {"output_dir": options.output_dir, "overwrite": options.overwrite}
    overrides |= {"assume_affine": options.assume_affine, "bundle_root": str(CONFIG.parents[1])}
    named = ("device", "checkpoint", "engine", "precision", "mirror_averaging")
    overrides |= {name: value for name in named if (value := getattr(options, name)) is not None}
    paths = expand(options.inputs)
    segmenter = Segmenter(options.config, **overrides)
    print(f"engine {segmenter.network.engine}, {segmenter.network.precision}")
    failed = 0
    with tqdm(paths, unit="scan", disable=None) as bar:
        for path in bar:
            bar.set_postfix_str(Path(path).name)
            started = time.perf_counter()
            try:
                outputs = segmenter.segment(path)
            except Exception as error:  # one bad scan must not stop the others
                failed += 1
                tqdm.write(f"error: {one_line(error, path)}", file=sys.stderr)
                continue
            seconds = time.perf_counter() - started
            tqdm.write(f"{outputs.label_map}  {outputs.volumes.name}  {outputs.picture.name}  {seconds:.1f} s")
    if len(paths) > 1:
        print(f"{len(paths) - failed} of {len(paths)} scans segmented")
    return failed


def show_warning(message: Warning | str, *_: object) -> None:
    """Print a warning in one line."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    options = parse_arguments(arguments)
    from bundle.errors import EngineWarning, GeometryWarning

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    for category in (EngineWarning, GeometryWarning):
        warnings.simplefilter("always", category)
    warnings.showwarning = show_warning
    try:
        return 1 if run(options) else 0
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
