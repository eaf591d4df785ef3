"""What keeps scores from misleading: codes that only one side has, and cases that a training has seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bundle.evaluation.names import plain_name
from bundle.evaluation.scores import CaseScores, Scorer
from bundle.model import Model

ALL_CASES, HELD_OUT = "all", "held_out"
"""Values of the id ``cases``."""
SHOWN = 8


def side_lines(cases: Sequence[CaseScores], scorer: Scorer) -> list[str]:
    """Return a line for each way in which the codes of predictions and references do not go together.

    Args:
        cases: scored by ``scorer``.
        scorer: the rules; what is ignored or not scored is not looked for.
    """
    passed_over = {0, *scorer.ignore, *scorer.unscored}
    known = {label.code for label in scorer.table}
    sides = {
        "prediction": {code for case in cases for code in case.predicted_codes},
        "reference": {code for case in cases for code in case.reference_codes},
    }
    lines = []
    for side, codes in sides.items():
        unknown = sorted(codes - known - passed_over)
        if unknown:
            lines.append(f"codes {_listed(unknown)} of {side}s: not in the label table, counted as background")
    for side, other in (("prediction", "reference"), ("reference", "prediction")):
        alone = sorted((sides[side] - sides[other] - passed_over) & known)
        if alone:
            lines.append(f"codes {_listed(alone)}: in {side}s only, in no {other}; their Dice is 0")
    return lines


def seen_line(names: Iterable[str], model: Model | None) -> str | None:
    """Return the line that says how many of the cases a model was trained on, or ``None`` where it was on none."""
    listed, trained = list(names), _plain(model.trained_on if model else [])
    seen = [name for name in listed if plain_name(name) in trained]
    if not seen or model is None:
        return None
    return (
        f"{len(seen)} of {len(listed)} cases were seen in the training of {model.folder}; "
        "their scores say nothing about others"
    )


def chosen_names(names: Sequence[str], model: Model | None, cases: str = HELD_OUT) -> set[str] | None:
    """Return the names that are to be scored, or ``None`` for all of them.

    Args:
        names: of all cases.
        model: what predicted them.
        cases: ``"held_out"``: those that the model held out, where it was trained on others of them; ``"all"``.
    """
    if model is None or cases == ALL_CASES:
        return None
    trained, held_out = _plain(model.trained_on), _plain(model.held_out or [])
    chosen = {name for name in names if plain_name(name) in held_out}
    return chosen if chosen and any(plain_name(name) in trained for name in names) else None


def _plain(names: Iterable[str]) -> set[str]:
    return {plain_name(name) for name in names}


def _listed(codes: Sequence[int]) -> str:
    return ", ".join(map(str, codes[:SHOWN])) + (", ..." if len(codes) > SHOWN else "")
