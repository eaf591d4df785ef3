"""An engine's network loads and gives the state dict of the network that it was made of, whatever it wraps that in.

Programs that read bundles build ``network`` from the config and then load ``models/model.pt`` into it strictly. The
contract is held by ``tests/bundle/engines/test_engine_state.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from typing import Any

from torch import nn


def hide_in_state_dict(wrapper: nn.Module, child: str, constants: Collection[str] = ()) -> None:
    """Leave the name of a child out of the names of parameters: ``wrapper`` loads and gives the child's state dict.

    Names with the child's in front are taken, too.

    Args:
        wrapper: a module without parameters of its own.
        child: name of its one child.
        constants: buffers of the child that are in no state dict of the network: TorchScript knows no others.
    """
    inner = f"{child}."

    def before_loading(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for key in [key for key in state if key.startswith(prefix)]:
            rest = key.removeprefix(prefix)
            if not rest.startswith(inner):
                state[f"{prefix}{inner}{rest}"] = state.pop(key)
        if constants:
            own = getattr(module, child).state_dict()
            state.update({f"{prefix}{inner}{name}": own[name] for name in constants})

    def after_giving(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: Any) -> None:
        for key in [key for key in state if key.startswith(prefix + inner)]:
            name = key.removeprefix(prefix + inner)
            value = state.pop(key)
            if name not in constants:
                state[prefix + name] = value

    wrapper.register_load_state_dict_pre_hook(before_loading)
    wrapper.register_state_dict_post_hook(after_giving)


def convert_again_after_loading(wrapper: nn.Module, convert: Callable[[], None]) -> None:
    """Call ``convert`` whenever other weights than before have been loaded into a module, or into what holds it.

    Args:
        wrapper: the module.
        convert: called without arguments.
    """
    held = weights_digest(wrapper)

    def after_loading(module: nn.Module, incompatible: Any) -> None:
        nonlocal held
        found = weights_digest(module)
        if found != held:
            convert()
            held = found

    wrapper.register_load_state_dict_post_hook(after_loading)


def weights_digest(network: nn.Module) -> str:
    """Return a hash of a network's parameters and buffers, names among them."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
