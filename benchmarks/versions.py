"""The network's time on a scan, in this version and in another one, in turns.

``python -m benchmarks.versions TREE [SCAN] [--rounds N] [--engines NAME ...]``; TREE is another version's folder, such
as that of ``git worktree add TREE COMMIT`` (0.8.0 or later); the scan is nilearn's MNI152 T1 by default. Each engine
and precision runs in a process of its own, with the packages of this environment: the scan is prepared and goes through
the network again and again, at the voxel size of the version's own model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.measure import describe_machine, make_parser, positive, sample_scan, verdict

ROOT = Path(__file__).parent.parent
PRECISIONS = ("bfloat16", "float32")
BAR = 1.3
CHILD = """
import json, sys, tempfile, time
sys.path.insert(0, "")
from bundle.inference.segmenter import Segmenter
scan, engine, precision = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    given = {"output_dir": folder, "cache_dir": f"{folder}/cache", "device": "cpu"}
    segmenter = Segmenter(engine=engine, precision=precision, **given)
    data, seconds = segmenter.preprocessing({"image": scan}), []
    for _ in range(6):
        started = time.perf_counter()
        segmenter.logits(data)
        seconds.append(time.perf_counter() - started)
print(json.dumps({"seconds": seconds[1:], "voxels": list(data["image"].shape[1:])}))
"""


def measure(tree: Path, scan: str, engine: str, precision: str) -> tuple[float, list[int]]:
    """Return the median seconds of a version's network on a scan, and the voxels that it saw.

    Raises:
        RuntimeError: with what the version said when it did not get so far.
    """
    command = [sys.executable, "-c", CHILD, scan, engine, precision]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{tree}: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return median(found["seconds"]), found["voxels"]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("tree", type=Path, help="folder of another version")
    parser.add_argument("scan", nargs="?", help="the MNI152 T1 by default")
    parser.add_argument("--rounds", type=positive, default=2)
    parser.add_argument("--engines", nargs="+", default=["torch", "openvino"])
    return parser.parse_args()


def main() -> None:
    """Print a line for each engine and precision, and whether it takes at most so much longer than before."""
    options = parse_arguments()
    if not (options.tree / "configs" / "inference.json").is_file():
        raise FileNotFoundError(f"{options.tree}: found no configs/inference.json; the folder of a version is wanted")
    print(describe_machine())
    with sample_scan(options.scan) as scan:
        path = str(Path(scan).resolve())
        for engine in options.engines:
            for precision in PRECISIONS:
                trees = (options.tree, ROOT)
                rounds = [[measure(tree, path, engine, precision) for tree in trees] for _ in range(options.rounds)]
                before, now = (median(found[side][0] for found in rounds) for side in (0, 1))
                voxels, voxels_now = (found[1] for found in rounds[0])
                print(f"{engine}, {precision}: {before:.2f} s for {voxels} voxels, now {now:.2f} s for {voxels_now}")
                print(verdict("  now over before", now / before, BAR, " x", at_most=True), flush=True)


if __name__ == "__main__":
    main()
