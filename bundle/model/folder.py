"""The folder of a model: ``model.pt``, ``labels.tsv`` and ``model.json``, which says what the weights are of.

``configs/model.schema.json`` describes every field of ``model.json``. It is data: nothing in it is evaluated, no class
is built that is not a network of this bundle, and no path of a machine is inside, so that a folder means the same
wherever it lies. ``tests/bundle/model/test_folder.py`` holds it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bundle.errors import BundleWarning, InputError, MissingError, OptionError
from bundle.labels import Label, read_labels
from bundle.model.quality import check_quality
from bundle.provenance import sha256

MODEL_FILE, LABEL_TABLE, WEIGHTS = "model.json", "labels.tsv", "model.pt"
SCHEMA = Path(__file__).resolve().parents[2] / "configs" / "model.schema.json"
FOLDER_WANTED = f"the folder of a model, or a zip of it, is wanted ({MODEL_FILE}, {LABEL_TABLE}, {WEIGHTS})"
LARGEST_FILE = 64 << 20
"""Bytes of a ``model.json`` that is read at all; those that ship have less than 100 kB."""
SHOWN_CODES = 8
SAME_EDGE = 1e-4
"""mm; nearer voxel sizes are one."""


@dataclass(frozen=True)
class Model:
    """Weights, and what they are of.

    Attributes:
        folder: where its files lie.
        content: what its ``model.json`` says.
        weights: the checkpoint, or an exported form of it.
        own: whether these are weights of the folder; else others, which only the user says are of this kind.
    """

    folder: Path
    content: Mapping[str, Any]
    weights: Path
    own: bool = True

    @property
    def task(self) -> str:
        """What the model is for, in a word."""
        return str(self.content["task"])

    @property
    def pixdim(self) -> list[float]:
        """Voxel size in mm along right, anterior and superior."""
        return list(self.content["pixdim"])

    @property
    def roi_size(self) -> list[int]:
        """Largest window in voxels."""
        return list(self.content["roi_size"])

    @property
    def normalisation(self) -> dict[str, Any]:
        """How intensities are scaled to 0 and 1.

        Raises:
            InputError: when the training prepared its images in another way than ``configs/inference.json`` can.
        """
        stated = dict(self.content["normalisation"])
        if stated["kind"] == "own":
            found = "describes preprocessing of the training's own"
            raise InputError(self.folder / MODEL_FILE, found, "the config of the training is wanted too (config)")
        return stated

    @property
    def foreground_crop(self) -> dict[str, float] | None:
        """Threshold and margin (voxels) of the crop to the head; ``None`` where the whole image is looked at."""
        crop = self.content["foreground_crop"]
        return None if crop is None else dict(crop)

    @property
    def label_table(self) -> Path:
        """Path of the label table; that beside weights which are not of the folder, where there is one."""
        beside = self.weights.with_name(LABEL_TABLE)
        return self.folder / LABEL_TABLE if self.own or not beside.is_file() else beside

    @property
    def table(self) -> list[Label]:
        """The structures."""
        return read_labels(self.label_table)

    def largest_component(self, table: Sequence[Label]) -> list[int]:
        """Return the codes of the structures of which only the largest piece is kept."""
        stated = self.content["labels"]["largest_component"]
        if stated is not None and self.own:
            return list(stated)
        return [label.code for label in table if label.channel and label.one_piece]

    @property
    def ignore(self) -> list[int]:
        """Codes of references whose voxels do not count."""
        return list(self.content["labels"]["ignore"])

    @property
    def groups(self) -> dict[str, list[int]] | None:
        """Codes of the data set by structure; ``None`` where they were taken as they are."""
        groups = self.content["labels"]["groups"]
        return None if groups is None or not self.own else dict(groups)

    @property
    def unscored(self) -> list[int]:
        """Codes of structures that are not scored."""
        return list(self.content["labels"]["unscored"])

    @property
    def quality(self) -> dict[str, list[int]] | None:
        """Codes of the structures of each group whose Dice the network predicts; ``None`` where it does not."""
        stated = self.content.get("quality")
        return None if stated is None else {name: list(codes) for name, codes in stated["groups"].items()}

    @property
    def flags_left_out(self) -> list[str]:
        """Codes of flags that are not looked for in its results."""
        return list(self.content.get("flags_left_out", ())) if self.own else []

    @property
    def held_out(self) -> list[str] | None:
        """Names of the cases that the training did not see, where it kept some; ``None`` where that is not known."""
        split = self.content["split"]
        return list(split["val"]) if self.own and split and split["fold"] != "all" else None

    @property
    def trained_on(self) -> list[str]:
        """Names of the cases that the training saw, where they are known."""
        split = self.content["split"]
        return list(split["train"]) if self.own and split else []

    def compared(self, pixdim: Sequence[float], table: Sequence[Label]) -> dict[str, Any]:
        """Compare ids of a config with the folder, warn of what is legal, and return what records say of the model.

        Args:
            pixdim: voxel size in mm that the network is to work at.
            table: the label table that results are to be written with.

        Raises:
            OptionError: when the codes of the table are not those that the weights were trained for, or ``pixdim`` has
                not three entries.
        """
        if not self.own:
            return {"task": None, "sha256": None, "differences": []}
        found, wanted = [label.code for label in table], list(self.content["labels"]["codes"])
        if found != wanted:
            message = f"found the codes {_shown(found)}"
            raise OptionError("label_table", message, f"those of the model {self.task} are wanted, {_shown(wanted)}")
        if len(pixdim) != len(self.pixdim):
            raise OptionError("pixdim", f"found {list(pixdim)}", f"{len(self.pixdim)} edges in mm are wanted")
        differences = []
        if any(abs(edge - own) > SAME_EDGE for edge, own in zip(pixdim, self.pixdim, strict=True)):
            differences = [f"pixdim: {_edges(pixdim)} mm, the model {self.task} is of {_edges(self.pixdim)} mm"]
            warnings.warn(differences[0], BundleWarning, stacklevel=2)
        return {"task": self.task, "sha256": sha256(self.folder / MODEL_FILE), "differences": differences}


def read_model(folder: str | Path, weights: str | Path | None = None) -> Model:
    """Read and check the ``model.json`` and the label table of a folder; the weights are not opened.

    Args:
        folder: the folder; see :func:`bundle.model.find_model` for zips.
        weights: another checkpoint of the folder than ``model.pt``.

    Raises:
        MissingError: when there is no such folder or file.
        InputError: when ``model.json`` is not as its schema says, or has other codes than the label table.
    """
    folder = Path(folder)
    path = folder / MODEL_FILE
    if not folder.is_dir():
        raise MissingError(folder, "no such folder", FOLDER_WANTED)
    if not path.is_file():
        raise MissingError(path, "not found", FOLDER_WANTED)
    model = Model(folder, read_content(path), folder / WEIGHTS if weights is None else Path(weights))
    codes = [label.code for label in model.table]
    if codes != model.content["labels"]["codes"]:
        found = f"says the codes {_shown(model.content['labels']['codes'])}"
        raise InputError(path, found, f"those of {LABEL_TABLE} are wanted, {_shown(codes)}", "labels")
    return model


def read_content(path: Path) -> dict[str, Any]:
    """Return what a ``model.json`` says, once it is what its schema allows.

    Raises:
        InputError: naming the field that is not.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"{path.stat().st_size} bytes")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"cannot be read as JSON ({error})", "the description of a model is wanted") from error
    check_content(content, path)
    return content


def check_content(content: Any, path: str | Path) -> None:
    """Raise when the content of a ``model.json`` is other than its schema allows.

    Raises:
        InputError: naming the field.
    """
    from jsonschema import Draft202012Validator

    wrong = next(Draft202012Validator(_schema()).iter_errors(content), None)
    if wrong is not None:
        field = ".".join(map(str, wrong.absolute_path)) or "content"
        message = " ".join(wrong.message.split())[:160]
        raise InputError(path, f"found {field} other than is legal ({message})", f"see configs/{SCHEMA.name}")
    if (found := check_quality(content)) is not None:
        raise InputError(path, f"found in quality {found}", "codes of labels, a group for each output, are wanted")


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return schema


def _shown(codes: Sequence[int]) -> str:
    more = f", ... ({len(codes)} in all)" if len(codes) > SHOWN_CODES else ""
    return ", ".join(map(str, codes[:SHOWN_CODES])) + more


def _edges(pixdim: Sequence[float]) -> str:
    return " x ".join(f"{float(edge):g}" for edge in pixdim)
