"""Every engine and precision against PyTorch in float32 on real scans: logits, labels, and Dice of each structure.

``python -m benchmarks.parity [SCAN ...] [--engines NAME ...] [--emulated]``; without scans on nilearn's MNI152 T1.
bfloat16 is computed where the processor has it; ``--emulated`` lets PyTorch emulate it elsewhere, which takes minutes a
scan. Labels are compared on the scan's own grid.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from bundle.engines import ENGINES, load_network
from bundle.errors import ExportError
from bundle.inference.segmenter import Segmenter
from bundle.machine import use_bfloat16
from scripts.sample_volume import write_sample_volume

# precision: largest difference of a logit, share of equal labels, Dice of each structure
BARS = {"float32": (1e-3, 0.9999, 0.0), "bfloat16": (np.inf, 0.995, 0.995)}


def segment(segmenter: Segmenter, scan: str) -> tuple[torch.Tensor, np.ndarray]:
    """Return the logits of the head's window and the label map of the scan."""
    data = segmenter.preprocessing({"image": scan})
    logits = segmenter.logits(data)
    return logits, np.asarray(segmenter.labels(data, logits))


def smallest_dice(expected: np.ndarray, found: np.ndarray) -> tuple[float, int]:
    """Return the smallest Dice over the structures of ``expected``, and its code."""
    codes = np.unique(expected[expected > 0])
    size = int(max(expected.max(), found.max())) + 1
    both = np.bincount(expected[expected == found], minlength=size)
    total = np.bincount(expected.ravel(), minlength=size) + np.bincount(found.ravel(), minlength=size)
    dice = 2 * both[codes] / total[codes]
    return float(dice.min()), int(codes[dice.argmin()])


def main() -> None:
    """Print a row for each scan, engine and precision."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("scans", nargs="*")
    parser.add_argument("--engines", nargs="+", choices=ENGINES[1:], default=ENGINES[1:])
    parser.add_argument("--emulated", action="store_true")
    options = parser.parse_args()
    precisions = BARS if options.emulated or use_bfloat16("auto", "cpu") else ("float32",)
    warnings.simplefilter("ignore")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scans = options.scans
        if not scans:
            scans = [f"{folder}/mni152_t1.nii.gz"]
            write_sample_volume(Path(scans[0]))
        segmenter = Segmenter(device="cpu", engine="torch", precision="float32")
        reference, content = segmenter.network, segmenter.parser
        expected = {scan: segment(segmenter, scan) for scan in scans}
        print(f"{'engine':13}{'precision':11}{'scan':22}{'logits':>9}{'labels equal':>14}{'smallest Dice':>16}")
        for engine in options.engines:
            for precision in precisions:
                logit_bar, label_bar, dice_bar = BARS[precision]
                try:
                    segmenter.network = load_network(
                        content.get_parsed_content("network_def"),
                        content.get_parsed_content("checkpoint"),
                        engine,
                        precision,
                    )
                except ExportError as error:
                    print(f"{engine:13}{precision:11}{error}")
                    continue
                for scan, (logits, labels) in expected.items():
                    found, found_labels = segment(segmenter, scan)
                    difference = (found - logits).abs().max().item()
                    equal = float((found_labels == labels).mean())
                    dice, code = smallest_dice(labels, found_labels)
                    met = difference <= logit_bar and equal >= label_bar and dice >= dice_bar
                    rows.append(met)
                    print(
                        f"{engine:13}{precision:11}{Path(scan).name[:20]:22}{difference:9.1e}{equal:14.4%}"
                        f"{dice:10.4f} ({code:2d})  {'met' if met else 'MISSED'}",
                        flush=True,
                    )
                segmenter.network = reference
                gc.collect()
    print(f"{sum(rows)} of {len(rows)} met")


if __name__ == "__main__":
    main()
