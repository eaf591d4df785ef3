"""Options that say how scans are segmented, for all programs that do so."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from bundle.choices import ENGINES, PRECISIONS
from scripts.command import ROOT

CONFIG = ROOT / "configs" / "inference.json"
OVERRIDES = (
    *("device", "model", "checkpoint", "engine", "precision", "mirror_averaging"),
    *("assume_affine", "fill_nonfinite", "frame", "trust", "max_memory", "probabilities"),
)
"""Options that replace the config id of their name when they are given."""
PLACES = ("model", "checkpoint")
"""Of these, what are names of files."""
ALL = "all"


def add_scan_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options; :func:`config_of` and :func:`overrides_of` read them."""
    group = parser.add_argument_group("how scans are segmented")
    add = group.add_argument
    add("--device", help="torch device, such as cpu or cuda:0 (default: a GPU when there is one)")
    add("--engine", choices=ENGINES, help="what computes the network (default: auto)")
    add("--precision", choices=PRECISIONS, help="numbers it computes in (default: float32)")
    for name, text in (
        ("--mirror-averaging", "average with the mirror image: a little better, for twice the network's time"),
        ("--assume-affine", "accept files without an orientation"),
        ("--fill-nonfinite", "set NaN and Inf to 0 instead of refusing the file"),
    ):
        add(name, action="store_true", default=None, help=text)
    add("--frame", type=int, metavar="N", help="which volume of a 4D to 7D file, counted from 0")
    for form in ("sform", "qform"):
        text = f"use the {form} where sform and qform are both there, even if they contradict each other"
        add(f"--trust-{form}", dest="trust", action="store_const", const=form, help=text)
    add("--max-memory", metavar="SIZE", help="refuse scans that need more memory, such as 3G (default: what is free)")
    text = "write probability maps of these structures, or of all (after the inputs)"
    add("--probabilities", nargs="+", action=_Codes, metavar="CODE", help=text)
    add(
        "--model",
        action="append",
        metavar="FOLDER",
        help="folder of a model, or its zip (default: models, the brain); given again, models are averaged",
    )
    add("--checkpoint", metavar="FILE", help="other weights, or an exported model (default: its own)")
    add(
        "--config",
        action="append",
        metavar="FILE",
        help="inference config (default: configs/inference.json), or an overlay; may be given again",
    )


def is_shipped(options: argparse.Namespace) -> bool:
    """Tell whether the config is the bundle's: one of one's own may name anything of MONAI's."""
    return options.config in (None, [str(CONFIG)])


def config_of(options: argparse.Namespace, place: Callable[[str], str] = lambda path: path) -> tuple[str, ...]:
    """Return the configs; ``place`` makes of names of files what holds where they are read."""
    return tuple(place(str(path)) for path in options.config or [CONFIG])


def overrides_of(
    options: argparse.Namespace, place: Callable[[str], str] = lambda path: path
) -> tuple[tuple[str, Any], ...]:
    """Return pairs of config ids and the values that replace theirs, sorted.

    Args:
        options: the command line.
        place: what to make of names of files; workers may run in another folder.
    """
    found: dict[str, Any] = {"bundle_root": str(ROOT)}
    for name in OVERRIDES:
        value = getattr(options, name)
        if value is None:
            continue
        if name in PLACES:
            paths = tuple(map(place, value if isinstance(value, list) else [value]))
            value = paths[0] if len(paths) == 1 else paths
        elif name == "probabilities":
            value = value if value == ALL else tuple(value)
        found[name] = value
    return tuple(sorted(found.items()))


class _Codes(argparse.Action):
    """Takes codes of structures, or ``"all"``."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        if values != [ALL] and not all(word.isdecimal() for word in values):
            parser.error(f"argument {self.option_strings[0]}: found {' '.join(values)!r}, codes or all are wanted")
        setattr(namespace, self.dest, ALL if values == [ALL] else [int(word) for word in values])
