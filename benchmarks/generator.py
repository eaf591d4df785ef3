"""Samples that the generator draws in a second, against the steps that a training takes in it.

``python -m benchmarks.generator LABEL_MAPS [--spacing 2 1.5] [--count 8] [--threads 1]``. The network's step runs on
the device that is there, the generator on the CPU and, where there is a GPU, on it too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median

from benchmarks.measure import CHECKPOINT, make_parser, positive, seconds_of

WINDOW_MM = (180, 220, 180)


def typical_seconds(action: Callable[[int], object], count: int) -> float:
    """Return the median seconds of one call, the GPU's work included, after one that is not counted."""
    import torch

    def run(index: int) -> None:
        action(index)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return median([seconds_of(partial(run, index)) for index in range(count + 1)][1:])


def training_step(size: tuple[int, int, int], device: str) -> Callable[[int], object]:
    """Return a step of the network that ships on a window of ``size`` voxels, in bfloat16 where it is not emulated."""
    import torch
    from monai.losses import DiceCELoss

    from bundle.machine import use_bfloat16
    from bundle.model import build_network, read_model

    bfloat16 = use_bfloat16("auto", device)
    network = build_network(read_model(CHECKPOINT.parent)).to(device)
    optimizer = torch.optim.AdamW(network.parameters())
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    image = torch.rand(1, 1, *size, device=device)
    label = torch.randint(0, 33, (1, 1, *size), device=device)

    def step(_: int) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            logits = network(image)
        loss(logits.float(), label).backward()
        optimizer.step()

    return step


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("label_maps")
    parser.add_argument("--spacing", type=float, nargs="+", default=[2.0, 1.5])
    parser.add_argument("--count", type=positive, default=8)
    parser.add_argument("--threads", type=positive, default=1, help="cores for the generator")
    return parser.parse_args()


def main() -> None:
    """Print one line for each spacing and device."""
    options = parse_arguments()
    import torch

    from bundle.synthesis import SyntheticBrainDataset, find_label_maps

    maps = find_label_maps(options.label_maps)[:4]
    cores = torch.get_num_threads()
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for spacing in options.spacing:
            torch.set_num_threads(options.threads)
            dataset = SyntheticBrainDataset(maps, spacing, [WINDOW_MM] * 2, length=1, device=device)
            sample = typical_seconds(dataset.__getitem__, options.count)
            torch.set_num_threads(cores)
            step = typical_seconds(training_step(dataset.window(0), device), 3)
            place = f"{options.threads} core(s)" if device == "cpu" else "GPU"
            print(
                f"{spacing:g} mm, window {dataset.window(0)}: {1 / sample:.2f} samples/s on {place}; "
                f"a step takes {step:.2f} s on {device}, {step / sample:.1f} samples",
                flush=True,
            )


if __name__ == "__main__":
    main()
