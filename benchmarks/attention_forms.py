"""The forms of one self-attention block, ours, MONAI's and PyTorch's, all with one set of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.measure import available_gib, peak_mib

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN_SIZE, NUM_HEADS = 768, 12  # those of ViT-B and of MONAI's ViT
SMALL_TOKENS = 64  # of the run before the one whose memory counts
OURS, MONAI, TORCH = "ours", "MONAI", "torch"
Run = Callable[["Tensor"], "Tensor"]
State = dict[str, "Tensor"]


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
        from monai.networks.blocks.selfattention import SABlock as MonaiSABlock

        from networks import SABlock, separate_qkv

        make = SABlock if owner == OURS else MonaiSABlock
        block = make(
            HIDDEN_SIZE, NUM_HEADS, qkv_bias=True, use_combined_linear=combined, use_flash_attention=flash
        ).eval()
        block.load_state_dict(state if combined else separate_qkv(state))
        return block

    name = f"{'fused' if combined else 'separate'} QKV, {'fused' if flash else 'eager'} kernel"
    # Without gradients only the scores and their softmax are alive together, in MONAI's class as in ours.
    return Form(owner, name, build, score_copies=0 if flash else 2)


def multihead(fast_path: bool) -> Form:
    """Return PyTorch's module: with its fast path, which holds the scores, or with the fused kernel behind it."""

    def build(state: State) -> Run:
        import torch

        block = torch.nn.MultiheadAttention(HIDDEN_SIZE, NUM_HEADS, batch_first=True).eval()
        block.load_state_dict({key.replace("qkv.", "in_proj_"): value for key, value in state.items()})

        def run(x: Tensor) -> Tensor:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            out: Tensor = block(x, x, x, need_weights=False)[0]
            return out

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
    import torch
    from monai.networks.blocks.selfattention import SABlock as MonaiSABlock

    torch.manual_seed(0)
    block = MonaiSABlock(HIDDEN_SIZE, NUM_HEADS, qkv_bias=True)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return block.state_dict()


def form_peak_mib(index: int, tokens: int) -> float:
    """Return the memory that one of ``FORMS`` needs for ``tokens`` tokens, in this process."""
    import torch

    with torch.inference_mode():
        run, x = FORMS[index].build(draw_state()), torch.randn(1, tokens, HIDDEN_SIZE)
        return peak_mib(lambda: run(x[:, :SMALL_TOKENS]), lambda: run(x))
