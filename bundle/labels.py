"""The table of structures: network channel, FreeSurfer code, name and colour."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DEFAULT_TABLE = Path(__file__).resolve().parents[1] / "configs" / "labels.tsv"


@dataclass(frozen=True)
class Label:
    """One structure: its ``channel`` in the logits, ``code`` in label files, FreeSurfer ``name``, 8-bit ``colour``."""

    channel: int
    code: int
    name: str
    colour: tuple[int, int, int]


def read_labels(path: str | Path = DEFAULT_TABLE) -> list[Label]:
    """Read a label table, background first, ordered by channel.

    Args:
        path: tab-separated file with the columns channel, code, name, red, green, blue.

    Raises:
        ValueError: when the channels are not 0, 1, 2, ... or a code appears twice.
    """
    with open(path, encoding="utf-8", newline="") as file:
        labels = [
            Label(
                int(row["channel"]),
                int(row["code"]),
                row["name"],
                (int(row["red"]), int(row["green"]), int(row["blue"])),
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]
    if [label.channel for label in labels] != list(range(len(labels))):
        raise ValueError(f"{path}: channels must be 0, 1, 2, ..., found {[label.channel for label in labels]}.")
    if len({label.code for label in labels}) != len(labels):
        raise ValueError(f"{path}: every code must appear once.")
    return labels


def channel_codes(labels: list[Label]) -> np.ndarray:
    """Return the code of each channel, int16, shape (channels,): ``codes[channel_map]`` is a label map."""
    return np.array([label.code for label in labels], dtype=np.int16)


def mirrored_channels(labels: list[Label]) -> list[int]:
    """Return for each channel the channel of the structure on the other side (itself on the midline)."""
    by_name = {label.name: label.channel for label in labels}
    swapped = [
        label.name.replace("Left-", "Right-").replace("Right-", "Left-", "Right-" in label.name) for label in labels
    ]
    return [by_name.get(name, label.channel) for name, label in zip(swapped, labels, strict=True)]
