"""Every form of a checkpoint: made, compared with the network on real images, and put in place with its record."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from bundle.engines.networks import OnnxNetwork, OpenVinoNetwork, read_torchscript
from bundle.errors import ExportError
from bundle.export.parity import LABEL_BAR, LOGIT_BAR, Parity
from bundle.forms import onnx, program
from bundle.forms.onnx import AXES, INPUT, OPSET, OUTPUT
from bundle.forms.openvino import convert_openvino, write_openvino
from bundle.forms.portable import portable
from bundle.forms.sidecar import model_files, sidecar_path, write_sidecar
from bundle.forms.torchscript import write_torchscript
from bundle.provenance import sha256, versions

SMALLEST_SIZE = 9  # an exported program holds for more than one token along each axis
PACKAGES = ("torch", "monai", "numpy", "onnx", "onnxruntime", "onnxscript", "openvino")


@dataclass(frozen=True)
class Exported:
    """A form that was written."""

    form: str
    path: Path
    parity: list[Parity]


class Exporter:
    """Writes the forms of one network.

    Args:
        network: network in evaluation mode on the CPU.
        images: names and batches (B, C, D, H, W) that parity is checked on, scaled as the network expects them.
        source: the checkpoint.
        metadata: content of ``configs/metadata.json``.
        config: content of ``configs/deploy.json``, for the TorchScript archive.
        codes: code of each channel in label files.
        pixdim: voxel size in mm that the network was trained for.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Mapping[str, Tensor],
        source: str | Path,
        metadata: Mapping[str, Any],
        config: Mapping[str, Any],
        codes: Sequence[int],
        pixdim: Sequence[float],
    ) -> None:
        self.network = network
        self.images = images
        self.source = Path(source)
        self.metadata = metadata
        self.config = config
        self.codes = list(codes)
        self.pixdim = list(pixdim)

    @cached_property
    def portable(self) -> nn.Module:
        """The network in operations that other runtimes compute exactly."""
        return portable(self.network)

    @cached_property
    def program(self) -> ExportedProgram:
        """The portable network as a ``torch.export`` program."""
        return program.export_program(self.portable)

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        """The network's own logits of each image."""
        return {name: self._logits(self.network, image) for name, image in self.images.items()}

    def export(self, form: str, output_dir: str | Path, overwrite: bool = False) -> Exported:
        """Make a form, check its parity, and move it with its sidecar into ``output_dir``.

        Args:
            form: a key of ``FORMS``.
            output_dir: folder of the files.
            overwrite: replace files of an earlier export.

        Raises:
            ExportError: when the form cannot be made here or its parity is above a bar; nothing is written then.
            FileExistsError: when a file exists and ``overwrite`` is false.
        """
        name, make, read = FORMS[form]
        path = Path(output_dir) / name
        for file in (*model_files(path), sidecar_path(path)):
            if file.exists() and not overwrite:
                raise FileExistsError(f"{file}: exists already; --overwrite replaces it.")
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output_dir, prefix=".unfinished-") as folder:
            made = Path(folder) / name
            make(self, made)
            parity = self._parity(read(made))
            for row in parity:
                if not row.holds:
                    raise ExportError(
                        f"{form}: logits of {row.image} differ by {row.logit_difference:.1e} and"
                        f" {row.equal_labels:.4%} of the labels are equal;"
                        f" {LOGIT_BAR:.0e} and {LABEL_BAR:.2%} are wanted."
                    )
            sidecar = write_sidecar(made, self._record(form, parity))
            for file in (*model_files(made), sidecar):
                os.replace(file, path.with_name(file.name))
        return Exported(form, path, parity)

    @staticmethod
    @torch.no_grad()
    def _logits(run: Callable[[Tensor], Any], image: Tensor) -> Tensor:
        out = run(image)
        return out[0] if isinstance(out, (tuple, list)) else out

    def _parity(self, run: Callable[[Tensor], Any]) -> list[Parity]:
        return [
            Parity.of(name, self.expected[name], self._logits(run, image), image.shape)
            for name, image in self.images.items()
        ]

    def _record(self, form: str, parity: list[Parity]) -> dict[str, Any]:
        channels = next(iter(self.images.values())).shape[1]
        record: dict[str, Any] = {
            "form": form,
            "model": self.metadata["name"],
            "version": self.metadata["version"],
            "source": {"file": self.source.name, "sha256": sha256(self.source)},
            "versions": versions(PACKAGES),
            "input": {
                "name": INPUT,
                "dtype": "float32",
                "shape": [AXES[0], channels, *AXES[1:]],
                "value_range": [0, 1],
                "voxel_size_mm": self.pixdim,
                "orientation": "RAS",
                "legal_sizes": {"smallest": SMALLEST_SIZE, "multiple_of": 1, "fastest_multiple_of": 8},
            },
            "output": {"name": OUTPUT, "dtype": "float32", "shape": [AXES[0], len(self.codes), *AXES[1:]]},
            "codes": self.codes,
            "parity": [asdict(row) for row in parity],
            "bars": {"logit_difference": LOGIT_BAR, "equal_labels": LABEL_BAR},
        }
        if form == "onnx":
            record["opset"] = OPSET
        if form == "aotinductor":
            record["processor"] = torch.backends.cpu.get_cpu_capability()
        return record


def _make_torchscript(exporter: Exporter, path: Path) -> None:
    write_torchscript(exporter.network, path, exporter.metadata, exporter.config)


def _make_onnx(exporter: Exporter, path: Path) -> None:
    onnx.require_onnx()
    onnx.write_onnx(exporter.program, path)


def _make_openvino(exporter: Exporter, path: Path) -> None:
    write_openvino(convert_openvino(exporter.portable), path)


def _make_program(exporter: Exporter, path: Path) -> None:
    program.write_program(exporter.program, path)


def _make_aotinductor(exporter: Exporter, path: Path) -> None:
    if program.find_compiler() is None:
        raise ExportError("aotinductor: found no C++ compiler; apt-get install g++")
    program.write_aotinductor(exporter.program, path)


def _read_aotinductor(path: Path) -> Callable[[Tensor], Any]:
    run = torch._inductor.aoti_load_package(str(path))
    return lambda image: run(image.contiguous())  # the package takes any layout for contiguous


def _read_onnx(path: Path) -> nn.Module:
    try:
        return OnnxNetwork(path)
    except ImportError as error:
        raise ExportError(
            "onnx: found no onnxruntime to check it; pip install onnxruntime -c constraints.txt"
        ) from error


# form: file, how it is made, how it is read back to be checked
FORMS: dict[str, tuple[str, Callable[[Exporter, Path], None], Callable[[Path], Callable[[Tensor], Any]]]] = {
    "torchscript": ("model.ts", _make_torchscript, lambda path: read_torchscript(path, "cpu")),
    "openvino": ("model.xml", _make_openvino, lambda path: OpenVinoNetwork(path, bfloat16=False)),
    "program": ("model.pt2", _make_program, lambda path: torch.export.load(path).module()),
    "onnx": ("model.onnx", _make_onnx, _read_onnx),
    "aotinductor": (
        "model_aoti.pt2",
        _make_aotinductor,
        _read_aotinductor,
    ),
}


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the content of a JSON file that holds a mapping."""
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content
