"""What a training leaves as a model: ``model.json`` and ``labels.tsv`` from its start, the weights as they come."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import Tensor

from bundle.datasets import DataFacts, Split
from bundle.io.label_table import write_labels
from bundle.labels import Label, read_labels
from bundle.model.find import BEST
from bundle.model.fingerprint import DIGITS, check_same, check_same_training, digest, table_value
from bundle.model.folder import LABEL_TABLE, MODEL_FILE, WEIGHTS, check_content, read_content
from bundle.model.network import NETWORKS
from bundle.model.write import MODEL_VERSION, PACKAGES, write_description, write_weights
from bundle.provenance import sha256, versions
from bundle.running import plain_arguments, raw_config
from bundle.training.preprocessing import normalisation_of

LONGEST_VALUE = 60
"""Characters of a value in a fingerprint that still fits in a line beside another."""
SAME_FUNCTION = ("_target_", "use_flash_attention")
"""Of a network's definition: what has a line of its own, and what changes no result."""
COMPARED = ("window", "window_mm", "augmentation", "train#loss", "class_weight_power")
GENERATOR = (
    *("train#dataset#options", "train#dataset#brains", "extra_cerebral"),
    *("brains_ignore", "brains_share", "random_contrast", "contrast_by_kind", "sample_uses"),
)
"""Ids of a config that belong to a fingerprint as they stand, beside those that the constructor is given."""
REMAINS = (
    *("checkpoint_*.pt", WEIGHTS, BEST, MODEL_FILE, LABEL_TABLE),
    *("history.csv", "training_curve.png", "training.log"),
)
"""What a training leaves in its folder, and a restart removes."""


@dataclass(eq=False)
class TrainedModel:
    """The folder of a training as a model.

    The first process writes; see ``configs/model.schema.json`` for what. Definitions are taken from the running config.

    Args:
        output_dir: the folder.
        task: what the model is for, in a word.
        table: the structures.
        pixdim: voxel size in mm.
        roi_size: largest window of inference in voxels.
        data: what the training is on.
        parameters: of the network.
        seed: of the training.
        split: the cases, where there is a data set with folds.
        fold: number of the fold, or ``"all"``.
        num_folds: number of folds.
        foreground_crop: threshold and margin of the crop to the head at inference.
        largest_component: codes whose largest piece alone is kept; ``None`` for those of ``one_piece`` in the table.
        groups: codes of the data set by structure.
        ignore: codes of label maps that count neither in the loss nor in a score.
        unscored: codes that are not scored.
        licence: of the data; what the data set says by default.
        init_checkpoint: the weights that it starts from.
        description: what the model finds, and in what, in a sentence.
        flags_left_out: codes of flags that are not looked for in its results.
        restart: whether to start anew where a training is in the folder.
    """

    output_dir: str | Path
    task: str
    table: Sequence[Label]
    pixdim: Sequence[float]
    roi_size: Sequence[int]
    data: DataFacts
    parameters: int
    seed: int
    split: Split | None = None
    fold: int | str = 0
    num_folds: int = 5
    foreground_crop: Mapping[str, float] | None = None
    largest_component: Sequence[int] | None = None
    groups: Mapping[str, Sequence[int]] | None = None
    ignore: Sequence[int] = ()
    unscored: Sequence[int] = ()
    licence: str | None = None
    init_checkpoint: str | Path | None = None
    description: str | None = None
    flags_left_out: Sequence[str] = ()
    restart: bool = False

    def __post_init__(self) -> None:
        self.folder = Path(self.output_dir)
        network, preprocessing = plain_arguments("network_def"), raw_config("validate#preprocessing")
        self.fingerprint = self._fingerprint(network, preprocessing)
        self.content = self._content(network, preprocessing)
        check_content(self.content, self.folder / MODEL_FILE)  # now, and not when the training is over

    def _fingerprint(self, network: Mapping[str, Any] | None, preprocessing: Any) -> dict[str, Any]:
        return {
            "dataset_dir": self.data.value,
            **_split_values(self.split, self.fold, self.num_folds),
            "pixdim": [float(edge) for edge in self.pixdim],
            **{name: _short(raw) for name in (*COMPARED, *GENERATOR) if (raw := raw_config(name)) is not None},
            "preprocessing": digest(preprocessing),
            "labels": table_value(self.table),
            "label_groups": digest(self.groups) if self.groups else None,
            "ignore": list(self.ignore),
            **_network_values(network),
            "seed": self.seed,
            "init_checkpoint": _file_value(self.init_checkpoint),
            "warps": _file_value(raw_config("warps")),
        }

    def _content(self, network: Mapping[str, Any] | None, preprocessing: Any) -> dict[str, Any]:
        window = raw_config("window")
        return {
            "model_version": MODEL_VERSION,
            "task": self.task,
            "description": self.description,
            "weights": {},
            "network_def": network if network and network["_target_"] in NETWORKS else None,
            "parameters": self.parameters,
            "orientation": "RAS",
            "pixdim": [float(edge) for edge in self.pixdim],
            "window": window if isinstance(window, list) else None,
            "roi_size": [int(length) for length in self.roi_size],
            "normalisation": normalisation_of(preprocessing),
            "foreground_crop": dict(self.foreground_crop) if self.foreground_crop else None,
            "labels": {
                "codes": _codes(self.table),
                "names": [label.name for label in self.table],
                "groups": {name: list(codes) for name, codes in self.groups.items()} if self.groups else None,
                "ignore": list(self.ignore),
                "unscored": list(self.unscored),
                "largest_component": None if self.largest_component is None else list(self.largest_component),
            },
            "dataset": self.data.record(),
            "data": None,
            "licence": self.licence or self.data.licence or None,
            "split": _split_record(self.split, self.fold, self.num_folds),
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "training": {"steps": 0, "epochs": 0, "start": _start_weights(self.init_checkpoint), "date": None},
            "versions": versions(PACKAGES),
            "scores": None,
            **({"flags_left_out": list(self.flags_left_out)} if self.flags_left_out else {}),
        }

    def check(self) -> None:
        """Refuse to go on from a training of something else in the folder, before anything else is done.

        Raises:
            TrainingError: naming the id that differs, both values, and the way out.
        """
        check_same_training(self.folder, self.fingerprint, self.restart)

    def check_checkpoint(self, path: Path, earlier: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of a training of something else, as ``check`` does."""
        check_same(path, earlier, self.fingerprint)

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer, before all that reads or writes the folder."""
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, engine: Engine) -> None:
        self.check()
        if engine.state.rank == 0:  # type: ignore[attr-defined]
            if self.restart:
                for path in (path for pattern in REMAINS for path in self.folder.glob(pattern)):
                    path.unlink()
            self._keep()
            write_description(self.content, self.folder)
        idist.barrier()

    def _keep(self) -> None:
        """Take over what is in the folder of a training that goes on, and write the label table if it is not there."""
        going_on = any(self.folder.glob("*.pt"))
        table, description = self.folder / LABEL_TABLE, self.folder / MODEL_FILE
        if not going_on or not table.is_file() or _codes(read_labels(table)) != _codes(self.table):
            write_labels(self.table, table, overwrite=not going_on)  # else somebody has corrected a side
        if going_on and description.is_file():
            self._keep_scores(read_content(description))
        self.content["weights"] = {
            path.name: {"sha256": sha256(path), "bytes": path.stat().st_size}
            for name in (WEIGHTS, BEST)
            if (path := self.folder / name).is_file()
        }

    def _keep_scores(self, earlier: Mapping[str, Any]) -> None:
        """Take over what an earlier part of the training has scored."""
        self.content["scores"] = earlier["scores"]

    def save(self, state: Mapping[str, Tensor], name: str, engine: Any, scores: Mapping[str, float] | None) -> None:
        """Write weights under a name, and what they are of.

        Args:
            state: the weights.
            name: of the file.
            engine: the trainer, whose steps and epochs are noted.
            scores: metrics of the last validation.
        """
        rounded = {key: round(float(value), 6) for key, value in (scores or {}).items() if math.isfinite(value)}
        self._note(name, engine.state.iteration, engine.state.epoch, rounded)
        self.content = write_weights(state, self.folder / name, self.content)

    def _note(self, name: str, steps: int, epochs: int, scores: Mapping[str, float]) -> None:
        """Note how far the training is, and how good the weights of a name are."""
        date = datetime.now(timezone.utc).date().isoformat()
        self.content["training"] |= {"steps": steps, "epochs": epochs, "date": date}
        if scores:
            self.content["scores"] = {**(self.content["scores"] or {}), name: dict(scores)}


