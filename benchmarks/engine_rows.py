"""The networks that ``benchmarks.engines`` compares, each in its engine, and what one window costs in them.

"Eager" is PyTorch as it comes: the module that ``bundle.model.build_network`` makes, with its weights, called by its
user. The engine ``torch`` prepares that module (``bundle.engines.networks``).
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.measure import CHECKPOINT, available_gib, seconds_of, silence

if TYPE_CHECKING:
    from torch import Tensor, nn

OUT_CHANNELS = 33
ROUNDS, LONG_SECONDS = 3, 20  # so many rounds at least, unless they take longer than that
MEMORY_SHARE = 0.9  # of the free memory that a row may take
PRODUCT_SIZES, PRODUCT_SECONDS = (1024, 2048, 4096), 1.0
Result = dict[str, Any]


def unetr_b(size: int) -> nn.Module:
    """Return MONAI's UNETR with ViT-B: MONAI's defaults, 16 features, hidden 768, 12 layers, patches of 16."""
    from monai.networks.nets.unetr import UNETR

    return UNETR(1, OUT_CHANNELS, size, feature_size=16, hidden_size=768, mlp_dim=3072, num_heads=12)


def swin_unetr_48(_: int) -> nn.Module:
    """Return MONAI's SwinUNETR of 48 features, which takes windows of any size."""
    from monai.networks.nets.swin_unetr import SwinUNETR

    return SwinUNETR(1, OUT_CHANNELS, feature_size=48)


MONAI: dict[str, Callable[[int], nn.Module]] = {"UNETR-B": unetr_b, "SwinUNETR-48": swin_unetr_48}


@dataclass(frozen=True)
class Row:
    """Ours in eager PyTorch or an engine, or a network of MONAI's; precision; is ``keep_freed_memory`` called."""

    engine: str
    precision: str = "float32"
    keeps_memory: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether the network is the one that ships."""
        return self.engine not in MONAI

    @property
    def label(self) -> str:
        """Owner, engine and precision."""
        plain = ", PyTorch as it comes" if self.engine == "eager" else ""
        return f"{'ours' if self.is_ours else 'MONAI':6}{self.engine} {self.precision}{plain}"

    def build(self, size: int, cache_dir: str) -> Callable[[Tensor], Any]:
        """Return the network for a window of ``size``^3."""
        if not self.is_ours:
            return MONAI[self.engine](size).eval()

        from bundle.engines import load_network
        from bundle.io import load_weights
        from bundle.model import build_network, read_model

        network = build_network(read_model(CHECKPOINT.parent))
        if self.engine == "eager":
            plain = load_weights(network, CHECKPOINT).eval()
            return plain if self.precision == "float32" else partial(under_autocast, plain)
        return load_network(network, CHECKPOINT, self.engine, self.precision, cache_dir=cache_dir)

    def runs_here(self, emulated: bool) -> bool:
        """Tell whether the processor has the precision, or PyTorch is asked to emulate it."""
        from bundle.machine import use_bfloat16

        return self.precision == "float32" or use_bfloat16("auto", "cpu") or (emulated and self.engine != "openvino")


def under_autocast(network: nn.Module, image: Tensor) -> Any:
    """Call a network under autocast to bfloat16."""
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        return network(image)


EAGER, EAGER_BFLOAT16 = (Row("eager", precision, keeps_memory=False) for precision in ("float32", "bfloat16"))
FLOAT32, BFLOAT16 = Row("torch"), Row("torch", "bfloat16")
UNETR_B, SWIN = (Row(name, keeps_memory=False) for name in MONAI)
ROWS = (
    EAGER,  # the bars are against this and against MONAI's, run likewise
    EAGER_BFLOAT16,
    FLOAT32,
    BFLOAT16,
    Row("torchscript"),
    Row("torchscript", "bfloat16"),
    Row("onnxruntime"),
    Row("openvino"),
    Row("openvino", "bfloat16"),
    UNETR_B,
    SWIN,
)
NAMES = tuple(dict.fromkeys(row.engine for row in ROWS))


def count_gflop(size: int) -> float:
    """Return the 1e9 operations of one window: convolutions, linears and attention, a product and a sum being two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from bundle.model import build_network, read_model

    # On the meta device nothing is computed. The eager kernel, as the counter takes the CPU's fused one for free.
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = build_network(read_model(CHECKPOINT.parent), use_flash_attention=False)
        network.eval()(torch.empty(1, 1, size, size, size))
    return float(counter.get_total_flops()) / 1e9


def round_times(run: Callable[[], object], seconds: float) -> list[float]:
    """Return the seconds of each round; the first one warms up and counts only where it takes very long."""
    times: list[float] = []
    while sum(times[1:]) < (LONG_SECONDS if len(times) <= ROUNDS else seconds):
        times.append(seconds_of(run))
        if times[0] > LONG_SECONDS:
            return times
    return times[1:]


def peak_gflops(precision: str) -> Result:
    """Return the most 1e9 operations per second of a square matrix product, and its size."""
    import torch

    found: list[Result] = []
    for size in PRODUCT_SIZES:
        a, b, out = (torch.rand(size, size).to(getattr(torch, precision)) for _ in range(3))
        fastest = min(round_times(partial(torch.mm, a, b, out=out), PRODUCT_SECONDS))
        found.append({"gflops": 2e-9 * size**3 / fastest, "size": size})
    return max(found, key=lambda product: product["gflops"])


def measure_row(index: int, size: int, seconds: float, cache_dir: str) -> Result:
    """Return the median seconds of one window in one of ``ROWS`` and the rounds, or why there are none."""
    silence()
    limit = int(MEMORY_SHARE * available_gib() * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # an error here, before the system kills others

    import torch

    from bundle.machine import keep_freed_memory

    row = ROWS[index]
    if row.keeps_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    try:
        with torch.inference_mode():
            network, image = row.build(size, cache_dir), torch.rand(1, 1, size, size, size)
            times = round_times(lambda: network(image), seconds)
    except (ValueError, RuntimeError, MemoryError, ImportError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return {"error": "out of memory" if "alloc" in reason else reason[:120]}
    return {"seconds": median(times), "rounds": len(times)}
