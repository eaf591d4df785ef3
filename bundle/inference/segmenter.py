"""The inference config, taken apart so that one network segments scan after scan."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, LoadImaged, SaveImaged
from numpy.typing import NDArray
from torch import nn

from bundle.engines import EngineNetwork
from bundle.errors import MissingError, OptionError
from bundle.inference.settings import config_content
from bundle.inference.stream import StreamInferer
from bundle.io.memory import load_volume
from bundle.io.monai_reader import volume_metadata
from bundle.labels import DEFAULT_TABLE
from bundle.results import Maker, OutputPaths, SaveOutputsd, Segmentation
from bundle.results.outputs import without_folder
from bundle.results.plan import check_outputs_of
from bundle.results.record import STAGES_KEY, Stages
from bundle.results.segmentation import keep_outputs
from bundle.running import check_known
from bundle.warned import warn, warnings_kept

INFERENCE = Path(__file__).resolve().parents[2] / "configs" / "inference.json"
OWN_IDS = ("bundle_root", "output_dir", "overwrite")
"""What a segmenter knows itself, whether or not the config does."""
PATHS_KEY = "output_paths"
"""Where a scan's dictionary holds the paths of its outputs."""
PLAIN_IDS = ("output_dir", "model", "checkpoint", "cache_dir", "label_table", "dataset_dir", "datalist")
"""Ids whose overrides are names of files and never an expression, a reference or a macro of MONAI's."""


