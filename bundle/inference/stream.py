"""From an image to a label map on the scan's own grid, plane by plane: nothing of all classes is held as a whole.

Windows go along one axis (``bundle.inference.slabs``). What no further window touches is interpolated to the scan's
grid (``bundle.inference.restore``) and let go. The labels equal those of the logits as a whole
(``tests/bundle/inference/test_stream.py``). Stray pieces (``bundle.inference.components``) are taken from the logits
where one slab has all planes, such as those of a head, and from the three likeliest classes of each voxel
(``bundle.inference.finalists``) where it has not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bundle.inference.aligned import Affine
from bundle.inference.components import keep_largest_components, one_piece_channels, take_strays
from bundle.inference.confidence import Margins
from bundle.inference.finalists import Finalists
from bundle.inference.restore import empty_channels, restore_planes
from bundle.inference.slabs import Windows, logit_slabs
from bundle.inference.streamed import Notes, with_notes
from bundle.inference.windows import WindowInferer, memory_for
from bundle.labels import DEFAULT_TABLE, read_labels


def stream_labels(
    image: Tensor,
    network: Callable[..., Any],
    windows: Windows,
    to_grid: Affine,
    scan_shape: Sequence[int],
    one_piece: Sequence[int] = (),
    tell: Callable[[int], None] = lambda done: None,
) -> tuple[Tensor, Notes]:
    """Return the channel of each voxel of the scan, as ``restore_labels`` does, and what was found on the way.

    Args:
        image: shape (1, C, X, Y, Z), every axis at least 2.
        network: maps windows (B, C, ...) to logits (B, classes, ...).
        windows: where they lie.
        to_grid: voxel of the scan to voxel of the image, 4 x 4.
        scan_shape: shape of the scan.
        one_piece: classes whose stray pieces go to the next likely class.
        tell: called with the number of windows done.
    """
    reduction: _Reduction | None = None
    with torch.inference_mode():
        for first, logits in logit_slabs(image, network, windows, tell):
            reduction = reduction or _Reduction(logits, windows, to_grid, scan_shape, one_piece)
            reduction.take(first, logits)
            del logits
        assert reduction is not None
        return reduction.channels, reduction.finish()


class _Reduction:
    """What slabs of logits become, one after another; the axes of the grid are in the order of ``windows.order``."""

    def __init__(
        self, logits: Tensor, windows: Windows, to_grid: Affine, scan_shape: Sequence[int], one_piece: Sequence[int]
    ) -> None:
        self.grid = tuple(windows.size[axis] for axis in windows.order)
        self.to_grid = to_grid[[*windows.order, 3]]
        self.one_piece = one_piece
        self.channels = empty_channels(scan_shape, logits)
        self.margins = Margins(len(logits))
        self.finalists: Finalists | None = None
        if one_piece and logits.shape[1] < self.grid[0]:
            self.finalists = Finalists(len(logits), self.grid)
        self.dropped, self.apart = Counter[int](), Counter[int]()

    def take(self, first: int, logits: Tensor) -> None:
        """Take the logits of planes, the last ones of which come again, see ``logit_slabs``; they may be changed."""
        fresh = logits[:, 1:] if first else logits
        if self.finalists is not None:
            self.finalists.add(fresh, first + 1 if first else 0)
        elif self.one_piece:
            keep_largest_components(logits, self.one_piece, self.dropped, self.apart)
        restore_planes(logits, self.to_grid, self.channels, self.grid[0], first)
        self.margins.add(fresh)

    def finish(self) -> Notes:
        """Take stray pieces, where that could not be done before, and return what was found."""
        if self.finalists is not None:
            changed = take_strays(self.finalists, self.one_piece, self.dropped, self.apart)
            self.finalists.restore(changed, self.to_grid, self.channels)
            self.finalists.correct(self.margins, changed)
        return Notes(dict(+self.dropped), dict(+self.apart), self.margins.means())


class StreamInferer(WindowInferer):
    """From images to the channels of a label map on the grids of their files, see :func:`stream_labels`.

    The transforms that make a label map of logits pass on what it returns. A tensor that knows no file of its own, and
    ``streaming=False``, give logits, as ``WindowInferer`` does.

    Args:
        roi_size: largest window in voxels.
        one_piece: codes of the structures that are of one piece.
        label_table: path of the label table.
        streaming: whether to stream.
        kwargs: as ``WindowInferer``.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        one_piece: Sequence[int] = (),
        label_table: str | Path = DEFAULT_TABLE,
        streaming: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(roi_size, **kwargs)
        self.one_piece = one_piece_channels(one_piece, read_labels(label_table), label_table)
        self.streaming = streaming

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Map images (B, C, X, Y, Z) to channels (B, X, Y, Z) of their files' shape, which has to be the same."""
        meta = getattr(inputs, "meta", {})
        if not self.streaming or "original_affine" not in meta or "spatial_shape" not in meta:
            return self.logits(inputs, network, *args, **kwargs)
        items = [inputs[index] for index in range(len(inputs))]
        return with_notes([self._item(item, network) for item in items])

    def _item(self, item: Any, network: Callable[..., Any]) -> tuple[Tensor, Notes]:
        image = item.as_subclass(torch.Tensor)[None]
        scan_affine = np.asarray(item.meta["original_affine"], dtype=np.float64)
        to_grid = np.linalg.inv(np.asarray(item.affine, dtype=np.float64)) @ scan_affine
        shape = [int(length) for length in item.meta["spatial_shape"]]
        with memory_for(network, image):
            windows = self.windows(image.shape[2:])
            return stream_labels(image, self.averaging(network), windows, to_grid, shape, self.one_piece)
