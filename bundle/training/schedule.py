"""The learning rate over a training."""

from __future__ import annotations

from typing import Any

from monai.optimizers import WarmupCosineSchedule


class ResumableWarmupCosine(WarmupCosineSchedule):
    """MONAI's linear warm-up and cosine, of which a checkpoint keeps the step alone.

    A resumed training thus takes its length and its rate from its command: one that is made longer goes on along the
    longer cosine, where MONAI's schedule would rise again.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return the step."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to a step and set its learning rate."""
        self.last_epoch = state_dict["last_epoch"]
        self._last_lr = self.get_lr()  # type: ignore[no-untyped-call]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
