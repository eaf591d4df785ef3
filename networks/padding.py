"""Padding to the sizes that a network takes, and cropping back."""

# No postponed annotations here: TorchScript reads them.
import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: list[int]) -> Tensor:
    """Pad each axis of (B, C, ...) with zeros at its end to the next multiple."""
    # Read before the loop: read inside it, TorchScript of torch 2.13 loses x when a later module branches at run time.
    size = x.shape
    padding: list[int] = []
    for index in range(len(multiple)):
        axis = len(multiple) - 1 - index
        # Not -size % multiple, for which AOTInductor derives no range.
        padding += [0, (size[axis + 2] + multiple[axis] - 1) // multiple[axis] * multiple[axis] - size[axis + 2]]
    return F.pad(x, padding)


def crop(x: Tensor, size: list[int]) -> Tensor:
    """Return the first ``size`` entries along each axis of (B, C, ...)."""
    if not torch.jit.is_scripting() and torch.compiler.is_compiling():
        # A view's memory layout depends on whether anything is cut off, which would bind an export to one case.
        padding: list[int] = []
        for index in range(len(size)):
            axis = len(size) - 1 - index
            padding += [0, size[axis] - x.shape[axis + 2]]
        return F.pad(x, padding)
    for axis in range(len(size)):
        x = x.narrow(axis + 2, 0, size[axis])
    return x
