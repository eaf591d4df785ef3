"""The shipped weights in all four forms of attention: largest difference of logits, share of equal labels, time.

``python -m benchmarks.flags [--image FILE]``; without ``--image`` the MNI152 T1 at 1 mm is used.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import CHECKPOINT, make_parser, sample_scan, silence, timed

if TYPE_CHECKING:
    from bundle.inference.segmenter import Segmenter


@dataclass(frozen=True)
class Form:
    """One combination of the flags, compared with the network of the config."""

    use_combined_linear: bool
    use_flash_attention: bool
    logit_difference: float
    equal_labels: float
    seconds: float


def compare_forms(segmenter: Segmenter, image: str | Path, checkpoint: str | Path) -> list[Form]:
    """Run each form on one scan; the segmenter is left with the last one as its network."""
    from bundle.io import load_weights
    from bundle.model import build_network, find_model

    model = find_model(CHECKPOINT.parent, Path(checkpoint))
    data = segmenter.preprocessing({"image": str(image)})
    expected = segmenter.logits(data)
    expected_labels = segmenter.labels(data, expected)
    forms = []
    for combined, flash in product((True, False), repeat=2):
        network = build_network(model, use_combined_linear=combined, use_flash_attention=flash)
        segmenter.network = load_weights(network, checkpoint).to(segmenter.device)
        seconds, logits = timed(partial(segmenter.logits, data))
        labels = segmenter.labels(data, logits)
        difference = float((logits - expected).abs().max())
        forms.append(Form(combined, flash, difference, float((labels == expected_labels).mean()), seconds))
    return forms


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--image")
    parser.add_argument("--checkpoint", default=str(CHECKPOINT))
    return parser.parse_args()


def main() -> None:
    """Print a row for each form."""
    options = parse_arguments()
    from bundle.inference.segmenter import Segmenter

    silence()
    with sample_scan(options.image) as image:
        segmenter = Segmenter(checkpoint=options.checkpoint, engine="torch", precision="float32")
        forms = compare_forms(segmenter, image, options.checkpoint)
    print(f"{'QKV':10}{'kernel':8}{'max |logit difference|':>24}{'equal labels':>14}{'seconds':>9}")
    for form in forms:
        layout = "fused" if form.use_combined_linear else "separate"
        kernel = "fused" if form.use_flash_attention else "eager"
        row = f"{form.logit_difference:24.1e}{100 * form.equal_labels:13.4f}%{form.seconds:9.2f}"
        print(f"{layout:10}{kernel:8}{row}")


if __name__ == "__main__":
    main()
