"""A training step on a GPU: forward pass, loss and backward pass kernel by kernel, and replayed as a CUDA graph.

``python -m benchmarks.gpu_step [--window X Y Z ...] [--steps N]``. The brain network and the loss of
configs/gpu_train.json in bfloat16, windows of noise that lie on the GPU already, MONAI's trainer with the checks, the
clipping and the average of a training. Prints the median milliseconds of the last half of the steps, and how many times
longer a step is kernel by kernel.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from benchmarks.measure import make_parser, positive, silence
from bundle.errors import OptionError

if TYPE_CHECKING:
    from bundle.training import RecordedStep

WINDOWS = ((128, 160, 128), (152, 184, 152), (176, 208, 176))
"""Those of configs/gpu_train.json at 1 mm."""


def parts() -> dict[str, Any]:
    """Return network, optimizer, loss and inferer of a training on the GPU."""
    import torch
    from monai.inferers import SimpleInferer

    from bundle.training import FusedDiceCELoss, MixedPrecisionInferer, allow_fast_convolutions, compile_group_norm
    from networks import TransformerUNet

    allow_fast_convolutions()
    plain: Any = TransformerUNet(attention="pooled")
    network = compile_group_norm(plain.to("cuda", memory_format=torch.channels_last_3d))
    return {
        "network": network,
        "optimizer": torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True),
        "loss_function": FusedDiceCELoss(torch.ones(33, device="cuda")),
        "inferer": MixedPrecisionInferer(SimpleInferer(), "bfloat16", "cuda"),
    }


def step_seconds(window: Sequence[int], steps: int, given: dict[str, Any], step: RecordedStep) -> list[float]:
    """Train for some steps on one window and return the seconds of each but the first."""
    import torch
    from ignite.engine import Events
    from monai.engines import SupervisedTrainer

    from bundle.training import AveragedWeights, FiniteLoss, GradientClipping

    sample = {
        "image": torch.rand(1, 1, *window, device="cuda"),
        "label": torch.randint(0, 33, (1, 1, *window), device="cuda", dtype=torch.uint8),
    }
    trainer = SupervisedTrainer(
        device=torch.device("cuda"),
        max_epochs=1,
        train_data_loader=[sample] * steps,
        iteration_update=step,
        train_handlers=[FiniteLoss(), GradientClipping(1.0), AveragedWeights(given["network"], 0.999)],
        **given,
    )
    ends: list[float] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: ends.append(time.perf_counter()))
    trainer.run()  # each step waits for the GPU: its loss is looked at
    return [later - earlier for earlier, later in pairwise(ends)]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    voxels: dict[str, Any] = {"type": positive, "nargs": 3, "action": "append", "metavar": ("X", "Y", "Z")}
    parser.add_argument("--window", **voxels, help="voxels of a window (default: those of configs/gpu_train.json)")
    parser.add_argument("--steps", type=positive, default=20)
    return parser.parse_args()


def main() -> None:
    """Time both ways and print a line for each window."""
    options = parse_arguments()
    silence()
    import torch

    from bundle.training import RecordedStep

    if not torch.cuda.is_available():
        raise OptionError("gpu_step", "found no CUDA GPU", "a machine with one is wanted")
    given, recorded = parts(), RecordedStep()
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}; ms a step")
    print(f"{'window':16s} {'by kernel':>10s} {'recorded':>10s} {'ratio':>7s}")
    for window in options.window or WINDOWS:
        eager, replayed = (
            1000 * statistics.median(step_seconds(window, options.steps, given, step)[options.steps // 2 :])
            for step in (RecordedStep(enabled=False), recorded)
        )
        print(f"{' x '.join(map(str, window)):16s} {eager:10.1f} {replayed:10.1f} {eager / replayed:7.2f}", flush=True)


if __name__ == "__main__":
    main()
