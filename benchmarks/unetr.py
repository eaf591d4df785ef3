"""UNETR-B on 96 x 96 x 96 voxels: this project's network beside MONAI's, same weights.

``python -m benchmarks.unetr [--rounds N] [--bfloat16]``. Each round runs every form once. The
logits must agree before anything is timed. Prints seconds, the ratios to MONAI's and the bar.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.measure import make_parser, met_or_missed, positive, time_rounds

if TYPE_CHECKING:
    from torch import Tensor

SIZE, PATCH_SIZE = (96, 96, 96), 16
OUT_CHANNELS = 14  # the organs of BTCV and background, as in the paper
BASE: dict[str, Any] = {"feature_size": 16, "hidden_size": 768, "mlp_dim": 3072, "num_heads": 12}  # MONAI's defaults
TOLERANCE = 1e-4
BAR = 0.95
DEFAULT, EAGER, MONAI = "ours (default)", "ours, eager kernel", "MONAI"
Run = Callable[["Tensor"], "Tensor"]


def build_forms() -> dict[str, Run]:
    """Return the networks by name, all with MONAI's weights."""
    import torch
    from monai.networks.nets.unetr import UNETR as MonaiUNETR

    from networks import UNETR

    torch.manual_seed(0)
    monai = MonaiUNETR(1, OUT_CHANNELS, SIZE, **BASE).eval()
    forms: dict[str, Run] = {}
    for name, flash in ((DEFAULT, True), (EAGER, False)):
        network = UNETR(1, OUT_CHANNELS, SIZE, patch_size=PATCH_SIZE, use_flash_attention=flash, **BASE)
        network.load_state_dict(monai.state_dict())
        forms[name] = network.eval()
    return {**forms, MONAI: monai}


def largest_difference(forms: dict[str, Run], image: Tensor) -> float:
    """Return the largest difference of any form's logits from MONAI's; it also warms up."""
    expected = forms[MONAI](image)
    return max(float((run(image) - expected).abs().max()) for run in forms.values())


def compare(forms: dict[str, Run], image: Tensor, rounds: int, bfloat16: bool) -> None:
    """Print a table for one number format."""
    import torch

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        difference = largest_difference(forms, image)
        if not bfloat16 and difference >= TOLERANCE:
            raise SystemExit(f"error: logits differ by {difference:.1e}, wanted less than {TOLERANCE:.0e}")
        seconds = time_rounds({name: partial(run, image) for name, run in forms.items()}, rounds)
    typical = {name: median(times) for name, times in seconds.items()}
    print(f"\n{'bfloat16 autocast' if bfloat16 else 'float32'}, {rounds} rounds, "
          f"largest difference of logits {difference:.1e}")  # fmt: skip
    print(f"{'':22}{'min s':>8}{'median s':>10}{'MONAI / it':>12}")
    for name, times in seconds.items():
        print(f"{name:22}{min(times):8.3f}{typical[name]:10.3f}{typical[MONAI] / typical[name]:12.2f}")
    ratio = typical[MONAI] / typical[DEFAULT]  # of medians: on a shared machine, the fastest round is luck
    print(f"MONAI / our default {ratio:.2f}, bar {BAR} {met_or_missed(ratio >= BAR)}", flush=True)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=positive, default=8)
    parser.add_argument("--bfloat16", action="store_true", help="run under bfloat16 autocast too")
    return parser.parse_args()


def main() -> None:
    """Build the networks and compare them in each format."""
    options = parse_arguments()
    import torch

    forms, image = build_forms(), torch.randn(1, 1, *SIZE)
    print(f"image {'x'.join(map(str, SIZE))}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for bfloat16 in (False, True) if options.bfloat16 else (False,):
        compare(forms, image, options.rounds, bfloat16)


if __name__ == "__main__":
    main()
