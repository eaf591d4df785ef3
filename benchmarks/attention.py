"""Self-attention of one width: this project's ``SABlock`` beside MONAI's and ``torch.nn.MultiheadAttention``.

``python -m benchmarks.attention [--tokens N ...] [--rounds N] [--seconds S]``. All forms share one set of weights and
must agree before they are timed. Prints peak MiB, milliseconds, and the ratios to the best peer and to MONAI's default.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from monai.networks.blocks.selfattention import SABlock as MonaiSABlock
from torch import Tensor, nn

from networks import SABlock, separate_qkv

HIDDEN_SIZE, NUM_HEADS = 768, 12  # those of ViT-B and of MONAI's ViT
TOKENS = (512, 1728, 4096, 13824)
MEMORY_FROM = 1728  # fewer tokens need little more than the allocator keeps
TOLERANCE = 1e-4
PEER_BAR = 0.95
DEFAULT_BAR, DEFAULT_BAR_FROM = 1.7, 1728
OURS, MONAI, TORCH = "ours", "MONAI", "torch"
Run = Callable[[Tensor], Tensor]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Form:
    """One way to compute the same block; ``score_copies`` counts the (H, N, N) tensors alive at its peak."""

    owner: str
    name: str
    build: Callable[[State], Run]
    score_copies: int

    def gib(self, tokens: int) -> float:
        """Estimate the memory it needs; a tenth more than the scores, for projections and the allocator."""
        return 1.1 * self.score_copies * NUM_HEADS * tokens**2 * 4 / 2**30

    def fits(self, tokens: int, memory_share: float) -> bool:
        """Tell whether that is at most a share of what is free now."""
        return self.gib(tokens) <= memory_share * available_gib()


def sa_block(owner: str, combined: bool, flash: bool) -> Form:
    """Return one of the four forms of ``SABlock``, ours or MONAI's."""

    def build(state: State) -> Run:
        options = {"qkv_bias": True, "use_combined_linear": combined, "use_flash_attention": flash}
        block = (SABlock if owner == OURS else MonaiSABlock)(HIDDEN_SIZE, NUM_HEADS, **options)
        block.load_state_dict(state if combined else separate_qkv(state))
        return block.eval()

    name = f"{'fused' if combined else 'separate'} QKV, {'fused' if flash else 'eager'} kernel"
    # Without gradients only the scores and their softmax are alive together, in MONAI's class as in ours.
    return Form(owner, name, build, score_copies=0 if flash else 2)


def multihead(fast_path: bool) -> Form:
    """Return PyTorch's module: with its fast path, which holds the scores, or with the fused kernel behind it."""

    def build(state: State) -> Run:
        block = nn.MultiheadAttention(HIDDEN_SIZE, NUM_HEADS, batch_first=True).eval()
        block.load_state_dict({key.replace("qkv.", "in_proj_"): value for key, value in state.items()})

        def run(x: Tensor) -> Tensor:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            return block(x, x, x, need_weights=False)[0]

        return run

    name = "MultiheadAttention" + ("" if fast_path else ", fast path off")
    return Form(TORCH, name, build, score_copies=1 if fast_path else 0)


LAYOUTS_AND_KERNELS = ((True, True), (False, True), (True, False), (False, False))
FORMS = (
    *(sa_block(owner, combined, flash) for owner in (OURS, MONAI) for combined, flash in LAYOUTS_AND_KERNELS),
    multihead(fast_path=True),
    multihead(fast_path=False),
)
OUR_DEFAULT, OUR_EAGER, MONAI_FLASH, MONAI_DEFAULT = FORMS[0], FORMS[2], FORMS[4], FORMS[6]


def draw_state() -> State:
    """Return weights in MONAI's layout, so large that few keys matter: an even average would hide mistakes."""
    torch.manual_seed(0)
    block = MonaiSABlock(HIDDEN_SIZE, NUM_HEADS, qkv_bias=True)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.05)
    return block.state_dict()


