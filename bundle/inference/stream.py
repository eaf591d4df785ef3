"""From an image to a label map on the scan's own grid, plane by plane: nothing of all classes is held as a whole.

Windows go along one axis (``bundle.inference.slabs``). What no further window touches is interpolated to the scan's
grid (``bundle.inference.restore``) and let go. The labels equal those of the logits as a whole
(``tests/bundle/inference/test_stream.py``). Stray pieces (``bundle.inference.components``) are taken from the logits
where one slab has all planes, such as those of a head, and from the three likeliest classes of each voxel
(``bundle.inference.finalists``) where it has not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from bundle.engines.head import Features, Head
from bundle.engines.networks import EngineNetwork
from bundle.errors import OptionError
from bundle.inference.aligned import Affine
from bundle.inference.calibration import Calibration, Calibrations, Tried, Watch, held_memory, probe
from bundle.inference.components import one_piece_channels
from bundle.inference.judged import judged
from bundle.inference.mirror import MirroredFeatures
from bundle.inference.plan import Plan, is_scarce, make_plan, parse_size
from bundle.inference.reduction import Reduction, lies_on_grid
from bundle.inference.slabs import Windows, logit_blocks
from bundle.inference.soft import add_planes, map_channels
from bundle.inference.streamed import Notes, with_notes
from bundle.inference.windows import WindowInferer, memory_for
from bundle.labels import DEFAULT_TABLE, read_labels
from bundle.machine import give_back_freed_memory
from bundle.results.probabilities import ProbabilityMaps

logger = logging.getLogger(__name__)
PROGRESS_SECONDS = 5.0
"""After so long a scan's progress is shown."""


def stream_labels(
    image: Tensor,
    network: Callable[..., Any],
    windows: Windows,
    to_grid: Affine,
    scan_shape: Sequence[int],
    one_piece: Sequence[int] = (),
    tell: Callable[[int], None] = lambda done: None,
    maps: ProbabilityMaps | None = None,
    head: Head | None = None,
) -> tuple[Tensor, Notes]:
    """Return the channel of each voxel of the scan, as ``restore_labels`` does, and what was found on the way.

    Args:
        image: shape (1, C, X, Y, Z), every axis at least 2.
        network: maps windows (B, C, ...) to logits (B, classes, ...), or to what ``head`` maps to them.
        windows: where they lie.
        to_grid: voxel of the scan to voxel of the image, 4 x 4.
        scan_shape: shape of the scan.
        one_piece: classes whose stray pieces go to the next likely class.
        tell: called with the number of windows done.
        maps: probability maps of the scan, to be filled.
        head: the last layer of the network, where it is left out.
    """
    reduction: Reduction | None = None
    slabs = maps is not None or not lies_on_grid(to_grid, windows.size, scan_shape)
    with torch.inference_mode():
        for block in logit_blocks(image, network, windows, tell, slabs, head):
            reduction = reduction or Reduction(block.logits, windows, to_grid, scan_shape, one_piece)
            if maps is not None:
                add_planes(maps, block.logits, reduction.to_grid, reduction.grid[0], block.place[0].start)
            reduction.take(block)
            del block
        assert reduction is not None
        return reduction.channels, replace(reduction.finish(), maps=maps)