class Segmenter:
    """Runs the transforms, the inferer and the network of an inference config on one scan at a time.

    What the config does with a label map beyond writing it (scores, say) is left out.

    Args:
        config_file: inference config, or a list of one and the overlays that go over it; overlays alone go over
            ``configs/inference.json``.
        overrides: config ids to replace, as ``python -m monai.bundle run`` takes them, but that those of ``PLAIN_IDS``
            are taken to the letter.

    Raises:
        MissingError: when a config is not there.
        OptionError: when the config has no such id.
        WeightsError: when the checkpoint cannot be used.
    """

    def __init__(
        self, config_file: str | Path | Sequence[str | Path] = "configs/inference.json", **overrides: Any
    ) -> None:
        files = [config_file] if isinstance(config_file, (str, Path)) else config_file
        names = _with_inference([str(name) for name in files])
        _check_overrides(names, overrides)
        literal = {name: _literal(value) if name in PLAIN_IDS else value for name, value in overrides.items()}
        workflow = ConfigWorkflow(names, logging_file=False, workflow_type="infer", **literal)
        self.parser = parser = workflow.parser
        self.model_record = self._optional("model_record", None)
        self.device = torch.device(parser.get_parsed_content("device"))
        self.overwrite = bool(self._optional("overwrite", False))
        self.output_dir = Path(parser.get_parsed_content("output_dir"))
        self.network: nn.Module = parser.get_parsed_content("network")
        self.preprocessing = parser.get_parsed_content("preprocessing")
        self.inferer = parser.get_parsed_content("inferer")
        transforms = parser.get_parsed_content("postprocessing").transforms
        # SaveOutputsd counts as one of MONAI's.
        self._restoring = list(takewhile(lambda transform: not isinstance(transform, SaveImaged), transforms))
        self._saving = [transform for transform in transforms if isinstance(transform, SaveOutputsd)] or [
            SaveOutputsd("pred", self.output_dir, label_table=self.label_table, overwrite=self.overwrite)
        ]
        maker = self._maker(names, overrides)
        for save in self._saving:
            save.maker = maker

    @property
    def label_table(self) -> Path:
        """Path of the label table; the brain's where the config names none."""
        return Path(self._optional("label_table", DEFAULT_TABLE))

    def _maker(self, files: Sequence[str], overrides: Mapping[str, Any]) -> Maker:
        """Return what records say of this segmenter."""
        named = ("label_table", "flags", "reference_volumes")
        tables = [path for name in named if (path := self._optional(name, None))]
        return Maker(
            weights=self._optional("checkpoint", None),
            network=self.network,
            device=self.device,
            mirror_averaging=self._optional("mirror_averaging", None),
            seed=self._optional("seed", None),
            config=config_content(files, self.parser.get(), overrides, tables, self._optional("maker::settings", {})),
            model=self.model_record,
        )

    @property
    def engine(self) -> str:
        """What computes the network, and in which numbers, as a clause."""
        if isinstance(self.network, EngineNetwork):
            return f"{self.network.engine}, {self.network.precision}"
        return "torchscript" if isinstance(self.network, torch.jit.ScriptModule) else "torch"

    @property
    def maker(self) -> Maker:
        """What records say of this segmenter."""
        return self._saving[0].maker

    def logits(self, data: Mapping[str, Any]) -> torch.Tensor:
        """Return the logits of a preprocessed scan, shape (classes, X, Y, Z), as a whole."""
        with torch.inference_mode():
            infer = getattr(self.inferer, "logits", self.inferer)
            logits: torch.Tensor = infer(data["image"][None].to(self.device), self.network)[0]
            return logits

    def show_plans(self, show: Callable[[str], None]) -> None:
        """Have the plan of each scan shown in one line, and the progress of a long one."""
        if isinstance(self.inferer, StreamInferer):
            self.inferer.show = show

    def infer(self, data: Mapping[str, Any], remember: bool = True) -> torch.Tensor:
        """Return what the inferer makes of a preprocessed scan: a streamed result, or logits (classes, X, Y, Z).

        Args:
            data: what the preprocessing made of the scan.
            remember: whether the cache may keep what windows take.
        """
        if isinstance(self.inferer, StreamInferer):
            self.inferer.remember = remember
        with torch.inference_mode():
            result: torch.Tensor = self.inferer(data["image"][None].to(self.device), self.network)[0]
            return result

    def labels(self, data: Mapping[str, Any], logits: torch.Tensor) -> NDArray[Any]:
        """Return the label map of a preprocessed scan from its logits, which stay as they are; nothing is written.

        Returns:
            Codes, shape (X, Y, Z) of the scan's file.
        """
        return _codes(self._restore(data, logits.clone()))

    def segment(self, path: str | Path) -> OutputPaths:
        """Segment one scan, write its outputs and return their paths.

        Raises:
            InputError: when the scan cannot be used (inside MONAI's ``RuntimeError``, see ``root_cause``).
            ExistsError: when an output exists and ``overwrite`` is false, or may never be replaced.
            WriteError: when the outputs could not be written.
        """
        return self.write(self.compute(self.read(path)))

    def read(self, path: str | Path, output_dir: str | Path | None = None) -> dict[str, Any]:
        """Read and prepare one scan: the first of the three stages of :meth:`segment`, which may run in three threads.

        Args:
            path: of the scan.
            output_dir: where its results go; this segmenter's folder where it is not given.

        Returns:
            What the preprocessing makes of it; ``image`` is what the network will see.

        Raises:
            InputError, ExistsError, WriteError: as :meth:`segment`.
        """
        paths = check_outputs_of(path, self.output_dir if output_dir is None else output_dir, self.overwrite)
        stages = Stages()
        # MONAI's loader takes a leading ~ for a user's home.
        data = self.preprocessing({"image": os.path.abspath(path) if str(path).startswith("~") else str(path)})
        stages.end("read")
        return {**data, STAGES_KEY: stages, PATHS_KEY: paths}

    def compute(self, data: Mapping[str, Any]) -> dict[Any, Any]:
        """Return what :meth:`read` gave with the label map of the scan as ``pred``, shape (X, Y, Z) of its file."""
        stages: Stages = data[STAGES_KEY]
        stages.begin()
        inferred = self.infer(data)
        stages.end("network")
        result = self._restore(data, inferred)
        del inferred  # hundreds of megabytes, where they are logits
        result["pred"] = _codes(result)
        stages.end("restore")
        return result

    def write(self, result: Mapping[Any, Any]) -> OutputPaths:
        """Write the outputs of what :meth:`compute` gave and return their paths.

        Raises:
            ExistsError, WriteError: as :meth:`segment`.
        """
        result[STAGES_KEY].begin()
        paths: OutputPaths = result[PATHS_KEY]
        for save in self._saving:
            save.output_dir = paths.record.parent.parent
            save(result)
        return paths

    def segment_array(
        self,
        image: Any,
        affine: Any = None,
        *,
        assume_affine: bool = False,
        fill_nonfinite: bool = False,
        frame: int | None = None,
        trust: str = "",
    ) -> Segmentation:
        """Segment one scan and return what :meth:`segment` would write, but for the picture; nothing is written.

        Args:
            image: array (X, Y, Z), nibabel's image of a NIfTI or MGH file, or path of such a file.
            affine: voxel to world of an array, mm, RAS+, shape (4, 4).
            assume_affine: see :func:`bundle.io.read.read_volume`, as for the next three; the config's are for files
                that :meth:`segment` reads.
            fill_nonfinite: as there.
            frame: as there.
            trust: as there.

        Raises:
            InputError: when the scan cannot be used.
            OptionError: when an argument is none that could be, or the config loads no image first.
        """
        stages = Stages()
        with warnings_kept() as given:
            volume = load_volume(image, affine, assume_affine, fill_nonfinite, frame, trust)
        for warning in given:
            warn(warning, stacklevel=2)
        load, *rest = self.preprocessing.transforms
        if not isinstance(load, LoadImaged):
            raise OptionError("preprocessing", f"found {type(load).__name__} first", "MONAI's LoadImaged is wanted")
        meta = {**volume_metadata(volume, fill_nonfinite, frame, trust), "filename_or_obj": str(volume.path)}
        loaded = MetaTensor.ensure_torch_and_prune_meta(volume.data, meta)
        data = Compose(rest)({load.keys[0]: loaded})
        stages.end("read")
        inferred = self.infer(data, remember=False)
        stages.end("network")
        result = self._restore(data, inferred)
        del inferred
        result = {**result, "pred": _codes(result), STAGES_KEY: stages}
        warned = [without_folder(message, volume) for message in given]
        return keep_outputs(self._saving[0], result, "pred", volume, warned)

    def _restore(self, data: Mapping[str, Any], logits: torch.Tensor) -> dict[Any, Any]:
        """Return what the transforms before the writing make of a scan's data and its logits."""
        result: dict[Any, Any] = {**data, "pred": logits}
        for transform in self._restoring:
            result = transform(result)
        return result

    def _optional(self, name: str, default: Any) -> Any:
        return self.parser.get_parsed_content(name) if name in self.parser else default


