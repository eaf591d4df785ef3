"""Self-attention of one width: this project's ``SABlock`` beside MONAI's and ``torch.nn.MultiheadAttention``.

``python -m benchmarks.attention [--tokens N ...] [--rounds N] [--seconds S]``. All forms share one set of weights and
must agree before they are timed. Prints peak MiB, milliseconds, and the ratios to the best peer and to MONAI's default.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from statistics import median

from benchmarks.attention_forms import (
    FORMS,
    HIDDEN_SIZE,
    MONAI_DEFAULT,
    MONAI_FLASH,
    NUM_HEADS,
    OUR_DEFAULT,
    OUR_EAGER,
    OURS,
    Form,
    draw_state,
    form_peak_mib,
)
from benchmarks.measure import available_gib, in_own_process, make_parser, met_or_missed, positive, time_rounds

TOKENS = (512, 1728, 4096, 13824)
MEMORY_FROM = 1728  # fewer tokens need little more than the allocator keeps
TOLERANCE = 1e-4
PEER_BAR = 0.95
DEFAULT_BAR, DEFAULT_BAR_FROM = 1.7, 1728


def compare_memory(tokens: list[int], memory_share: float) -> None:
    """Print peak MiB of four forms, and the exponent of our default's growth."""
    print(f"{'peak MiB':44}" + "".join(f"{f'N = {count}':>13}" for count in tokens))
    peaks: list[tuple[int, float]] = []
    for form in (OUR_DEFAULT, OUR_EAGER, MONAI_DEFAULT, MONAI_FLASH):
        print(f"{form.owner:6}{form.name:38}", end="", flush=True)
        for count in tokens:
            if not form.fits(count, memory_share):
                print(f"{'does not fit':>13}", end="")
                continue
            peak = in_own_process(form_peak_mib, FORMS.index(form), count)
            print(f"{peak:13.1f}", end="", flush=True)
            if form is OUR_DEFAULT:
                peaks.append((count, peak))
        print()
    for (tokens_1, peak_1), (tokens_2, peak_2) in pairwise(peaks):
        exponent = math.log(peak_2 / peak_1) / math.log(tokens_2 / tokens_1)
        print(f"our default grows as N^{exponent:.2f} from N = {tokens_1} to {tokens_2}")


def compare_times(tokens: int, memory_share: float, rounds: int, seconds: float) -> str:
    """Print a table of all forms at one N and return its summary.

    Ratios are of medians: on a shared machine, the fastest round is a matter of luck.
    """
    import torch

    state, x = draw_state(), torch.randn(1, tokens, HIDDEN_SIZE)
    runs = {form: partial(form.build(state), x) for form in FORMS if form.fits(tokens, memory_share)}
    reference = runs[MONAI_FLASH]()
    for run in runs.values():
        torch.testing.assert_close(run(), reference, rtol=0, atol=TOLERANCE)
    times = time_rounds(runs, rounds, seconds)
    typical = {form: median(durations) for form, durations in times.items()}
    peer = min(value for form, value in typical.items() if form.owner != OURS)
    default = typical.get(MONAI_DEFAULT, math.nan)

    print(f"\nN = {tokens}, {len(times[OUR_DEFAULT])} rounds, outputs agree within {TOLERANCE:.0e}")
    print(f"{'':44}{'min ms':>10}{'median ms':>11}{'best peer / it':>16}{'MONAI default / it':>20}")
    for form in FORMS:
        label = f"{form.owner:6}{form.name + (' (default)' if form in (OUR_DEFAULT, MONAI_DEFAULT) else ''):38}"
        if form in typical:
            values = f"{1e3 * min(times[form]):10.2f}{1e3 * typical[form]:11.2f}"
            print(f"{label}{values}{peer / typical[form]:16.2f}{default / typical[form]:20.2f}".replace("nan", "  -"))
        else:
            print(f"{label}  does not fit (needs ~{form.gib(tokens):.0f} GiB)")
    sys.stdout.flush()
    return "\n".join(summarise(tokens, typical, peer, default))


def summarise(tokens: int, typical: dict[Form, float], peer: float, default: float) -> Iterator[str]:
    """Yield how our best and our default form stand to the best peer and to MONAI's default, with the bars."""
    default_bar = DEFAULT_BAR if tokens >= DEFAULT_BAR_FROM else 0.0
    ours = {
        "best": min((form for form in typical if form.owner == OURS), key=typical.__getitem__),
        "default": OUR_DEFAULT,
    }
    for which, form in ours.items():
        for name, seconds, bar in (("best peer", peer, PEER_BAR), ("MONAI default", default, default_bar)):
            ratio = seconds / typical[form]
            verdict = f"bar {bar} {met_or_missed(ratio >= bar)}" if bar else "no bar"
            verdict = "not measured" if math.isnan(ratio) else f"{ratio:.2f}, {verdict}"
            yield f"N = {tokens:<7}{name + ' / our ' + which:30}{verdict:22}({form.name})"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--tokens", type=positive, nargs="+", default=list(TOKENS))
    parser.add_argument("--rounds", type=positive, default=5, help="at least so many rounds for each N")
    parser.add_argument("--seconds", type=float, default=60, help="and rounds for so long")
    parser.add_argument("--memory-share", type=float, default=0.7, help="of the free memory that a form may need")
    return parser.parse_args()


def main() -> None:
    """Print memory, times and the summary."""
    options = parse_arguments()
    import torch

    print(f"{HIDDEN_SIZE} channels, {NUM_HEADS} heads, float32, {torch.get_num_threads()} threads, "
          f"torch {torch.__version__}, {available_gib():.1f} GiB free")  # fmt: skip
    # Memory first: a process started by a large one reports the peak of that one as its own.
    if large := [count for count in options.tokens if count >= MEMORY_FROM]:
        compare_memory(large, options.memory_share)
    timing = options.memory_share, options.rounds, options.seconds
    with torch.inference_mode():
        summary = [compare_times(count, *timing) for count in options.tokens]
    print("\n" + "\n".join(summary))


if __name__ == "__main__":
    main()
