"""Samples that the generator draws in a second, against the steps that a training takes in it.

``python -m benchmarks.generator LABEL_MAPS [--spacing 2 1.5] [--count 8] [--threads 1]``. The network's step runs on
the device that is there, the generator on the CPU and, where there is a GPU, on it too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from monai.losses import DiceCELoss

from bundle.machine import use_bfloat16
from bundle.synthesis import SyntheticBrainDataset, find_label_maps
from networks import TransformerUNet

WINDOW_MM = (180, 220, 180)


def seconds(action: Callable[[int], object], count: int) -> float:
    """Return the median time of one call, after one that is not counted."""
    times = []
    for index in range(count + 1):
        started = time.perf_counter()
        action(index)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def training_step(size: tuple[int, int, int], device: str) -> Callable[[int], object]:
    """Return a step of the network that ships on a window of ``size`` voxels, in bfloat16 where it is not emulated."""
    bfloat16 = use_bfloat16("auto", device)
    network = TransformerUNet().to(device)
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


def main() -> None:
    """Print one line for each spacing and device."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("label_maps")
    parser.add_argument("--spacing", type=float, nargs="+", default=[2.0, 1.5])
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="cores for the generator")
    options = parser.parse_args()
    maps = find_label_maps(options.label_maps)[:4]
    cores = torch.get_num_threads()
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for spacing in options.spacing:
            torch.set_num_threads(options.threads)
            dataset = SyntheticBrainDataset(maps, spacing, [WINDOW_MM] * 2, length=1, device=device)
            sample = seconds(dataset.__getitem__, options.count)
            torch.set_num_threads(cores)
            step = seconds(training_step(dataset.window(0), device), 3)
            place = f"{options.threads} core(s)" if device == "cpu" else "GPU"
            print(
                f"{spacing:g} mm, window {dataset.window(0)}: {1 / sample:.2f} samples/s on {place}; "
                f"a step takes {step:.2f} s on {device}, {step / sample:.1f} samples",
                flush=True,
            )


if __name__ == "__main__":
    main()
