"""Probability maps of structures on the scan's grid: ``NAME_probabilities.nii.gz``, 4D, and what its volumes are.

A byte holds a probability in steps of 1/255, which the header's scaling tells any reader. They are the network's own,
as they come: stray pieces are in them (``tests/bundle/inference/test_soft.py``).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from bundle.io.geometry import voxel_volume
from bundle.io.inspect import inspect_volume
from bundle.io.scratch import out_of_memory, scratch_array
from bundle.io.write import label_header
from bundle.labels import Label

STEPS = 255
UINT8_CODE = 2
COMPRESSION_LEVEL = 1
"""Most of a map is 0: higher levels take twice the time for a tenth less."""
ENDINGS = ("probabilities.nii.gz", "probabilities.json")


def soft_key(key: Hashable) -> str:
    """Return where a scan's dictionary holds the probability maps that belong to a label map."""
    return f"{key}_probabilities"


@dataclass(eq=False)
class ProbabilityMaps:
    """Probabilities of some structures.

    Attributes:
        channels: of the structures, in the order of the maps.
        values: steps of 1/255, shape (X, Y, Z, N), in the order of a NIfTI file.
        sums: sum of each map before it was rounded.
    """

    channels: Sequence[int]
    values: NDArray[np.uint8]
    sums: NDArray[np.float64]

    @classmethod
    def empty(cls, channels: Sequence[int], shape: Sequence[int]) -> ProbabilityMaps:
        """Return maps of a scan that is background all over; large ones lie in a file without a name."""
        values = scratch_array((len(channels), *reversed(shape)), np.uint8).T
        maps = cls(list(channels), values, np.zeros(len(channels)))
        for index, channel in enumerate(channels):
            if channel == 0:
                values[..., index] = STEPS
        return maps

    def __deepcopy__(self, memo: object) -> ProbabilityMaps:
        """MONAI copies what it hands on."""
        return self

    def codes(self, table: Sequence[Label]) -> list[int]:
        """Return the code of each map."""
        return [table[channel].code for channel in self.channels]

    def volumes(self, table: Sequence[Label], affine: Any) -> dict[int, float]:
        """Return the soft volume of each structure, the sum of its probabilities, mm³ by code."""
        size = voxel_volume(affine)
        return {code: float(total) * size for code, total in zip(self.codes(table), self.sums, strict=True)}


def write_probabilities(
    maps: ProbabilityMaps, source: str | Path, frame: int | None, table: Sequence[Label], paths: Sequence[Path]
) -> None:
    """Write probability maps and their sidecar, with the geometry of the scan.

    Args:
        maps: the maps.
        source: the scan.
        frame: which volume of it, where it has more than three axes.
        table: the structures.
        paths: of the maps and of the sidecar.
    """
    header = _header(inspect_volume(source, frame).header, maps.values.shape)
    with open(paths[0], "xb") as file, gzip.GzipFile("", "wb", COMPRESSION_LEVEL, file, mtime=0) as stream:
        stream.write(header.binaryblock + bytes(4))
        for number in range(maps.values.shape[3]):
            for plane in range(maps.values.shape[2]):
                stream.write(maps.values[:, :, plane, number].tobytes("F"))
            out_of_memory(maps.values)
    names = [table[channel].name for channel in maps.channels]
    content = {"Codes": maps.codes(table), "Names": names, "Scale": 1 / STEPS}
    paths[1].write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def record_of(maps: ProbabilityMaps | None, table: Sequence[Label]) -> Mapping[str, Any] | None:
    """Return what a record says of probability maps."""
    return None if maps is None else {"codes": maps.codes(table), "scale": 1 / STEPS}


def _header(scan: Nifti1Header, shape: tuple[int, ...]) -> Nifti1Header:
    header = label_header(scan)
    header["dim"][0], header["dim"][1:5] = 4, shape
    header["pixdim"][4] = 1
    header["datatype"], header["bitpix"] = UINT8_CODE, 8
    header["scl_slope"], header["scl_inter"] = 1 / STEPS, 0
    header["intent_code"] = 0
    header["descrip"] = b"probabilities"
    return header