class StreamInferer(WindowInferer):
    """From images to the channels of a label map on the grids of their files, see :func:`stream_labels`.

    The transforms that make a label map of logits pass on what it returns. A tensor that knows no file of its own, and
    ``streaming=False``, give logits, as ``WindowInferer`` does.

    Args:
        roi_size: largest window in voxels.
        one_piece: codes of the structures that are of one piece.
        label_table: path of the label table.
        streaming: whether to stream.
        max_memory: most memory that the process may hold, such as ``3G``; what it can get by default.
        smallest_window: windows may be so small where memory does not suffice for the usual ones; never by default.
        probabilities: codes of the structures whose probability maps are wanted, or ``"all"``.
        cache_dir: where it is kept what windows take; the user's cache by default.
        quality: codes of the structures of each group whose Dice the network predicts, by the group's name.
        kwargs: as ``WindowInferer``.

    Attributes:
        show: called with the plan of each scan in one line, before it is run; with it, progress is shown on a terminal.
        plan: that of the last scan.
        remember: whether the cache keeps what windows take.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        one_piece: Sequence[int] = (),
        label_table: str | Path = DEFAULT_TABLE,
        streaming: bool = True,
        max_memory: str | int | None = None,
        smallest_window: Sequence[int] | None = None,
        probabilities: Sequence[int] | str | None = None,
        cache_dir: str | Path | None = None,
        quality: Mapping[str, Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(roi_size, **kwargs)
        self.table = table = read_labels(label_table)
        self.quality = quality
        self.classes = len(table)
        self.one_piece = one_piece_channels(one_piece, table, label_table)
        self.mapped = map_channels(probabilities, table, label_table)
        if self.mapped and not streaming:
            raise OptionError("probabilities", "found streaming false", "maps are made where a scan is streamed")
        self.streaming = streaming
        self.max_memory = parse_size(max_memory)
        self.smallest_window = smallest_window
        self.cache_dir = cache_dir
        self.show: Callable[[str], None] | None = None
        self.plan: Plan | None = None
        self.remember = True

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Map images (B, C, X, Y, Z) to channels (B, X, Y, Z) of their files' shape, which has to be the same.

        Raises:
            InputError: when memory does not suffice.
        """
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
        head = network.head if isinstance(network, EngineNetwork) else None
        kinds = ["mirrored"] * (self.mirrored is not None) + ["features"] * (head is not None)
        calibrations = Calibrations(network, image.device, self.cache_dir, " ".join(kinds))
        single = self.windows(image.shape[2:]).single
        with memory_for(network, image):
            seen = network if head is None else Features(network)
            judging = judged(seen, self.quality, self.table, not single)
            if head is not None and self.mirrored is not None:
                head = head.averaged_with_mirror(self.mirrored)
                watch = Watch(MirroredFeatures(judging or seen))
            else:
                watch = Watch(self.averaging(judging or seen))
            name = str(item.meta.get("filename_or_obj", "image"))
            on_grid = not self.mapped and lies_on_grid(to_grid, image.shape[2:], shape)
            plan = self._plan(name, image, watch.network, shape, calibrations, on_grid, head)
            started = time.perf_counter()
            if judging is not None:
                judging.several = not plan.windows.single
                judging.clear()  # of what was tried for the plan
            with self._progress(plan) as tell:
                maps = ProbabilityMaps.empty(self.mapped, shape) if self.mapped else None
                result = stream_labels(image, watch, plan.windows, to_grid, shape, self.one_piece, tell, maps, head)
            rest = max(0.0, time.perf_counter() - started - watch.seconds) / plan.scan_voxels * 1e6
        if judging is not None:
            result = result[0], replace(result[1], quality=judging.quality())
        if self.remember and watch.bytes is not None:
            measured = (watch.bytes, watch.seconds / watch.windows, rest)
            calibrations.keep(Calibration(plan.windows.window, plan.windows.batch, *measured))
        return result

    def _plan(
        self,
        scan: str,
        image: Tensor,
        network: Callable[..., Any],
        shape: Sequence[int],
        calibrations: Calibrations,
        on_grid: bool,
        head: Head | None,
    ) -> Plan:
        """Return what a scan will take, and show it; what lies free is given back first, that it can be measured."""
        give_back_freed_memory()
        windows = self.windows(image.shape[2:])
        known = calibrations.find(windows.window, windows.batch)
        channels = self.classes if head is None else head.channels
        plan = Plan(windows, self.classes, prod(shape), bool(self.one_piece), known, held_memory(), on_grid, channels)
        if known is None and is_scarce(plan, self.max_memory) and (tried := probe(network, image, windows.window)):
            calibrations = Tried(calibrations, tried)
            plan = replace(plan, calibration=calibrations.find(windows.window, windows.batch))
        plan = make_plan(scan, plan, calibrations, self.max_memory, self.smallest_window)
        self.plan = plan
        logger.info(f"Plan: {plan.line()}.")
        if self.show is not None:
            self.show(f"plan {plan.line()}")
        return plan

    @contextmanager
    def _progress(self, plan: Plan) -> Iterator[Callable[[int], None]]:
        """Give what is told of windows that are done: on a terminal, a bar where a scan takes more than 5 s."""
        if self.show is None or plan.windows.count == 1:
            yield lambda done: None
            return
        bar = tqdm(total=plan.windows.count, unit="window", delay=PROGRESS_SECONDS, leave=False, disable=None)
        with bar:
            yield lambda done: bar.update(done - bar.n) and None
