"""The inference config, taken apart so that one network segments scan after scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigWorkflow

from bundle.results.outputs import OutputPaths


class Segmenter:
    """Runs the transforms, the inferer and the network of an inference config on one scan at a time.

    Args:
        config_file: inference config, or a list of one and the overlays that go over it.
        overrides: config ids to replace, as ``python -m monai.bundle run`` takes them.

    Raises:
        WeightsError: when the checkpoint cannot be used.
    """

    def __init__(
        self, config_file: str | Path | Sequence[str | Path] = "configs/inference.json", **overrides: Any
    ) -> None:
        files = [config_file] if isinstance(config_file, (str, Path)) else config_file
        names = [str(name) for name in files]
        workflow = ConfigWorkflow(names, logging_file=False, workflow_type="infer", **overrides)
        self.parser = parser = workflow.parser
        self.device = torch.device(parser.get_parsed_content("device"))
        self.overwrite = bool(parser.get_parsed_content("overwrite"))
        self.output_dir = Path(parser.get_parsed_content("output_dir"))
        self.network = parser.get_parsed_content("network")
        self.preprocessing = parser.get_parsed_content("preprocessing")
        self.inferer = parser.get_parsed_content("inferer")
        self.postprocessing = parser.get_parsed_content("postprocessing")

    def logits(self, data: dict[str, Any]) -> torch.Tensor:
        """Return the logits of a preprocessed scan, shape (classes, X, Y, Z)."""
        with torch.inference_mode():
            return self.inferer(data["image"][None].to(self.device), self.network)[0]

    def labels(self, data: dict[str, Any], logits: torch.Tensor) -> np.ndarray:
        """Return the label map of a preprocessed scan from its logits, which stay as they are; nothing is written."""
        result = {**data, "pred": logits.clone()}
        for transform in self.postprocessing.transforms[:-1]:
            result = transform(result)
        return result["pred"]

    def segment(self, path: str | Path) -> OutputPaths:
        """Segment one scan, write its outputs and return their paths.

        Raises:
            InputError: when the scan cannot be used (inside MONAI's ``RuntimeError``).
            FileExistsError: when an output exists and ``overwrite`` is false.
        """
        paths = OutputPaths.of(path, self.output_dir)
        if not self.overwrite:
            paths.refuse_existing()
        data = self.preprocessing({"image": str(path)})
        self.postprocessing({**data, "pred": self.logits(data)})
        return paths
