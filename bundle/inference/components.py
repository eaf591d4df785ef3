"""Pieces of a structure that is of one piece: the likely ones are kept, stray ones go to the next likely class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from bundle.errors import OptionError
from bundle.inference.logits import Logits, Voxels
from bundle.inference.pieces import Pieces
from bundle.inference.streamed import Notes, notes_of
from bundle.labels import DEFAULT_TABLE, Label, read_labels, renamed_keywords
from bundle.results.record import apart_key, dropped_key

SMALL = 0.1
"""Share of the main piece below which another one is a stray; in 45 sound scans, disturbed or not, it is below 0.04."""

UNSURE = 0.6
"""Share of the main piece's sureness below which a large piece is something else.

In 56 random cavities those taken for a ventricle had 0.57 at most; the end of a putamen that one cut off had 0.73.
"""

RIVAL = 0.01
"""Share of the largest piece from which a piece may be the main one: a cavity can be a good deal larger than it."""

ROUNDS = 4
"""A piece that a class gains from another can be a stray one again; only noise needs more than two rounds."""

Box = tuple[slice, ...]


class Votes(Protocol):
    """What the classes of each voxel of a grid have to say, the likeliest of which is its winner."""

    def winners(self) -> NDArray[Any]:
        """Return the winner of each voxel, shape (X, Y, Z)."""

    def margins(self, channel: int, voxels: Voxels) -> NDArray[np.float64]:
        """Return by how much the logit of a class exceeds the next one at its voxels, shape (K,)."""

    def forbid(self, channel: int, voxels: Voxels) -> NDArray[Any]:
        """Take a class from voxels and return who wins there now, shape (K,)."""


class LogitVotes:
    """The logits of all classes of a grid; changed in place.

    Args:
        logits: of its voxels.
        winners: the winner of each, shape (X, Y, Z), where it is known; unchanged.
    """

    def __init__(self, logits: Logits, winners: Tensor | None = None) -> None:
        self.logits, self._winners = logits, winners

    def winners(self) -> NDArray[Any]:
        """Return the winner of each voxel, shape (X, Y, Z)."""
        return np.array((self.logits.winners() if self._winners is None else self._winners).cpu().numpy())

    def margins(self, channel: int, voxels: Voxels) -> NDArray[np.float64]:
        """Return by how much the logit of a class exceeds the next one at its voxels, shape (K,)."""
        values = self.logits.at(voxels).float()
        own = values[channel].clone()
        values[channel] = -torch.inf
        return (own - values.amax(dim=0)).cpu().numpy().astype(np.float64)

    def forbid(self, channel: int, voxels: Voxels) -> NDArray[Any]:
        """Set a class to minus infinity at voxels and return who wins there now, shape (K,)."""
        with torch.inference_mode():
            self.logits.forbid(channel, voxels)
            return self.logits.at(voxels).argmax(dim=0).cpu().numpy()


def _judged_pieces(
    votes: Votes, channel: int, pieces: Pieces, inherited: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each piece (0 is none) whether it is a stray one, and whether it is large but not the main one.

    The main piece is the one that the network is surest of, voxel by voxel: size does not tell, a cavity full of
    fluid can be larger than the ventricle that it is taken for. Of equally sure ones it is the largest, then the first.

    Args:
        votes: asked for margins.
        channel: the class.
        pieces: of its voxels.
        inherited: whether a voxel is another class's, shape (X, Y, Z).
    """
    sizes = pieces.sizes
    sureness = np.zeros(len(sizes))
    rival = sizes >= max(1.0, RIVAL * sizes.max())
    rivals = np.flatnonzero(rival)
    if len(rivals) > 1:
        for voxels, piece in pieces.voxels(rival):
            margins = np.where(inherited[tuple(voxels)], 0.0, votes.margins(channel, voxels))  # those say nothing
            sureness += np.bincount(piece, weights=margins, minlength=len(sizes))
        sureness[rivals] /= sizes[rivals]
    main = max(rivals, key=lambda piece: (sureness[piece], sizes[piece], -piece))
    large = sizes >= SMALL * sizes[main]
    unlikely = (sureness < UNSURE * sureness[main]) & (SMALL * sizes <= sizes[main])  # what dwarfs it is never lost
    stray = (sizes > 0) & (~large | unlikely)
    large[main] = stray[main] = False
    return stray, large


def _widened(box: Box | None, voxels: Voxels) -> Box:
    """Return the smallest box that holds another one and some voxels."""
    low, high = voxels.min(axis=1), voxels.max(axis=1) + 1
    if box is not None:
        low, high = low.clip(max=[part.start for part in box]), high.clip(min=[part.stop for part in box])
    return tuple(slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))


