"""The weights that a training starts from."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Engine, Events
from torch import Tensor, nn

from bundle.errors import WeightsError
from bundle.io.weights import fitting_heads, read_weights
from bundle.training.checkpoints import checkpoint_epochs

SHOWN = 4


class InitialWeights:
    """Load a state dict into the network before the first step.

    MONAI's ``CheckpointLoader(strict_shape=False)`` looks for the parameters one level too high when it is given a
    plain state dict, loads none of them and reports success. Outputs for the scan that the file has and the network has
    not are left out.

    Args:
        path: file of a state dict.
        network: the network that is trained.
        partial: take the parameters that agree in name and shape and leave the others as they are, for a network
            with other classes or another position grid; otherwise all must agree.
        resume_dir: folder of a training; where it has checkpoints, their weights count and these are not loaded.
    """

    def __init__(
        self, path: str | Path, network: nn.Module, partial: bool = False, resume_dir: str | Path | None = None
    ) -> None:
        self.resume_dir = resume_dir
        self.path = Path(path)
        self.network = network
        self.partial = partial

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer, before ``ResumableCheckpoint``, whose weights take precedence."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights.

        Raises:
            WeightsError: when the file holds no state dict, does not fit, or, in part, no parameter of it does.
        """
        if self.resume_dir is not None and checkpoint_epochs(Path(self.resume_dir)):
            return
        network = getattr(self.network, "module", self.network)
        wanted: dict[str, Tensor] = network.state_dict()
        found = fitting_heads(read_weights(self.path), network)
        # Names that the network does not have may be those of the other QKV layout, which it converts as it loads.
        other = {name for name, own in wanted.items() if name in found and found[name].shape != own.shape}
        try:
            result = network.load_state_dict({k: v for k, v in found.items() if k not in other}, strict=False)
        except RuntimeError as error:
            raise self._refusal(0, len(wanted), [" ".join(str(error).split())[:200]]) from error
        missing, surplus = sorted(result.missing_keys), sorted(result.unexpected_keys)
        fitting = len(wanted) - len(missing)
        if not fitting or (not self.partial and (missing or surplus)):
            raise self._refusal(fitting, len(wanted), missing + surplus)
        fresh = f"; left as they were: {_first(missing)}" if missing else ""
        engine.logger.info(f"Started from {self.path}: {fitting} of {len(wanted)} parameters{fresh}.")

    def _refusal(self, fitting: int, wanted: int, others: list[str]) -> WeightsError:
        hint = "; init_partial true takes the parameters that fit" if fitting and not self.partial else ""
        found = f"{fitting} of the network's {wanted} parameters fit in name and shape (others: {_first(others)})"
        return WeightsError(self.path, found, f"weights of this network are wanted{hint}")


def _first(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
