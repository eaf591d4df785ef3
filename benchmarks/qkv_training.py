"""Fused and separate QKV projections trained from the same seed: the largest difference of their loss curves.

``python -m benchmarks.qkv_training [--steps 200] [--label-maps DIR]``. All trainings run configs/train.json on small
windows with a smaller network; without ``--label-maps`` on one label map made here. Rounding grows in any training: the
last column trains the fused form twice, on one thread and on two, and shows how much of a difference is that.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import make_parser, met_or_missed, positive, silence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BAR = 1e-3
EDGE, SPACING_MM = 64, 3.0
# Radius, and the FreeSurfer codes of the left and right half: skin, fluid, cortex, white matter, thalamus.
SHELLS = ((0.95, 511, 511), (0.85, 24, 24), (0.8, 3, 42), (0.65, 2, 41), (0.2, 10, 49))
OPTIONS: dict[str, Any] = {
    "pixdim": [9.0] * 3,
    "window_mm": [[144] * 3, [144] * 3],
    "max_epochs": 1,
    "num_workers": 0,
    "precision": "float32",
    "network_def#channels": [8, 16, 32],
    "network_def#hidden_size": 96,
    "network_def#mlp_dim": 192,
    "network_def#num_layers": 2,
    "network_def#qkv_bias": True,
}
IN_FLOAT64 = {
    "network": "$@network_def.double()",
    "train#preprocessing": {"_target_": "CastToTyped", "keys": "image", "dtype": "$torch.float64"},
}


@dataclass(frozen=True)
class Setting:
    """The numbers that the network computes in, and the peak of the learning rate."""

    name: str
    learning_rate: float
    options: dict[str, Any]


SETTINGS = (
    Setting("float64", 1e-3, IN_FLOAT64),
    Setting("float32", 1e-4, {}),
    Setting("float32", 1e-3, {}),
)


def write_label_map(folder: Path) -> None:
    """Write a head of shells."""
    import nibabel as nib
    import numpy as np

    x, y, z = np.meshgrid(*[np.linspace(-1, 1, EDGE)] * 3, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    codes = np.zeros(radius.shape, dtype=np.int16)
    for limit, left, right in SHELLS:
        codes[(radius < limit) & (x < 0)] = left
        codes[(radius < limit) & (x >= 0)] = right
    nib.Nifti1Image(codes, np.diag([SPACING_MM] * 3 + [1])).to_filename(folder / "head.nii.gz")


def loss_curve(label_maps: str | Path, steps: int, setting: Setting, fused: bool, threads: int) -> NDArray[np.float64]:
    """Train through the config and return the loss of each step, shape (steps,)."""
    import numpy as np
    import torch
    from monai.bundle import ConfigWorkflow

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        chosen: dict[str, Any] = {
            "dataset_dir": str(label_maps),
            "output_dir": folder,
            "epoch_length": steps,
            "learning_rate": setting.learning_rate,
            "network_def#use_combined_linear": fused,
        }
        workflow = ConfigWorkflow(
            "configs/train.json", workflow_type="train", logging_file=False, **OPTIONS, **setting.options, **chosen
        )
        workflow.initialize()
        workflow.run()
        with (Path(folder) / "history.csv").open(encoding="utf-8", newline="") as file:
            return np.array([float(row["loss"]) for row in csv.DictReader(file)])


def compare_forms(label_maps: str | Path, steps: int, setting: Setting) -> str:
    """Train the fused form, the separate one, and the fused one on two threads; return a row of the table."""
    fused, separate, control = (
        loss_curve(label_maps, steps, setting, *form) for form in ((True, 1), (False, 1), (True, 2))
    )
    difference, rounding = abs(fused - separate).max(), abs(fused - control).max()
    return (
        f"{setting.name:9}{setting.learning_rate:8.0e}{fused[0]:8.3f}{fused[-1]:8.3f}"
        f"{difference:21.1e}{rounding:18.1e}  {met_or_missed(difference < BAR)}"
    )


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=positive, default=200)
    parser.add_argument("--label-maps", help="folder of NIfTI files with FreeSurfer codes")
    return parser.parse_args()


def main() -> None:
    """Print a row for each setting."""
    options = parse_arguments()
    silence()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        maps = options.label_maps or name
        if options.label_maps is None:
            write_label_map(Path(name))
        rows = [compare_forms(maps, options.steps, setting) for setting in SETTINGS]
    print(f"largest difference of the loss over {options.steps} steps, bar {BAR:.0e}")
    print(f"{'network':9}{'rate':>8}{'first':>8}{'last':>8}{'fused to separate':>21}{'1 to 2 threads':>18}")
    print(*rows, f"{time.perf_counter() - started:.0f} s", sep="\n")


if __name__ == "__main__":
    main()