def available_gib() -> float:
    """Return the memory that programs can still have, by /proc/meminfo."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 2**20


def resident_peak_mib() -> float:
    """Return the largest memory this process ever held, or its parent when it was started."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_mib(run: Run, small: Tensor, x: Tensor) -> float:
    """Return the memory a first run on ``x`` needs; what libraries keep for good is had by a run on ``small``."""
    run(small)
    baseline = resident_peak_mib()
    run(x)
    return resident_peak_mib() - baseline


def in_own_process(module: str, *arguments: object) -> Any:
    """Run ``python -m module arguments`` and return the JSON of its last line."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


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
            peak = in_own_process("benchmarks.attention", "--peak", FORMS.index(form), count)
            print(f"{peak:13.1f}", end="", flush=True)
            if form is OUR_DEFAULT:
                peaks.append((count, peak))
        print()
    for (tokens_1, peak_1), (tokens_2, peak_2) in pairwise(peaks):
        exponent = math.log(peak_2 / peak_1) / math.log(tokens_2 / tokens_1)
        print(f"our default grows as N^{exponent:.2f} from N = {tokens_1} to {tokens_2}")


def time_rounds(runs: dict[Form, Run], x: Tensor, rounds: int, seconds: float) -> dict[Form, list[float]]:
    """Return the seconds of every form in every round; a round runs each form once."""
    shuffle = random.Random(0).shuffle  # so that no form always follows the same one, with the caches it leaves
    order = list(runs)
    times: dict[Form, list[float]] = {form: [] for form in order}
    started = time.perf_counter()
    while len(times[order[0]]) < rounds or time.perf_counter() - started < seconds:
        shuffle(order)
        for form in order:
            begun = time.perf_counter()
            runs[form](x)
            times[form].append(time.perf_counter() - begun)
    return times


def compare_times(tokens: int, memory_share: float, rounds: int, seconds: float) -> str:
    """Print a table of all forms at one N and return its summary.

    Ratios are of medians: on a shared machine, the fastest round is a matter of luck.
    """
    state, x = draw_state(), torch.randn(1, tokens, HIDDEN_SIZE)
    runs = {form: form.build(state) for form in FORMS if form.fits(tokens, memory_share)}
    reference = runs[MONAI_FLASH](x)
    for run in runs.values():
        torch.testing.assert_close(run(x), reference, rtol=0, atol=TOLERANCE)
    times = time_rounds(runs, x, rounds, seconds)
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
            verdict = f"bar {bar} {'met' if ratio >= bar else 'MISSED'}" if bar else "no bar"
            verdict = "not measured" if math.isnan(ratio) else f"{ratio:.2f}, {verdict}"
            yield f"N = {tokens:<7}{name + ' / our ' + which:30}{verdict:22}({form.name})"


def main() -> None:
    """Print memory, times and the summary."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=list(TOKENS))
    parser.add_argument("--rounds", type=int, default=5, help="at least so many rounds for each N")
    parser.add_argument("--seconds", type=float, default=60, help="and rounds for so long")
    parser.add_argument("--memory-share", type=float, default=0.7, help="of the free memory that a form may need")
    parser.add_argument("--peak", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with torch.inference_mode():
        if options.peak:
            form, tokens = options.peak
            x = torch.randn(1, tokens, HIDDEN_SIZE)
            print(json.dumps(peak_mib(FORMS[form].build(draw_state()), x[:, :64], x)))
            return
        print(f"{HIDDEN_SIZE} channels, {NUM_HEADS} heads, float32, {torch.get_num_threads()} threads, "
              f"torch {torch.__version__}, {available_gib():.1f} GiB free")  # fmt: skip
        # Memory first: a process started by a large one reports the peak of that one as its own.
        if large := [count for count in options.tokens if count >= MEMORY_FROM]:
            compare_memory(large, options.memory_share)
        timing = options.memory_share, options.rounds, options.seconds
        summary = [compare_times(count, *timing) for count in options.tokens]
    print("\n" + "\n".join(summary))


if __name__ == "__main__":
    main()
