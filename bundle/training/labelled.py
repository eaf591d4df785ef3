"""The brain's training on scans with label maps, where a client gives these in place of label maps alone.

MONAI Label's Train puts ``{"image": path, "label": path}`` items where ``configs/train.json`` has its label maps. The
labels hold FreeSurfer's codes, or channels as the label map that MONAI Label was given by this bundle.
The contract is held by ``tests/bundle/training/test_labelled_training.py``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.choices import LABEL_VALUES
from bundle.datasets import Case, DataFacts, PairedDataset, label_map_facts
from bundle.errors import InputError, OptionError
from bundle.io.label_map import read_label_map
from bundle.labels import Label, read_labels
from bundle.model.fingerprint import files_digest
from bundle.running import raw_config
from bundle.synthesis import SyntheticBrainDataset

LISTED = 8


def is_labelled(data: Any) -> bool:
    """Tell whether data are items of an image and its labels, and not paths of label maps."""
    return isinstance(data, Sequence) and bool(data) and all(isinstance(item, Mapping) for item in data)


def read_values(table: Sequence[Label], chosen: str = "auto") -> str:
    """Return what the label maps of the running config's training hold, ``"codes"`` or ``"channels"``.

    A training on label maps alone has codes, whatever it validates with.

    Args:
        table: the structures.
        chosen: one of the two, or ``"auto"``: channels where all values are channels and not all of them codes, codes
            where some are no channels.

    Raises:
        OptionError: when the values could be either, when some could only be codes and others only channels, or for
            another choice.
        InputError: when a label map cannot be read.
    """
    if chosen in LABEL_VALUES:
        return chosen
    if chosen != "auto":
        found = f"found {chosen!r}"
        raise OptionError("label_values", found, f"one of auto, {', '.join(LABEL_VALUES)} is wanted")
    data, held_out = (raw_config(f"{part}#dataset#data") for part in ("train", "validate"))
    if not is_labelled(data):
        return "codes"
    cases = _cases([*data, *(held_out if is_labelled(held_out) else [])])
    values = {int(value) for case in cases for value in np.unique(read_label_map(case.label).codes)}
    codes, channels = {label.code for label in table}, {label.channel for label in table}
    only_codes, only_channels = values & codes - channels, values & channels - codes
    wanted = "label_values codes or channels is wanted"
    if only_codes and only_channels:
        found = (
            f"found label maps of both kinds: codes such as {min(only_codes)}, channels such as {min(only_channels)}"
        )
        raise OptionError("label_values", found, wanted)
    if values <= channels and not only_channels:
        listed = ", ".join(map(str, sorted(values)[:LISTED]))
        raise OptionError("label_values", f"found values that codes and channels both have ({listed})", wanted)
    return "codes" if values - channels else "channels"


def brain_dataset(data: Any, length: int, seed: int, pairs: Mapping[str, Any], **options: Any) -> Any:
    """Return the samples of a training: drawn from label maps, or the augmented images of items with both.

    Args:
        data: paths of label maps, or items ``{"image": path, "label": path}``.
        length: samples of an epoch that are drawn from label maps; of items it is a pass.
        seed: of the samples.
        pairs: of items: ``preprocessing``, which gives channels, and ``augmentation``.
        options: see ``SyntheticBrainDataset``.

    Raises:
        InputError: when a file cannot be used.
    """
    if not is_labelled(data):
        return SyntheticBrainDataset(data=data, length=length, seed=seed, **options)
    table, group = read_labels(options["label_table"]), int(options.get("group", 1))
    length = group * math.ceil(len(data) / group)
    channels = {label.channel: label.channel for label in table}
    return PairedDataset(_cases(data), table, **pairs, length=length, seed=seed, channels=channels)


def training_facts(folder: str | Path, data: Any) -> DataFacts:
    """Return what a training is on: label maps of a folder, or items, wherever they lie."""
    if not is_labelled(data):
        return label_map_facts(folder)
    cases = _cases(data)
    return DataFacts(_common(cases).name, len(cases), _digest(cases), "images with labels")


def training_name() -> str:
    """Return what the folder of the running config's training is called: one of items is named after what they are.

    Label maps that were corrected, or more of them, are another training, which takes another folder.
    """
    data = raw_config("train#dataset#data")
    return f"labelled_{_digest(_cases(data))[:12]}" if is_labelled(data) else "brain"


def _cases(data: Sequence[Mapping[str, Any]]) -> list[Case]:
    """Return items as cases, and refuse what is none."""
    cases = []
    for item in data:
        if not all(isinstance(item.get(key), (str, Path)) for key in ("image", "label")):
            raise InputError("train#dataset#data", f"found {dict(item)}", "an image and a label are wanted", "dataset")
        image, label = Path(item["image"]), Path(item["label"])
        cases.append(Case(image.name, image, label, image.name))
    return cases


def _common(cases: Sequence[Case]) -> Path:
    return Path(os.path.commonpath([path.resolve().parent for case in cases for path in (case.image, case.label)]))


def _digest(cases: Sequence[Case]) -> str:
    return files_digest(_common(cases), [case.image for case in cases], [case.label for case in cases])