def keep_largest_components(
    logits: Tensor,
    channels: Sequence[int],
    dropped: Counter[int] | None = None,
    apart: Counter[int] | None = None,
) -> Tensor:
    """Forbid a class wherever it wins in a stray piece; the next likely class wins there instead.

    Each class keeps the piece that the network is surest of, its main one, and pieces that are neither small against
    it nor much less sure, or that dwarf it; SynthSeg keeps the largest alone (arXiv 2107.09559). Nothing becomes a
    hole: a stray piece of hippocampus inside white matter becomes white matter. A class that gains voxels in this way
    is looked at again.

    Args:
        logits: shape (classes, X, Y, Z); changed in place.
        channels: the classes that are of one piece, without the background.
        dropped: gains the voxels that each class lost; those that it had only inherited do not count.
        apart: likewise its voxels in large pieces that are not the main one, whether it lost them or not.

    Returns:
        ``logits``, minus infinity where a class was forbidden.
    """
    take_strays(LogitVotes(Logits(logits)), channels, dropped, apart)
    return logits


def take_strays(
    votes: Votes,
    channels: Sequence[int],
    dropped: Counter[int] | None = None,
    apart: Counter[int] | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Do what :func:`keep_largest_components` does with votes of any kind.

    Returns:
        The winner of each voxel, and whether it changed, shape (X, Y, Z) both.
    """
    winner = votes.winners()
    inherited = np.zeros(winner.shape, dtype=bool)
    dropped, apart = (Counter() if counts is None else counts for counts in (dropped, apart))
    gained = set(channels)
    boxes = {channel: box for channel, box in enumerate(ndimage.find_objects(winner), 1) if box}
    for turn in range(ROUNDS):
        candidates, gained = sorted(gained), set()
        for channel in candidates:
            box = boxes.get(channel)
            pieces = None if box is None else Pieces(winner[box] == channel, [part.start for part in box])
            if pieces is None or pieces.count < 2:
                continue
            stray, large = _judged_pieces(votes, channel, pieces, inherited)
            if turn == 0:
                apart[channel] += sum(int((~inherited[tuple(voxels)]).sum()) for voxels, _ in pieces.voxels(large))
            for voxels, _ in pieces.voxels(stray):
                place = tuple(voxels)
                dropped[channel] += int((~inherited[place]).sum())
                heirs = votes.forbid(channel, voxels)
                winner[place], inherited[place] = heirs, True
                for heir in set(heirs.tolist()) & set(channels):
                    gained.add(heir)
                    boxes[heir] = _widened(boxes.get(heir), voxels[:, heirs == heir])
    return winner, inherited


def one_piece_channels(codes: Sequence[int], table: Sequence[Label], label_table: str | Path) -> list[int]:
    """Return the classes of structures that are of one piece.

    Args:
        codes: of the structures.
        table: the structures.
        label_table: path of the table, to be named.

    Raises:
        OptionError: when the table has no such code, or it is the background's.
    """
    channel_of = {label.code: label.channel for label in table if label.channel}
    unknown = sorted(set(codes) - set(channel_of))
    if unknown:
        found = f"has no structure with the code {unknown[0]}"
        raise OptionError(label_table, found, "codes of the table are wanted as largest_component", "labels")
    return sorted(channel_of[code] for code in codes)


class KeepLargestComponentsd(MapTransform):
    """Take stray pieces from each structure, see :func:`keep_largest_components`.

    Beside each key come ``<key>_dropped``, the voxels that were taken from each structure, and ``<key>_apart``, those
    in large pieces apart from its main one, taken or not, both by code.

    Args:
        keys: logits, shape (classes, X, Y, Z); a streamed result only says what was taken.
        codes: codes of the structures that are of one piece; none leaves the logits as they are.
        label_table: path of the label table.

    Raises:
        OptionError: when the table has no such code, or it is the background's.
    """

    @renamed_keywords(labels="label_table")
    def __init__(self, keys: KeysCollection, codes: Sequence[int], label_table: str | Path = DEFAULT_TABLE) -> None:
        super().__init__(keys)
        self.table = read_labels(label_table)
        self.channels = one_piece_channels(codes, self.table, label_table)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the same logits, changed in place."""
        result = dict(data)
        for key in list(self.key_iterator(result)):
            notes = notes_of(result[key])
            if notes is None:
                dropped: Counter[int] = Counter()
                apart: Counter[int] = Counter()
                if self.channels:
                    keep_largest_components(result[key].as_subclass(torch.Tensor), self.channels, dropped, apart)
                notes = Notes(+dropped, +apart)
            result[dropped_key(key)] = notes.by_code("dropped", self.table)
            result[apart_key(key)] = notes.by_code("apart", self.table)
        return result
