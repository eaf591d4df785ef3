"""Synthetic brain images: a label map is deformed, each tissue drawn from a Gaussian, and the scanner imitated.

The recipe is SynthSeg's (arXiv 2107.09559) with T1-like priors or random contrast, and with shapes randomised as in
SIAM (arXiv 2605.02737). All steps run on the device of the label map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bundle.label_groups import IGNORED_CHANNEL
from bundle.synthesis.acquisition import acquire
from bundle.synthesis.anatomy import Anatomy, ClassTable
from bundle.synthesis.artefacts import brighten, low_field
from bundle.synthesis.deformation import Warp, resize, sample_positions
from bundle.synthesis.draws import Draws
from bundle.synthesis.lesions import (
    LARGEST_GROWTH,
    cut_cavities,
    grow_ventricles,
    paint_tumours,
    paint_white_matter_lesions,
    plan_lesions,
)
from bundle.synthesis.options import SynthesisOptions
from bundle.synthesis.priors import TissuePriors


class Synthesiser:
    """Draws an image and its channel map from a label map.

    Args:
        class_table: meaning of the generation classes.
        priors: intensity priors of the tissues.
        options: ranges of the random steps.
    """

    def __init__(self, class_table: ClassTable, priors: TissuePriors, options: SynthesisOptions | None = None) -> None:
        self.table = class_table
        self.priors = priors
        self.options = options or SynthesisOptions()
        index = {code: number for number, code in enumerate(class_table.codes)}
        self.ribbons = [
            (index[white], index[cortex])
            for white, cortex in class_table.tissues.ribbons()
            if white in index and cortex in index
        ]

    def __call__(
        self,
        label_map: Anatomy,
        size: tuple[int, int, int],
        spacing: float,
        draws: Draws,
        warp: Warp | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw one sample.

        Args:
            label_map: the anatomy, on the device of ``draws``.
            size: voxels of the window, X, Y, Z.
            spacing: edge of a voxel in mm.
            draws: source of all random numbers.
            warp: leads the anatomy towards another's.

        Returns:
            Image, float32, shape (1, X, Y, Z), and channel map, uint8, shape (1, X, Y, Z).
        """
        options = low_field(draws, self.options)
        lesions = plan_lesions(label_map, self.table, draws, options)
        strip = draws.chance(options.strip)
        shift = options.shift if strip else options.head_shift
        placed = sample_positions(label_map, size, spacing, shift, draws, options, lesions.bulges, warp)
        anatomy, position = self._crop(label_map.classes, placed)
        centre = label_map.brain_centre.to(draws.device) + (position - placed)[:, 0, 0, 0]
        if draws.chance(self.options.cortex):
            anatomy = self._vary_cortex(anatomy, draws)
        if draws.chance(self.options.ventricles):
            anatomy = self._shrink_ventricles(anatomy, draws.integer(1, 3))
        if options.large_ventricles > 0 and draws.chance(options.large_ventricles):
            anatomy = grow_ventricles(anatomy, self.table, draws.integer(1, LARGEST_GROWTH))
        anatomy = cut_cavities(anatomy, lesions, centre, label_map.spacing, self.table)
        classes = self._nearest(anatomy, position)
        painted = self._paint(anatomy, draws)
        if options.white_matter_lesions > 0 and draws.chance(options.white_matter_lesions):
            painted = paint_white_matter_lesions(painted, anatomy, label_map.spacing, self.table, draws)
        painted = paint_tumours(painted, anatomy, lesions, centre, label_map.spacing, self.table, draws)
        image = self._sample(painted, position).clamp(min=0)
        channels = self.table.channels.to(draws.device)[classes]
        if label_map.ignored is not None:
            channels = channels.masked_fill(label_map.ignored[classes], IGNORED_CHANNEL)
        if strip:
            kept = self._brain_mask(classes, draws)
            image, channels = image * kept, channels * kept
        if draws.chance(self.options.cut):
            kept = self._field_of_view(size, draws)
            image, channels = image * kept, channels * kept
        if draws.chance(self.options.flip):
            image, channels = image.flip(0), self._mirrored(channels).flip(0)
        image = acquire(image, spacing, not strip, draws, options)
        return image[None], channels[None].to(torch.uint8)

    def _mirrored(self, channels: Tensor) -> Tensor:
        """Return the channels with the sides swapped; what does not count stays so."""
        mirrored = self.table.mirrored.to(channels.device)
        counts = channels != IGNORED_CHANNEL
        return torch.where(counts, mirrored[channels.masked_fill(~counts, 0)], channels)

    @staticmethod
    def _crop(classes: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Cut the label map to what the positions reach; beyond it is background."""
        low = position.flatten(1).amin(1).floor().long() - 1
        high = position.flatten(1).amax(1).ceil().long() + 2
        start = [min(max(int(a), 0), n - 1) for a, n in zip(low, classes.shape, strict=True)]
        stop = [max(min(int(b), n), a + 1) for b, n, a in zip(high, classes.shape, start, strict=True)]
        cut = classes[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        cut = F.pad(cut, (1, 1, 1, 1, 1, 1))  # background, which the border's positions are clamped to
        return cut, position - torch.tensor(start, device=position.device).reshape(3, 1, 1, 1) + 1

    def _vary_cortex(self, classes: Tensor, draws: Draws) -> Tensor:
        """Move the border of white matter and cortex by a voxel, inwards or outwards, in smooth patches."""
        patches = resize(draws.normal((1, 1, 5, 5, 5)), list(classes.shape))[0, 0] > 0
        thicker = draws.chance(0.5)
        result = classes.clone()
        for white, cortex in self.ribbons:
            source, target = (white, cortex) if thicker else (cortex, white)
            grown = classes == target
            near = torch.zeros_like(grown)
            for axis in range(3):
                near.narrow(axis, 1, grown.shape[axis] - 1).logical_or_(grown.narrow(axis, 0, grown.shape[axis] - 1))
                near.narrow(axis, 0, grown.shape[axis] - 1).logical_or_(grown.narrow(axis, 1, grown.shape[axis] - 1))
            result[near & patches & (classes == source)] = target
        return result

    def _shrink_ventricles(self, classes: Tensor, voxels: int) -> Tensor:
        """Give the outermost voxels of the ventricles to a neighbour, once for each voxel of depth."""
        is_ventricle = self.table.is_ventricle.to(classes.device)
        flat = classes.flatten().clone()
        steps = torch.tensor([step for stride in classes.stride() for step in (-stride, stride)], device=flat.device)
        inside = is_ventricle.index_select(0, flat.int()).nonzero()[:, 0]
        for _ in range(voxels):
            neighbours = flat[inside[:, None] + steps]  # the border of ``classes`` is background
            outside = ~is_ventricle[neighbours.long()]
            reached = outside.any(1)
            first = outside.to(torch.uint8).argmax(1, keepdim=True)
            flat[inside[reached]] = neighbours.gather(1, first)[reached, 0]
            inside = inside[~reached]
        return flat.reshape(classes.shape)

    def _paint(self, classes: Tensor, draws: Draws) -> Tensor:
        """Give each voxel of the label map an intensity from the Gaussian of its tissue, shape of ``classes``."""
        tissues, shared = len(self.priors.mean), self.options.shared_contrast
        if draws.chance(self.options.random_contrast):
            means = self.priors.draw_contrast(draws, shared, self.options.contrast_by_kind)
        else:
            means = self.priors.draw(draws, shared)
        means = brighten(means, self.priors.tissue_of_class, self.table, draws, self.options)
        spreads = draws.uniform((tissues,), self.options.texture).abs()
        tissue = self.priors.tissue_of_class.to(draws.device)
        index = classes.flatten().int()
        mean = means.clamp(min=0)[tissue].index_select(0, index)
        grain = draws.voxel_noise((index.numel(),)).mul_(spreads[tissue].index_select(0, index))
        return mean.add_(grain).reshape(classes.shape)

    @staticmethod
    def _nearest(classes: Tensor, position: Tensor) -> Tensor:
        """Look up the class nearest to each position, shape (X, Y, Z), int64."""
        flat = torch.zeros(position.shape[1:], dtype=torch.int64, device=position.device)
        for axis, length in enumerate(classes.shape):
            flat = flat * length + position[axis].round().clamp(0, length - 1).long()
        return classes.flatten()[flat].long()

    @staticmethod
    def _sample(painted: Tensor, position: Tensor) -> Tensor:
        """Interpolate linearly between painted voxels: partial volume where tissues meet, shape (X, Y, Z)."""
        scale = 2 / (torch.tensor(painted.shape, device=position.device) - 1).clamp(min=1)
        grid = (position * scale.reshape(3, 1, 1, 1) - 1).flip(0).movedim(0, -1)
        return F.grid_sample(painted[None, None], grid[None], padding_mode="border", align_corners=True)[0, 0]

    def _brain_mask(self, classes: Tensor, draws: Draws) -> Tensor:
        """A brain mask as a skull-stripping tool would draw it: closed over the sulci, sometimes with a rim of CSF."""
        grow = 1 + int(draws.positive(2.0))
        shrink = int(draws.positive(grow + 1.0))
        brain = self.table.is_brain.to(classes.device)[classes]
        closed = -self._dilate(-self._dilate(brain[None].float(), grow), shrink)[0] > 0.5
        # A rim may hold what lies behind the fluid; a tight mask never cuts tissue.
        return brain | (closed if draws.chance(0.5) else closed & self.table.is_csf.to(classes.device)[classes])

    def _field_of_view(self, size: tuple[int, int, int], draws: Draws) -> Tensor:
        """A mask that ends early on one side of the window, shape (X, Y, Z)."""
        axis = draws.integer(0, 2)
        cut = round(size[axis] * draws.positive(self.options.cut_share))
        kept = torch.ones(size, dtype=torch.bool, device=draws.device)
        kept.narrow(axis, 0 if draws.chance(0.5) else size[axis] - cut, cut).fill_(False)
        return kept

    @staticmethod
    def _dilate(mask: Tensor, radius: int) -> Tensor:
        """Dilate (1, X, Y, Z) by a cube."""
        for axis in range(3):
            kernel, padding = [1, 1, 1], [0, 0, 0]
            kernel[axis], padding[axis] = 2 * radius + 1, radius
            mask = F.max_pool3d(mask, kernel, stride=1, padding=padding)
        return mask
