"""What blocks of logits become, one after another: labels on the scan, margins, and the likeliest classes.

Where each voxel of the scan is one of the grid, the winners are the labels. Elsewhere the blocks are slabs of whole
planes, between which probabilities are interpolated (``bundle.inference.restore``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from bundle.inference.aligned import Affine, Axis, aligned_axes, take_winners
from bundle.inference.components import LogitVotes, take_strays
from bundle.inference.confidence import Margins
from bundle.inference.finalists import Finalists
from bundle.inference.logits import Logits, voxels_by_planes
from bundle.inference.ranking import Box, Ranking
from bundle.inference.restore import empty_channels, restore_planes
from bundle.inference.slabs import Windows
from bundle.inference.streamed import Notes
from bundle.inference.sums import Block
from bundle.machine import give_back_freed_memory


def lies_on_grid(to_grid: Affine, grid: Sequence[int], scan_shape: Sequence[int]) -> bool:
    """Tell whether each voxel of a scan inside a grid is one of the grid's."""
    return _axes_on_grid(to_grid, grid, scan_shape) is not None


def _axes_on_grid(to_grid: Affine, grid: Sequence[int], scan_shape: Sequence[int]) -> list[Axis] | None:
    axes = aligned_axes(to_grid, torch.Size(grid), tuple(scan_shape))
    return axes if axes is not None and all(axis.end > axis.first and axis.on_grid() for axis in axes) else None


class Reduction:
    """What blocks of logits become; the axes of the grid are in the order of ``windows.order``.

    Args:
        logits: of the first block, whose classes and device are theirs all.
        windows: where windows lie.
        to_grid: voxel of the scan to voxel of the image, 4 x 4.
        scan_shape: shape of the scan.
        one_piece: classes whose stray pieces go to the next likely class.

    Attributes:
        channels: the class of each voxel of the scan.
        grid: shape of the grid.
        to_grid: voxel of the scan to voxel of the grid, axes in its order.
    """

    def __init__(
        self, logits: Logits, windows: Windows, to_grid: Affine, scan_shape: Sequence[int], one_piece: Sequence[int]
    ) -> None:
        self.grid = tuple(windows.size[axis] for axis in windows.order)
        self.to_grid = to_grid[[*windows.order, 3]]
        self.axes = _axes_on_grid(self.to_grid, self.grid, scan_shape)
        self.one_piece = one_piece
        self.channels = empty_channels(scan_shape, logits)
        self.margins = Margins(logits.classes)
        self.finalists = Finalists(logits.classes, self.grid) if one_piece and not windows.single else None
        self.single = windows.single
        self.dropped, self.apart = Counter[int](), Counter[int]()
        self._seam: Tensor | None = None
        self._planes = slice(0, 0)

    def take(self, block: Block) -> None:
        """Take a block, whose logits may be changed."""
        winners = self._ranked(block)
        if self.axes is not None:
            take_winners(winners, self.axes, self.channels, [part.start for part in block.place])
            return
        first = block.place[0].start
        restore_planes(block.logits, self.to_grid, self.channels, self.grid[0], first, winners=winners)

    def _ranked(self, block: Block) -> Tensor:
        """Return the winners of a block, and count and note those of its voxels that come for the first time."""
        seam, logits = block.seam, block.logits
        shape = (logits.shape[1] - seam, *logits.shape[2:])
        winners = torch.empty(shape, dtype=logits.dtype, device=logits.device)
        margins = torch.empty(shape, device=logits.device)
        start = [part.start for part in block.place]
        if self.finalists is not None and self._planes != block.place[0]:
            self._planes = block.place[0]
            self.finalists.let_go()
        for box in logits.voxel_boxes(seam):
            weights = None if block.weights is None else block.weights[box].reshape(-1)
            ranking = Ranking(logits.of(*box).flatten(1), weights)
            place = tuple(slice(low + part.start, low + part.stop) for low, part in zip(start, box, strict=True))
            target = (slice(box[0].start - seam, box[0].stop - seam), *box[1:])
            winner, margin = self._count(ranking, place)
            winners[target], margins[target] = winner.view(winners[target].shape), margin.view(winners[target].shape)
        self.margins.count(winners.flatten(), margins.flatten())
        if self.single and self.one_piece:
            return self._without_strays(logits, winners, margins)
        if seam:
            assert self._seam is not None
            winners = torch.cat([self._seam, winners])
        self._seam = winners[-1:]
        return winners

    def _without_strays(self, logits: Logits, winners: Tensor, margins: Tensor) -> Tensor:
        """Return the winners of all voxels of a grid once its stray pieces are taken, and let those count for them."""
        taken, changed = take_strays(LogitVotes(logits, winners), self.one_piece, self.dropped, self.apart)
        for voxels in voxels_by_planes(changed):
            x, y, z = torch.from_numpy(voxels).to(logits.device)
            self.margins.count(winners[x, y, z], margins[x, y, z], -1)
            ranking = Ranking(logits.at(voxels))
            heirs = ranking.first()
            self.margins.count(heirs, ranking.margins(heirs))
        return torch.from_numpy(taken).to(logits.device)

    def _count(self, ranking: Ranking, place: Box) -> tuple[Tensor, Tensor]:
        """Return the winners of some voxels and their margins, shape (K,) both, and note their finalists."""
        if self.finalists is None:
            winners = ranking.first()
            return winners, ranking.margins(winners)
        winners, _ = ranking.next()
        second, lead = ranking.next()
        self.finalists.add(place, ranking, winners, lead, second)
        margins = (1 - lead.exp()) / ranking.total()
        return winners, margins if ranking.decided is None else margins.masked_fill_(~ranking.decided, 0.0)

    def finish(self) -> Notes:
        """Take stray pieces, where that could not be done before, and return what was found."""
        if self.finalists is not None:
            self.finalists.let_go()
            give_back_freed_memory()  # the network's, which pieces would come on top of
            winners, changed = take_strays(self.finalists, self.one_piece, self.dropped, self.apart)
            if self.axes is not None:
                take_winners(torch.from_numpy(winners).to(self.channels.device), self.axes, self.channels, (0, 0, 0))
            else:
                self.finalists.restore(changed, self.to_grid, self.channels)
            self.finalists.correct(self.margins, changed)
        return Notes(dict(+self.dropped), dict(+self.apart), self.margins.means())
