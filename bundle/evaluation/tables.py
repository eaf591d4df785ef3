"""Scores as text: the table a person reads, the CSV a spreadsheet reads, the JSON a program reads."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bundle.evaluation.compare import Comparison, Difference
from bundle.evaluation.scores import HD_PERCENTILE, CaseScores, Scorer, StructureScore
from bundle.evaluation.summary import Estimate, Summary
from bundle.io.whole import whole_file
from bundle.provenance import versions

COLUMNS = (
    *("dice", "nsd", "hd95_mm", "volume_error_percent", "volume_error_mm3", "reference_mm3", "predicted_mm3"),
    "mirrored_share",
)
PACKAGES = ("monai", "torch", "numpy", "scipy", "nibabel", "matplotlib")
OVERALL = "all structures"
LOWER_IS_BETTER = ("hd95_mm",)


def write_scores(sets: Mapping[str, Sequence[CaseScores]], path: str | Path, overwrite: bool = True) -> None:
    """Write one line for each set of predictions, case and structure, as CSV.

    What is not counted is an empty field, the HD95 of a structure that only one side has is ``inf``.

    Args:
        sets: scores by the name of the set, such as ``prediction``.
        path: the file.
        overwrite: replace an existing file.

    Raises:
        ExistsError: when the file exists and ``overwrite`` is false.
    """
    with whole_file(path, overwrite) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("set", "case", "code", "structure", *COLUMNS))
        for name, cases in sets.items():
            for case in cases:
                for score in case.structures:
                    writer.writerow((name, case.case, score.label.code, score.label.name, *_fields(score)))


def summary_record(
    scorer: Scorer,
    sets: Mapping[str, Sequence[CaseScores]],
    summary: Summary,
    comparisons: Sequence[Comparison] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Return what ``summary.json`` holds: the rules, the counts, the versions, and every estimate.

    Args:
        scorer: the rules.
        sets: scores by the name of the set; ``summary`` is of the first.
        summary: estimates of the first set.
        comparisons: of the first set with the second.
        settings: further entries, such as the files and the seed.
    """
    unknown = {name: sorted({code for case in cases for code in case.unknown_codes}) for name, cases in sets.items()}
    record: dict[str, Any] = {
        "versions": versions(PACKAGES),
        **settings,
        "ignored_codes": list(scorer.ignore),
        "unscored_codes": list(scorer.unscored),
        "unknown_codes": unknown,
        "nsd_tolerance_mm": scorer.tolerance_mm,
        "hausdorff_percentile": HD_PERCENTILE,
        "counts": {"cases": len(summary.cases), "structures": len(summary.structures)},
        "cases": list(summary.cases),
        "overall": {metric: asdict(estimate) for metric, estimate in summary.overall.items()},
        "structures": {
            row.label.name: {"code": row.label.code, "one_sided": row.one_sided}
            | {metric: asdict(estimate) for metric, estimate in row.estimates.items()}
            for row in summary.structures
        },
        "mean_dice_of_case": {case.case: _mean_dice(case) for case in next(iter(sets.values()))},
        "mirrored_share_of_case": {case.case: case.mirrored_share for case in next(iter(sets.values()))},
    }
    if comparisons:
        record["comparison"] = {comparison.metric: _comparison_record(comparison) for comparison in comparisons}
    return record


def write_json(record: Any, path: str | Path, overwrite: bool = True) -> None:
    """Write JSON that every parser reads: what is NaN or infinite becomes null.

    Raises:
        ExistsError: when the file exists and ``overwrite`` is false.
    """
    text = json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(path, overwrite) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def summary_lines(summary: Summary) -> list[str]:
    """Return the table to print: one line a structure, means with their intervals, and all structures last."""
    width = max(len(OVERALL), *(len(row.label.name) for row in summary.structures))
    head = f"{'structure':{width}} {'cases':>5}   {'Dice':<22} {'NSD':<22} {'HD95, mm':<20} {'volume error, %':<22}"
    lines = [head.rstrip()]
    rows = [(row.label.name, row.estimates, row.one_sided) for row in summary.structures]
    for name, found, one_sided in [*rows, (OVERALL, summary.overall, 0)]:
        line = (
            f"{name:{width}} {found['dice'].count:>5}   {_interval(found['dice']):<22} {_interval(found['nsd']):<22} "
            f"{_interval(found['hd95_mm'], 2):<20} {_interval(found['volume_error_percent'], 1, '+'):<22}"
        )
        lines.append((line + (f" missing on one side in {one_sided}" if one_sided else "")).rstrip())
    return lines


def mirror_line(summary: Summary) -> str | None:
    """Return the left and right confusion in one line, or None when no structure has a counterpart."""
    share = summary.overall["mirrored_share"]
    if not share.count:
        return None
    sided = [row for row in summary.structures if row.estimates["mirrored_share"].count]
    worst = max(sided, key=lambda row: row.estimates["mirrored_share"].mean)
    return (
        f"left and right mixed up: {share.mean:.3%} of the voxels with a side; "
        f"most in {worst.label.name}, {worst.estimates['mirrored_share'].mean:.3%}"
    )


def comparison_lines(comparison: Comparison, names: Sequence[str] = ("first", "second")) -> list[str]:
    """Return the table to print: first set minus second, one line a structure, the per-case means last.

    Args:
        comparison: of one metric.
        names: of the two sets.
    """
    rows = [*((row.label.name if row.label else OVERALL, row) for row in comparison.structures)]
    rows.append((OVERALL, comparison.overall))
    width = max(len(name) for name, _ in rows)
    better = "below" if comparison.metric in LOWER_IS_BETTER else "above"
    lines = [f"{comparison.metric}: {names[0]} minus {names[1]}; {better} 0, {names[0]} is better"]
    lines += [f"{comparison.metric + ', difference':{width}} {'cases':>5}   {'mean':<25} {'p':>8} {'p (Holm)':>9}"]
    lines += [
        f"{name:{width}} {row.difference.count:>5}   {_interval(row.difference, 4, '+'):<25} "
        f"{_p_value(row.p_value):>8} {_p_value(row.p_holm) if row.label else '':>9}".rstrip()
        for name, row in rows
    ]
    count = comparison.overall.difference.count
    lines.append(f"with {count} cases p cannot go below {comparison.smallest_p:.2g}")
    return lines


def _fields(score: StructureScore) -> list[str]:
    values = [getattr(score, column) for column in COLUMNS]
    return ["" if math.isnan(value) else f"{value:.6g}" for value in values]


def _mean_dice(case: CaseScores) -> float:
    counted = [score.dice for score in case.structures if math.isfinite(score.dice)]
    return sum(counted) / len(counted) if counted else float("nan")


def _comparison_record(comparison: Comparison) -> dict[str, Any]:
    def record(row: Difference) -> dict[str, Any]:
        return asdict(row.difference) | {"p_value": row.p_value, "p_holm": row.p_holm}

    return {
        "test": "Wilcoxon signed-rank, two-sided, first minus second",
        "smallest_p": comparison.smallest_p,
        "overall": record(comparison.overall),
        "structures": {row.label.name: record(row) for row in comparison.structures if row.label},
    }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _interval(estimate: Estimate, digits: int = 3, sign: str = "") -> str:
    if not estimate.count:
        return "-"
    mean = f"{estimate.mean:{sign}.{digits}f}"
    if estimate.count < 2:
        return mean
    return f"{mean} [{estimate.low:{sign}.{digits}f}, {estimate.high:{sign}.{digits}f}]"


def _p_value(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}"
