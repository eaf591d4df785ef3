"""A scan and its label map as a page holds them: 8 bit (16 where labels need it), RAS, compressed, opened at once.

``tests/bundle/results/test_browser_volume.py`` holds it.
"""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from scipy import ndimage

from bundle.labels import MAX_CODE, Label
from bundle.results.scene import Scene

MOST_BYTES = 10_500_000
"""Of the compressed voxels: base64 makes 14.0 MB of them, and a page shall stay under 15 MB."""
MOST_VOXELS = 64_000_000
"""400 in each direction: a browser holds them twice."""
GZIP_LEVEL = 6
TRIED, ROOM = 8, 0.95
"""Every how many planes are compressed to see whether all would fit (gzip looks back 32 KB, which is about a plane),
and what is taken off for their not being like the others."""
THUMBNAIL_HEIGHT, THUMBNAIL_COLOURS = 56, 48
"""Pixels and colours: 1 to 3 KB, so that a table of a thousand scans stays under 5 MB."""
THUMBNAIL_ALPHA = 0.45

Bytes3D = NDArray[np.uint8]
Numbers3D = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class BrowserVolume:
    """What a page shows.

    Attributes:
        grey: the scan, 0 to 255, shape (X, Y, Z), axes towards R, A, S; ``None`` where it was not found.
        channels: number of the structure, 0 for none, shape (X, Y, Z).
        affine: voxel to world, mm, shape (4, 4).
        reduced: how many voxels of the scan are one here, along each axis.
        packed: both as gzip data.
    """

    grey: Bytes3D | None
    channels: Numbers3D
    affine: NDArray[np.float64]
    reduced: tuple[int, int, int]
    packed: tuple[bytes | None, bytes]

    @property
    def spacing(self) -> list[float]:
        """Edges of a voxel, mm."""
        return [round(float(length), 6) for length in voxel_sizes(self.affine)]

    def places(self, count: int) -> list[list[int] | None]:
        """Return a voxel of each structure, of all of its voxels the nearest to its centre; ``None`` without any."""
        found: list[list[int] | None] = []
        boxes: list[Any] = ndimage.find_objects(self.channels, max_label=count)
        for channel, box in enumerate(boxes, 1):
            if box is None:
                found.append(None)
                continue
            inside = np.argwhere(self.channels[box] == channel)  # (K, 3)
            nearest = inside[((inside - inside.mean(axis=0)) ** 2).sum(axis=1).argmin()]
            found.append([int(part.start + index) for part, index in zip(box, nearest, strict=True)])
        return found

    def content(self, start: list[int]) -> dict[str, Any]:
        """Return what the viewer reads, see ``pages/viewer.js``: voxels as base64, the first axis fastest.

        Args:
            start: the voxel that is shown first.
        """
        grey, labels = self.packed
        return {
            "shape": list(self.channels.shape),
            "spacing": self.spacing,
            "affine": np.round(self.affine, 6).tolist(),
            "start": start,
            "grey": None if grey is None else base64.b64encode(grey).decode("ascii"),
            "labels": base64.b64encode(labels).decode("ascii"),
            "label_bytes": self.channels.itemsize,
        }


