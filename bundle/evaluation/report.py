"""The files that an evaluation leaves behind: scores, summary and picture, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.errors import ExistsError
from bundle.evaluation.compare import Comparison
from bundle.evaluation.plot import draw_dice
from bundle.evaluation.scores import CaseScores, Scorer
from bundle.evaluation.summary import BOOTSTRAP_SAMPLES, CONFIDENCE, Summary, summarise
from bundle.evaluation.tables import summary_record, write_json, write_scores
from bundle.io.whole import refuse_existing, whole_set

REPORT_FILES = ("scores.csv", "dice.png", "summary.json")
"""The last one is the commit mark."""


def check_report(output_dir: str | Path, overwrite: bool = False) -> None:
    """Refuse to start when a file of an earlier evaluation is there and may not be overwritten.

    Raises:
        ExistsError: naming the file, or ``output_dir`` when that is one.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise ExistsError(folder, "found a file", "a folder, or a free name, is wanted")
    if not overwrite:
        refuse_existing([folder / name for name in REPORT_FILES])


def save_report(
    output_dir: str | Path,
    scorer: Scorer,
    sets: Mapping[str, Sequence[CaseScores]],
    seed: int = 0,
    comparisons: Sequence[Comparison] = (),
    overwrite: bool = False,
    **settings: Any,
) -> Summary:
    """Write ``scores.csv``, ``dice.png`` and ``summary.json``; they appear together once all are complete.

    Args:
        output_dir: folder of the files, made when missing.
        scorer: the rules that made the scores.
        sets: scores by the name of the set; the summary is of the first; the picture shows the first two.
        seed: of the bootstrap.
        comparisons: of the first set with the second.
        overwrite: replace existing files.
        settings: further entries of the summary, such as the label table.

    Raises:
        ExistsError: when a file exists and ``overwrite`` is false.
    """
    check_report(output_dir, overwrite)
    first = next(iter(sets.values()))
    summary = summarise(first, seed)
    settings["bootstrap"] = {"samples": BOOTSTRAP_SAMPLES, "confidence": CONFIDENCE, "seed": seed}
    with whole_set([Path(output_dir) / name for name in REPORT_FILES], overwrite) as (scores, picture, record):
        write_scores(sets, scores)
        other = list(sets.values())[1] if len(sets) > 1 else ()
        draw_dice(first, scorer.table, picture, plot_title(sets, settings.get("sources", {}), seed), other=other)
        write_json(summary_record(scorer, sets, summary, comparisons, **settings), record)
    return summary


def plot_title(sets: Mapping[str, Sequence[CaseScores]], sources: Mapping[str, Any], seed: int = 0) -> str:
    """Return a line for each set: number of cases, mean, and where there are two, how it is drawn and its folder."""
    lines = []
    for (name, cases), shade in zip(sets.items(), ("above", "pale, below"), strict=False):
        mean = summarise(cases, seed).overall["dice"].mean
        line = f"Dice of {len(cases)} case{'s' * (len(cases) != 1)}, mean {mean:.3f}"
        if len(sets) > 1:
            folder = f": {'/'.join(Path(sources[name]).parts[-2:])}" if name in sources else ""
            line += f" ({shade}){folder}"
        lines.append(line)
    return "\n".join(lines)
