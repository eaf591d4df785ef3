"""The files that an evaluation leaves behind: scores, summary and picture, all of them or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.evaluation.compare import Comparison
from bundle.evaluation.plot import draw_dice
from bundle.evaluation.scores import CaseScores, Scorer
from bundle.evaluation.summary import BOOTSTRAP_SAMPLES, CONFIDENCE, Summary, summarise
from bundle.evaluation.tables import summary_record, write_json, write_scores

REPORT_FILES = ("scores.csv", "summary.json", "dice.png")


def check_report(output_dir: str | Path, overwrite: bool = False) -> None:
    """Refuse to start when a file of an earlier evaluation is there and may not be overwritten.

    Raises:
        FileExistsError: naming the file.
        NotADirectoryError: when ``output_dir`` is a file.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: found a file; a folder, or a free name, is wanted.")
    for path in (folder / name for name in REPORT_FILES):
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path}: exists already; a free name, or overwrite, is wanted.")


def save_report(
    output_dir: str | Path,
    scorer: Scorer,
    sets: Mapping[str, Sequence[CaseScores]],
    seed: int = 0,
    comparisons: Sequence[Comparison] = (),
    overwrite: bool = False,
    **settings: Any,
) -> Summary:
    """Write ``scores.csv``, ``summary.json`` and ``dice.png``; they appear together once all are complete.

    Args:
        output_dir: folder of the files, made when missing.
        scorer: the rules that made the scores.
        sets: scores by the name of the set; summary and picture are of the first.
        seed: of the bootstrap.
        comparisons: of the first set with the second.
        overwrite: replace existing files.
        settings: further entries of the summary, such as the label table.

    Raises:
        FileExistsError: when a file exists and ``overwrite`` is false.
    """
    check_report(output_dir, overwrite)
    first = next(iter(sets.values()))
    summary = summarise(first, seed)
    settings["bootstrap"] = {"samples": BOOTSTRAP_SAMPLES, "confidence": CONFIDENCE, "seed": seed}
    mean = summary.overall["dice"].mean
    title = f"Dice of {len(first)} case{'s' * (len(first) != 1)}, mean {mean:.3f}"
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as unfinished:
        scores, record, picture = (Path(unfinished) / name for name in REPORT_FILES)
        write_scores(sets, scores)
        write_json(summary_record(scorer, sets, summary, comparisons, **settings), record)
        draw_dice(first, scorer.table, picture, title)
        for name in REPORT_FILES:
            os.replace(Path(unfinished) / name, folder / name)
    return summary
