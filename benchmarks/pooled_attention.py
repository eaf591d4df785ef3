"""The network that ships with global and with pooled attention, on heads at 1.25 and 1 mm.

``python -m benchmarks.pooled_attention``. CPU seconds of one core, the least of three, in each precision that the
processor computes in; what labels make of it, ``--network_def#attention pooled`` of an evaluation says.
"""

from __future__ import annotations

import tempfile
import time

from benchmarks.measure import CHECKPOINT, describe_machine, make_parser, silence

WINDOWS = {"1.25 mm": (128, 160, 136), "1 mm": (160, 192, 168)}
"""Windows of the MNI152 T1."""


def main() -> None:
    """Print the table."""
    make_parser(__doc__).parse_args()
    silence()
    import torch

    from bundle.engines import load_network
    from bundle.machine import keep_freed_memory, use_bfloat16
    from networks import TransformerUNet

    print(describe_machine())
    keep_freed_memory()
    torch.set_num_threads(1)
    precisions = ("bfloat16", "float32") if use_bfloat16("auto", "cpu") else ("float32",)
    for name, size in WINDOWS.items():
        image = torch.rand(1, 1, *size)
        for precision in precisions:
            found = {}
            for attention in ("global", "pooled"):
                with tempfile.TemporaryDirectory() as cache, torch.inference_mode():
                    plain = TransformerUNet(attention=attention)
                    network = load_network(plain, CHECKPOINT, "torch", precision, cache_dir=cache)
                    seconds = []
                    for _ in range(3):
                        started = time.process_time()
                        network(image)
                        seconds.append(time.process_time() - started)
                found[attention] = min(seconds)
            ratio = found["global"] / found["pooled"]
            print(
                f"{name:8} {precision:9} global {found['global']:.1f} s, pooled {found['pooled']:.1f} s: {ratio:.2f} x"
            )


if __name__ == "__main__":
    main()
