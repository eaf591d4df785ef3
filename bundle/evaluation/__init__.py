"""Evaluation: label maps against references, summed up, compared, tabled and drawn."""

from bundle.evaluation.compare import Comparison, Difference, compare
from bundle.evaluation.monai_parts import MeanScore, SaveReport, ScoreLabelMapd
from bundle.evaluation.pairing import Pair, case_name, evaluation_items, pair_label_maps
from bundle.evaluation.plot import draw_dice
from bundle.evaluation.report import check_report, save_report
from bundle.evaluation.scores import CaseScores, Scorer, StructureScore
from bundle.evaluation.summary import Estimate, StructureSummary, Summary, summarise
from bundle.evaluation.tables import comparison_lines, mirror_line, summary_lines
from bundle.io.label_map import LabelMap, check_same_grid, read_grid, read_label_map

__all__ = [
    "CaseScores",
    "Comparison",
    "Difference",
    "Estimate",
    "LabelMap",
    "MeanScore",
    "Pair",
    "SaveReport",
    "ScoreLabelMapd",
    "Scorer",
    "StructureScore",
    "StructureSummary",
    "Summary",
    "case_name",
    "check_report",
    "check_same_grid",
    "compare",
    "comparison_lines",
    "draw_dice",
    "evaluation_items",
    "mirror_line",
    "pair_label_maps",
    "read_grid",
    "read_label_map",
    "save_report",
    "summarise",
    "summary_lines",
]
