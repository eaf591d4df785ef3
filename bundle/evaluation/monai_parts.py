"""Scoring inside a MONAI evaluator: a transform that scores, a metric that averages, a handler that writes."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.config import KeysCollection
from monai.transforms import MapTransform

from bundle.evaluation.pairing import case_name
from bundle.evaluation.report import save_report
from bundle.evaluation.scores import CaseScores, Scorer
from bundle.evaluation.sides import side_lines
from bundle.evaluation.summary import case_means, metric_values
from bundle.evaluation.tables import mirror_line, summary_lines
from bundle.io.geometry import Grid
from bundle.io.label_map import check_same_grid, read_label_map

SCORES = "scores"


class ScoreLabelMapd(MapTransform):
    """Score a restored label map against the reference's file, on the grid of the scan's file.

    Adds ``scores``, a ``CaseScores`` named after the reference.

    Args:
        keys: label map of codes, shape of the file that was read.
        scorer: the rules.
        image_key: the image, a ``MetaTensor`` that knows its file and that file's affine.
        reference_key: path of the reference.
        assume_affine: accept a reference without sform and qform.
    """

    def __init__(
        self,
        keys: KeysCollection,
        scorer: Scorer,
        image_key: str = "image",
        reference_key: str = "reference",
        assume_affine: bool = False,
    ) -> None:
        super().__init__(keys)
        self.scorer = scorer
        self.image_key = image_key
        self.reference_key = reference_key
        self.assume_affine = assume_affine

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Score and pass the data on.

        Raises:
            InputError: when the reference cannot be used or lies on another grid.
        """
        result = dict(data)
        image, path = result[self.image_key], result[self.reference_key]
        for key in self.key_iterator(result):
            codes = np.asarray(result[key])
            affine = np.asarray(image.meta["original_affine"], dtype=np.float64)
            reference = read_label_map(path, self.assume_affine)
            check_same_grid(Grid(Path(image.meta["filename_or_obj"]), codes.shape, affine), reference.grid)
            result[SCORES] = self.scorer.score(case_name(path), codes, reference.codes, affine)
        return result


class MeanScore(Metric):
    """Mean over cases of each case's mean over its structures, as ``Summary.overall`` has it, in one process.

    Args:
        metric: an attribute of ``StructureScore``.
    """

    def __init__(self, metric: str = "dice") -> None:
        self.metric = metric
        self.cases: list[CaseScores] = []
        super().__init__()

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all cases."""
        self.cases = []

    @reinit__is_reduced
    def update(self, output: Sequence[Mapping[str, Any]]) -> None:
        """Take the scores of a batch."""
        self.cases += [item[SCORES] for item in output]

    def compute(self) -> float:
        """Return the mean; NaN when no structure was counted."""
        if not self.cases:
            raise NotComputableError("MeanScore: found no case; at least one is wanted.")
        means = case_means(metric_values(self.cases, self.metric))
        counted = means[np.isfinite(means)]
        return float(counted.mean()) if len(counted) else float("nan")


class SaveReport:
    """Collect the scores of a run, and write and log its report at the end.

    Args:
        output_dir: folder of ``scores.csv``, ``summary.json`` and ``dice.png``.
        scorer: the rules.
        seed: of the bootstrap.
        overwrite: replace existing files.
        settings: further entries of the summary.
    """

    def __init__(
        self,
        output_dir: str | Path,
        scorer: Scorer,
        seed: int = 0,
        overwrite: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir = output_dir
        self.scorer = scorer
        self.seed = seed
        self.overwrite = overwrite
        self.settings = dict(settings or {})
        self.cases: list[CaseScores] = []
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI evaluator."""
        engine.add_event_handler(Events.STARTED, lambda _: self.cases.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _collect(self, engine: Engine) -> None:
        self.cases += [item[SCORES] for item in engine.state.output]  # type: ignore[union-attr]

    def _write(self, engine: Engine) -> None:
        cases = sorted(self.cases, key=lambda case: case.case)
        settings = {"seed": self.seed, "overwrite": self.overwrite} | self.settings
        summary = save_report(self.output_dir, self.scorer, {"prediction": cases}, **settings)
        for line in side_lines(cases, self.scorer):
            self.logger.warning(line)
        lines = [*summary_lines(summary), mirror_line(summary)]
        self.logger.info("\n".join(["scores", *(line for line in lines if line)]))
