"""The folder of a model whose outputs for the scan were trained: what its trunk's folder says, and what they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bundle.errors import OptionError
from bundle.model.fingerprint import digest
from bundle.model.folder import MODEL_FILE, Model
from bundle.model.quality import QualityGroups, check_quality
from bundle.model.write import PACKAGES
from bundle.provenance import sha256, versions
from bundle.running import raw_config
from bundle.training.judging import judging_definition
from bundle.training.model import TrainedModel

COMPARED = ("difficulties", "samples_drawn", "tokens_per_step", "learning_rate", "train#dataset#brains")
"""Ids of a config that belong to the fingerprint as they stand."""


@dataclass(eq=False, kw_only=True)
class QualityModel(TrainedModel):
    """The folder of such a training as a model.

    Args:
        trunk: the model whose results are judged.
        quality_groups: codes of the structures of each group, by its name.

    Raises:
        OptionError: when a code is none of the trunk's.
    """

    trunk: Model
    quality_groups: QualityGroups = field(default_factory=dict)

    def _fingerprint(self, network: Mapping[str, Any] | None, preprocessing: Any) -> dict[str, Any]:
        return {
            "trunk": sha256(self.trunk.weights),
            "dataset_dir": self.data.value,
            "quality_groups": digest(self.quality_groups),
            **{name: digest(raw) for name in COMPARED if (raw := raw_config(name)) is not None},
            "seed": self.seed,
        }

    def _content(self, network: Mapping[str, Any] | None, preprocessing: Any) -> dict[str, Any]:
        content = {
            **self.trunk.content,
            "weights": {},
            "network_def": judging_definition(self.trunk, self.quality_groups),
            "parameters": self.parameters,
            "quality": {
                "groups": {name: list(codes) for name, codes in self.quality_groups.items()},
                "trunk": sha256(self.trunk.weights),
                "data": self.data.record(),
                "steps": 0,
                "scores": None,
            },
            "licence": self.licence or self.trunk.content["licence"],
            "fingerprint": self.fingerprint,
            "versions": versions(PACKAGES),
        }
        if wrong := check_quality(content):
            raise OptionError(
                "quality_groups", f"found {wrong}", f"codes of {self.trunk.folder / MODEL_FILE} are wanted"
            )
        return content

    def _note(self, name: str, steps: int, epochs: int, scores: Mapping[str, float]) -> None:
        """Note how far the outputs are trained; what is said of the trunk stays."""
        quality = self.content["quality"]
        known = {**(quality["scores"] or {}), name: dict(scores)} if scores else quality["scores"]
        self.content["quality"] = {**quality, "steps": steps, "scores": known}

    def _keep_scores(self, earlier: Mapping[str, Any]) -> None:
        """Take over what an earlier part of the training has scored."""
        self.content["quality"]["scores"] = earlier["quality"]["scores"]
