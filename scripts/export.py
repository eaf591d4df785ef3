"""Export the network for other runtimes: ``python -m scripts.export [--forms onnx openvino ...]``.

Writes model.ts (TorchScript with its transforms and metadata), model.xml and .bin (OpenVINO), model.pt2 (torch.export),
model.onnx and, where a C++ compiler is present, model_aoti.pt2 (AOTInductor), each with a JSON sidecar, into the folder
of the model (``--model``; the brain's by default). They carry that model's codes, names, voxel size and metadata. A
form whose logits or labels on a real scan are not those of the network is not written.
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
    from bundle.model import Model

LONGEST = "aotinductor"
CROP = (72, 81, 64)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("export", __doc__)
    parser.add_argument("--model", metavar="FOLDER", help="folder of a model, or its zip (default: models, the brain)")
    parser.add_argument("--checkpoint", metavar="FILE", help="other weights (default: its own)")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="default: the model's folder")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS, help="default: all of them")
    parser.add_argument(
        "--scans",
        nargs="+",
        metavar="SCAN",
        help="check on these (a whole head model: nilearn's MNI152 T1)",
    )
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


def make_exporter(options: argparse.Namespace) -> tuple[Exporter, Model, list[float]]:
    """Return what exports the network of the config, its model, and the voxel size that it works at.

    Raises:
        WeightsError: when the checkpoint cannot be used.
        InputError: when a scan cannot (inside MONAI's ``RuntimeError``).
    """
    from monai.bundle import ConfigParser

    from bundle.errors import OptionError
    from bundle.export import Exporter, read_json
    from bundle.export.contents import deploy_config, metadata_of, sidecar_facts
    from bundle.io import load_weights
    from bundle.labels import read_labels
    from bundle.model import Ensemble

    parser = ConfigParser()
    parser.read_config(options.config or [str(ROOT / "configs" / "inference.json")])
    parser["bundle_root"] = str(ROOT)
    for name in ("model", "checkpoint"):
        if getattr(options, name):
            parser[name] = Path(getattr(options, name))  # a string could be an expression of MONAI's
    model = parser.get_parsed_content("described")
    if isinstance(model, Ensemble):
        raise OptionError("model", f"found {len(model.members)} models", "one is wanted: each is exported by itself")
    if not options.scans and model.foreground_crop is None:
        found = f"none, and the model {model.task} is not for whole heads, as the sample is"
        raise OptionError("scans", found, "a scan of its own kind is wanted, which the exports are checked on")
    checkpoint, pixdim = (parser.get_parsed_content(name) for name in ("checkpoint", "pixdim"))
    parser.get_parsed_content("model_record")  # warns of another voxel size, refuses other codes
    table = read_labels(parser.get_parsed_content("label_table"))
    base = [read_json(ROOT / "configs" / name) for name in ("metadata.json", "deploy.json")]
    exporter = Exporter(
        load_weights(parser.get_parsed_content("network_def"), checkpoint),
        prepare_images(parser.get_parsed_content("preprocessing"), options.scans),
        checkpoint,
        metadata_of(base[0], model, table),
        deploy_config(base[1], model, pixdim, table),
        [label.code for label in table],
        pixdim,
        sidecar_facts(model, table),
    )
    return exporter, model, pixdim


def output_folder(options: argparse.Namespace, model: Model) -> Path:
    """Return where the files go: where the command line says, else into the model's folder.

    Raises:
        OptionError: when the model has no folder to write to.
        ExistsError: when the folder is another model's.
    """
    from bundle.errors import OptionError
    from bundle.export.contents import refuse_another

    if options.output_dir is None and (not model.own or (options.model and not Path(options.model).is_dir())):
        found = "found no folder of the model" if model.own else "found weights that lie in no model's folder"
        raise OptionError("--output-dir", found, "a folder for the exported files is wanted")
    folder = Path(options.output_dir or model.folder)
    refuse_another(model, folder)
    return folder


def run(options: argparse.Namespace) -> int:
    """Export the forms and return the number of those that failed."""
    from bundle.errors import BundleError
    from bundle.export.contents import describe_beside

    exporter, model, pixdim = make_exporter(options)
    folder = output_folder(options, model)
    failed = 0
    for form in options.forms:
        print(f"{form} ...", end=" ", flush=True)
        started = time.perf_counter()
        try:
            made = exporter.export(form, folder, options.overwrite)
            describe_beside(model, folder, pixdim)
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
