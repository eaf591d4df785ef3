"""Export the network for other runtimes: ``python -m scripts.export [--forms onnx openvino ...]``.

Writes models/model.ts (TorchScript with its transforms and metadata), model.xml and .bin (OpenVINO), model.pt2
(torch.export), model.onnx and, where a C++ compiler is present, model_aoti.pt2 (AOTInductor), each with a JSON sidecar.
A form whose logits or labels on a real scan are not those of the network is not written.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.choices import FORMS
from scripts.command import ROOT, make_parser, print_error, run_program

if TYPE_CHECKING:
    from torch import Tensor

    from bundle.export import Exporter

LONGEST = "aotinductor"
CROP = (72, 81, 64)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("export", __doc__)
    parser.add_argument("--checkpoint", metavar="FILE", help="weights (default: models/model.pt)")
    parser.add_argument("--output-dir", default=ROOT / "models", type=Path, metavar="DIR", help="default: models")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS, help="default: all of them")
    parser.add_argument("--scans", nargs="+", metavar="SCAN", help="check on these (default: nilearn's MNI152 T1)")
    parser.add_argument(
        "--config",
        action="append",
        metavar="FILE",
        help="inference config and overlays (default: configs/inference.json)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files of an earlier export")
    return parser.parse_args(arguments)


def prepare_images(preprocessing: Any, scans: list[str] | None) -> dict[str, Tensor]:
    """Return each scan as the network sees it, and a batch of two crops of the first one.

    Args:
        preprocessing: MONAI transforms of an inference config.
        scans: paths; the sample volume when ``None``.

    Raises:
        InputError: when a scan cannot be used (inside MONAI's ``RuntimeError``).
    """
    import torch

    from scripts.sample_volume import write_sample_volume

    with tempfile.TemporaryDirectory() as folder:
        if not scans:
            scans = [str(Path(folder) / "mni152_t1.nii.gz")]
            write_sample_volume(Path(scans[0]))
        images = {Path(scan).name: preprocessing({"image": scan})["image"].as_tensor()[None] for scan in scans}
    name, image = next(iter(images.items()))
    size = [min(length, limit) for length, limit in zip(image.shape[2:], CROP, strict=True)]
    crops = [image[0][(slice(None), *(slice(start, start + n) for n in size))] for start in (0, 5)]
    if crops[0].shape == crops[1].shape:
        images[f"two crops of {name}"] = torch.stack(crops)
    return images


def make_exporter(options: argparse.Namespace) -> Exporter:
    """Return what exports the network of the config.

    Raises:
        WeightsError: when the checkpoint cannot be used.
        InputError: when a scan cannot (inside MONAI's ``RuntimeError``).
    """
    from monai.bundle import ConfigParser

    from bundle.export import Exporter, read_json
    from bundle.io import load_weights
    from bundle.labels import read_labels

    parser = ConfigParser()
    parser.read_config(options.config or [str(ROOT / "configs" / "inference.json")])
    parser["bundle_root"] = str(ROOT)
    if options.checkpoint:
        parser["checkpoint"] = options.checkpoint
    checkpoint = parser.get_parsed_content("checkpoint")
    return Exporter(
        load_weights(parser.get_parsed_content("network_def"), checkpoint),
        prepare_images(parser.get_parsed_content("preprocessing"), options.scans),
        checkpoint,
        read_json(ROOT / "configs" / "metadata.json"),
        read_json(ROOT / "configs" / "deploy.json"),
        [label.code for label in read_labels(parser.get_parsed_content("label_table"))],
        parser.get_parsed_content("pixdim"),
    )


def run(options: argparse.Namespace) -> int:
    """Export the forms and return the number of those that failed."""
    from bundle.errors import BundleError

    exporter = make_exporter(options)
    failed = 0
    for form in options.forms:
        print(f"{form} ...", end=" ", flush=True)
        started = time.perf_counter()
        try:
            made = exporter.export(form, options.output_dir, options.overwrite)
        except (BundleError, OSError) as error:
            failed += 1
            print("failed", flush=True)
            print_error(error)
            continue
        difference = max(row.logit_difference for row in made.parity)
        equal = min(row.equal_labels for row in made.parity)
        seconds = time.perf_counter() - started
        print(f"{made.path}  logits within {difference:.1e}, {equal:.4%} of labels equal, {seconds:.0f} s", flush=True)
    return failed


def run_beside(arguments: list[str], options: argparse.Namespace) -> int:
    """Export AOTInductor, most of whose time one core compiles, in a process beside that of the other forms.

    Args:
        arguments: the command line, for that process.
        options: what was parsed from it.

    Returns:
        The number of forms that failed.
    """
    command = [sys.executable, "-m", "scripts.export", *arguments, "--forms", LONGEST]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        options.forms = [form for form in options.forms if form != LONGEST]
        failed = run(options)
        print(process.communicate()[0], end="", flush=True)
    return failed + (process.returncode != 0)


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    beside = LONGEST in options.forms and len(set(options.forms)) > 1
    return run_program(partial(run_beside, arguments) if beside else run, options)


if __name__ == "__main__":
    sys.exit(main())
