"""Mixed precision on any device: MONAI's engines know CUDA's autocast alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from bundle.machine import use_bfloat16


class MixedPrecisionInferer(Inferer):
    """Run another inferer under autocast to bfloat16; what comes out is float32, so that the loss is computed in it.

    bfloat16 has the exponents of float32, so that gradients need no scaling.

    Args:
        inferer: the inferer that runs the network.
        precision: ``"float32"``, ``"bfloat16"`` or ``"auto"``, see ``use_bfloat16``.
        device: where the network is.

    Raises:
        OptionError: for an unknown precision.
    """

    def __init__(self, inferer: Inferer, precision: str, device: torch.device | str) -> None:
        super().__init__()
        self.inferer = inferer
        self.device_type = torch.device(device).type
        self.bfloat16 = use_bfloat16(precision, device)
        logging.getLogger(__name__).info(
            f"Precision {precision} on {self.device_type}: {'bfloat16' if self.bfloat16 else 'float32'}."
        )

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits of the wrapped inferer as float32."""
        with torch.autocast(self.device_type, dtype=torch.bfloat16, enabled=self.bfloat16):
            logits: Tensor = self.inferer(inputs, network, *args, **kwargs)
            return logits.float()
