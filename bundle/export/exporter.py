"""Every form of a checkpoint: made, compared with the network on real images, and put in place with its record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.engines.networks import outputs_of
from bundle.errors import ExportError
from bundle.export.parity import LABEL_BAR, LOGIT_BAR, Parity
from bundle.export.readers import READERS, Run, run_network
from bundle.forms import FORMS, Form, Source
from bundle.forms.sidecar import AXES, INPUT, OUTPUT, SCAN_OUTPUTS, model_files, sidecar_path, write_sidecar
from bundle.io.whole import whole_set
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
        facts: what the sidecar says beside, such as names and normalisation.
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
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.made_of = Source(network, metadata, config)
        self.images = images
        self.checkpoint = Path(source)
        self.codes = list(codes)
        self.pixdim = list(pixdim)
        self.facts = dict(facts or {})

    @cached_property
    def expected(self) -> dict[str, Sequence[Tensor]]:
        """The network's own logits of each image, and outputs for the scan where it has them."""
        run = run_network(self.made_of.network)
        with torch.no_grad():
            return {name: run(image) for name, image in self.images.items()}

    def export(self, form: str, output_dir: str | Path, overwrite: bool = False) -> Exported:
        """Make a form, check its parity, and let it appear with its sidecar in ``output_dir``.

        Args:
            form: a key of ``FORMS``.
            output_dir: folder of the files.
            overwrite: replace files of an earlier export.

        Raises:
            ExportError: when the form cannot be made here or its parity is above a bar; nothing is written then.
            ExistsError: when a file exists and ``overwrite`` is false.
            OSError: when a file cannot be written.
        """
        kind = FORMS[form]
        path = Path(output_dir) / kind.file
        with whole_set([*model_files(path), sidecar_path(path)], overwrite) as (made, *_):
            kind.make(self.made_of, made)
            parity = self._parity(READERS[form](made))
            for row in parity:
                if not row.holds:
                    raise ExportError(form, row.finding, f"{LOGIT_BAR:.0e} and {LABEL_BAR:.2%} are wanted")
            write_sidecar(made, self._record(kind, parity))
        return Exported(form, path, parity)

    @torch.no_grad()
    def _parity(self, run: Run) -> list[Parity]:
        return [
            Parity.of(name, self.expected[name], run(image), image.shape)  # one at a time: logits of a head are large
            for name, image in self.images.items()
        ]

    def _record(self, form: Form, parity: list[Parity]) -> dict[str, Any]:
        channels = next(iter(self.images.values())).shape[1]
        metadata = self.made_of.metadata
        return {
            "form": form.name,
            "model": metadata["name"],
            "version": metadata["version"],
            "source": {"file": self.checkpoint.name, "sha256": sha256(self.checkpoint)},
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
            **self._scan_outputs(),
            "codes": self.codes,
            **self.facts,
            "parity": [asdict(row) for row in parity],
            "bars": {"logit_difference": LOGIT_BAR, "equal_labels": LABEL_BAR},
            **form.facts(),
        }

    def _scan_outputs(self) -> dict[str, Any]:
        """Return what the record says of outputs for the whole scan; nothing where there are none."""
        count = outputs_of(self.made_of.network)
        shape = [AXES[0], count]
        return {"scan_outputs": {"name": SCAN_OUTPUTS, "dtype": "float32", "shape": shape}} if count else {}


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the content of a JSON file that holds a mapping."""
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content
