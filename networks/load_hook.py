"""Checkpoints changed on their way into a module."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def before_loading(module: nn.Module, rewrite: Callable[..., None]) -> None:
    """Let ``rewrite`` change a state dict in place before ``module`` loads it.

    Args:
        module: gets the hook, whether it is loaded alone or as a part.
        rewrite: called with the copy of the state dict that is loaded, the module's prefix in it, and what else PyTorch
            gives. A bound method of ``module``, so that copies of the module have hooks of their own.
    """
    module._register_load_state_dict_pre_hook(rewrite)
