"""Every engine and precision against PyTorch in float32 on real scans: logits, labels, and Dice of each structure.

``python -m benchmarks.parity [SCAN ...] [--engines NAME ...] [--emulated]``; without scans on nilearn's MNI152 T1.
bfloat16 is computed where the processor has it; ``--emulated`` lets PyTorch emulate it elsewhere, which takes minutes a
scan. Labels are compared on the scan's own grid.
"""

from __future__ import annotations

import argparse
import gc
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import make_parser, met_or_missed, sample_scan, silence
from bundle.choices import ENGINES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from bundle.inference.segmenter import Segmenter

# precision: largest difference of a logit, share of equal labels, Dice of each structure
BARS = {"float32": (1e-3, 0.9999, 0.0), "bfloat16": (math.inf, 0.995, 0.995)}
Segmented = tuple["Tensor", "NDArray[Any]"]


def segment(segmenter: Segmenter, scan: str) -> Segmented:
    """Return the logits of the head's window and the label map of the scan."""
    import numpy as np

    data = segmenter.preprocessing({"image": scan})
    logits = segmenter.logits(data)
    return logits, np.asarray(segmenter.labels(data, logits))


def smallest_dice(expected: NDArray[Any], found: NDArray[Any]) -> tuple[float, int]:
    """Return the smallest Dice over the structures of ``expected``, and its code."""
    import numpy as np

    from benchmarks.overlap import dice_by_code

    codes = np.unique(expected[expected > 0])
    dice = dice_by_code(found, expected, codes)
    return float(dice.min()), int(codes[dice.argmin()])


def compare(segmenter: Segmenter, expected: dict[str, Segmented], precision: str) -> Iterator[tuple[str, bool]]:
    """Yield a row for each scan, and whether it meets the bars of the precision."""
    logit_bar, label_bar, dice_bar = BARS[precision]
    for scan, (logits, labels) in expected.items():
        found, found_labels = segment(segmenter, scan)
        difference = (found - logits).abs().max().item()
        equal = float((found_labels == labels).mean())
        dice, code = smallest_dice(labels, found_labels)
        met = difference <= logit_bar and equal >= label_bar and dice >= dice_bar
        name = Path(scan).name[:20]
        yield f"{name:22}{difference:9.1e}{equal:14.4%}{dice:10.4f} ({code:2d})  {met_or_missed(met)}", met


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("scans", nargs="*")
    parser.add_argument("--engines", nargs="+", choices=ENGINES[1:], default=ENGINES[1:])
    parser.add_argument("--emulated", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Print a row for each scan, engine and precision."""
    options = parse_arguments()
    from bundle.engines import load_network
    from bundle.errors import ExportError
    from bundle.inference.segmenter import Segmenter
    from bundle.machine import use_bfloat16

    precisions = BARS if options.emulated or use_bfloat16("auto", "cpu") else ("float32",)
    silence()
    with ExitStack() as stack:
        scans = [stack.enter_context(sample_scan(scan)) for scan in options.scans or [None]]
        segmenter = Segmenter(device="cpu", engine="torch", precision="float32")
        reference, content = segmenter.network, segmenter.parser
        expected = {scan: segment(segmenter, scan) for scan in scans}
        print(f"{'engine':13}{'precision':11}{'scan':22}{'logits':>9}{'labels equal':>14}{'smallest Dice':>16}")
        rows = []
        for engine in options.engines:
            for precision in precisions:
                content.parse(True)  # a network of its own, since an engine may change it
                weights = content.get_parsed_content("network_def"), content.get_parsed_content("checkpoint")
                try:
                    segmenter.network = load_network(*weights, engine, precision)
                except ExportError as error:
                    print(f"{engine:13}{precision:11}{error}")
                    continue
                for row, met in compare(segmenter, expected, precision):
                    rows.append(met)
                    print(f"{engine:13}{precision:11}{row}", flush=True)
                segmenter.network = reference
                gc.collect()
    print(f"{sum(rows)} of {len(rows)} met")


if __name__ == "__main__":
    main()