def _codes(result: Mapping[Any, Any]) -> NDArray[Any]:
    codes = np.asarray(result["pred"].cpu() if isinstance(result["pred"], torch.Tensor) else result["pred"])
    return codes[0] if codes.ndim == 4 else codes  # MONAI's transforms keep the channel


def _literal(value: Any) -> Any:
    """Return names of files as paths, which MONAI does not look into, where it would evaluate or change a string."""
    if isinstance(value, (list, tuple)):
        return [_literal(part) for part in value]
    if isinstance(value, Mapping):
        return {key: _literal(part) for key, part in value.items()}
    return Path(value) if isinstance(value, str) and re.search(r"[$@%#]|::", value) else value


def _with_inference(files: list[str]) -> list[str]:
    """Put ``configs/inference.json`` below overlays that write no results themselves."""
    if not all(Path(file).is_file() for file in files):
        return files  # refused by name
    return files if "postprocessing" in ConfigParser.load_config_files(files) else [str(INFERENCE), *files]


def _check_overrides(files: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Refuse an id that the config does not have: MONAI would add it, and nothing would follow from it."""
    for file in files:
        if not Path(file).is_file():
            raise MissingError(file, "no such file", "a config is wanted")
    stored = ConfigParser.load_config_files(list(files))
    check_known([name for name in overrides if name not in OWN_IDS], stored, stored)