def browser_volume(scene: Scene, labels: list[Label], has_scan: bool) -> BrowserVolume:
    """Return a scan and its label map for a page; where they would be too large, on coarser voxels.

    The finest axis is halved until both fit: the scan by the mean of the voxels, the labels by one of them, so that
    labels are at most half a voxel of the scan beside their place.

    Args:
        scene: the scan and its label map.
        labels: the structures, background left out.
        has_scan: whether the scene's image is one.
    """
    lookup: Any = np.zeros(MAX_CODE + 1, dtype=np.uint8 if len(labels) < 256 else "<u2")
    for channel, label in enumerate(labels, 1):
        lookup[label.code] = channel
    steps = [1, 1, 1]
    while True:
        shape = [length // step for length, step in zip(scene.label_map.shape, steps, strict=True)]
        if np.prod(shape) <= MOST_VOXELS:
            channels = lookup[_sampled(scene.label_map, steps)]
            grey = _grey(scene, steps) if has_scan else None
            parts = [channels] if grey is None else [channels, grey]
            if sum(map(_expected_bytes, parts)) <= MOST_BYTES:
                packed = (None if grey is None else _pack(grey), _pack(channels))
                if sum(len(part) for part in packed if part is not None) <= MOST_BYTES:
                    break
        edges = voxel_sizes(scene.affine) * steps
        steps[int(np.argmin(edges))] *= 2
    affine = scene.affine @ np.diag([*steps, 1.0])
    affine[:3, 3] += scene.affine[:3, :3] @ ((np.array(steps) - 1) / 2)
    return BrowserVolume(grey, channels, affine, (steps[0], steps[1], steps[2]), packed)


def thumbnail(volume: BrowserVolume, labels: list[Label], centre: list[int]) -> str:
    """Return a coronal slice with its structures as a small PNG, as a ``data:`` address."""
    from PIL import Image

    grey = np.zeros(volume.channels.shape, np.uint8) if volume.grey is None else volume.grey
    plane = grey[:, centre[1], ::-1].T.astype(np.float64)  # (up, right)
    codes = volume.channels[:, centre[1], ::-1].T
    colours = np.array([(0, 0, 0), *(label.colour for label in labels)], dtype=np.float64)
    alpha = np.where(codes > 0, THUMBNAIL_ALPHA, 0.0)[:, :, None]
    pixels = np.round(plane[:, :, None] * (1 - alpha) + colours[codes] * alpha).astype(np.uint8)
    width = max(
        1, round(THUMBNAIL_HEIGHT * pixels.shape[1] * volume.spacing[0] / (pixels.shape[0] * volume.spacing[2]))
    )
    small = Image.fromarray(pixels).resize((min(width, 4 * THUMBNAIL_HEIGHT), THUMBNAIL_HEIGHT), Image.Resampling.BOX)
    file = BytesIO()
    small.quantize(THUMBNAIL_COLOURS).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _sampled(volume: NDArray[Any], steps: list[int]) -> NDArray[Any]:
    """Return the middle voxel of each block, whole blocks only."""
    grid = tuple(
        slice(step // 2, length // step * step, step) for length, step in zip(volume.shape, steps, strict=True)
    )
    return volume[grid]


def _grey(scene: Scene, steps: list[int]) -> Bytes3D:
    """Return the scan between the window's ends as 0 to 255, plane by plane: floats of a whole scan are not held."""
    low, high = scene.window
    blocks = [length // step for length, step in zip(scene.image.shape, steps, strict=True)]
    shown = np.empty(blocks, dtype=np.uint8)
    for index in range(blocks[0]):
        slab = scene.image[index * steps[0] : (index + 1) * steps[0]]
        slab = slab[:, : blocks[1] * steps[1], : blocks[2] * steps[2]].astype(np.float32)
        slab = np.nan_to_num(slab, posinf=high, neginf=low)
        means = slab.reshape(steps[0], blocks[1], steps[1], blocks[2], steps[2]).mean(axis=(0, 2, 4))
        shown[index] = np.round(255 * np.clip((means - low) / (high - low), 0, 1))
    return shown


def _expected_bytes(voxels: Numbers3D) -> float:
    """Return about how many bytes voxels will take, a little less, from some planes of them: compressing takes time."""
    planes = voxels[:, :, ::TRIED]
    return ROOM * len(_pack(planes)) * voxels.shape[2] / planes.shape[2]


def _pack(voxels: Numbers3D) -> bytes:
    """Return voxels as gzip data, the same bytes for the same voxels."""
    return gzip.compress(voxels.tobytes(order="F"), GZIP_LEVEL, mtime=0)