def _codes(table: Sequence[Label]) -> list[int]:
    return [label.code for label in table]


def _start_weights(checkpoint: str | Path | None) -> dict[str, str] | None:
    if not checkpoint or not Path(checkpoint).is_file():
        return None  # what is missing is refused when it is read
    return {"file": Path(checkpoint).name, "sha256": sha256(checkpoint)}


def _file_value(path: Any) -> str | None:
    """Return a file as a value that a person compares, wherever it lies."""
    found = _start_weights(path)
    return f"{found['file']} ({found['sha256'][:DIGITS]})" if found else None


def _short(raw: Any) -> Any:
    """Return a value that a person compares as it is, or the hash of one that is long or holds others by name."""
    text = str(raw)
    return digest(raw) if "{" in text or text.startswith(("$", "@", "%")) or len(text) > LONGEST_VALUE else raw


def _network_values(network: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a network's definition as values by id."""
    if network is None:
        return {"network_def": digest(raw_config("network_def"))}
    arguments = {f"network_def#{key}": _short(value) for key, value in network.items() if key not in SAME_FUNCTION}
    return {"network_def": network["_target_"], **arguments}


def _split_values(split: Split | None, fold: int | str, num_folds: int) -> dict[str, Any]:
    if split is None:
        return {}
    held_out = f"{len(split.val)} held out ({digest([case.name for case in split.val])})"
    return {"fold": fold, "num_folds": num_folds, "split": held_out}


def _split_record(split: Split | None, fold: int | str, num_folds: int) -> dict[str, Any] | None:
    if split is None:
        return None
    names = {key: [case.name for case in cases] for key, cases in (("train", split.train), ("val", split.val))}
    return {"fold": fold, "num_folds": num_folds, **names}
