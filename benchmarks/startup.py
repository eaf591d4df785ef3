"""How long ``scripts.segment`` takes to its help and to its first result, with an empty cache and with a filled one.

``python -m benchmarks.startup [--image FILE] [--repeats N]``. Every start is a process of its own; without ``--image``
the MNI152 T1 at 1 mm is segmented. Prints the seconds and the bars.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from statistics import median

from benchmarks.child import run_child
from benchmarks.measure import (
    CHECKPOINT,
    describe_machine,
    in_own_process,
    make_parser,
    positive,
    sample_scan,
    seconds_of,
    silence,
    verdict,
)

SEGMENT = (sys.executable, "-m", "scripts.segment")
RESULT = "_seg.nii.gz"  # is in the line of a result
HELP_BAR, RESULT_BAR = 1.0, 3.0


def help_seconds() -> float:
    """Return the seconds of ``--help``."""
    return seconds_of(lambda: subprocess.run([*SEGMENT, "--help"], check=True, stdout=subprocess.DEVNULL))


def result_seconds(image: str, cache_home: str) -> float:
    """Return the seconds from the start of the process to the line of its first result.

    Raises:
        SystemExit: when there is none.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [*SEGMENT, image, "--output-dir", folder, "--device", "cpu"]
        return run_child(command, RESULT, {"XDG_CACHE_HOME": cache_home}).results[0]


def load_seconds(cache_dir: str) -> float:
    """Return the seconds of ``load_network`` in this process; PyTorch is imported already, the engine is not."""
    from bundle.engines import load_network
    from bundle.model import build_network, read_model

    silence()
    model = read_model(CHECKPOINT.parent)
    return seconds_of(lambda: load_network(build_network(model), CHECKPOINT, cache_dir=cache_dir))


def measure(image: str, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every repeat; the first start of each has an empty cache, and the second what it left."""
    seconds: dict[str, list[float]] = {}
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as cache_dir:
            for name, run in (
                ("--help", help_seconds),
                ("first result, empty cache", partial(result_seconds, image, home)),
                ("first result, filled cache", partial(result_seconds, image, home)),
                ("load_network, empty cache", partial(in_own_process, load_seconds, cache_dir)),
                ("load_network, filled cache", partial(in_own_process, load_seconds, cache_dir)),
            ):
                print(f"{name}, {repeat + 1} of {repeats} ...", file=sys.stderr, flush=True)
                seconds.setdefault(name, []).append(run())
    return seconds


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--image")
    parser.add_argument("--repeats", type=positive, default=2)
    return parser.parse_args()


def main() -> None:
    """Measure and print the table and the bars."""
    options = parse_arguments()
    print(describe_machine(), flush=True)
    with sample_scan(options.image) as image:
        seconds = measure(image, options.repeats)
    print(f"\n{'':28}{'min s':>8}{'median s':>10}")
    for name, times in seconds.items():
        print(f"{name:28}{min(times):8.2f}{median(times):10.2f}")
    help_time, _, second, *_ = (median(times) for times in seconds.values())
    print(f"\n{verdict('--help', help_time, HELP_BAR, ' s', at_most=True)}")
    print(verdict("first result, filled cache (the bar is for a tiny volume)", second, RESULT_BAR, " s", at_most=True))


if __name__ == "__main__":
    main()
